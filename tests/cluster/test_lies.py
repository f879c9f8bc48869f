"""The judge sees what nodes do that are not as they should be: each of these has a fault built in."""

import asyncio
import sys
from pathlib import Path

import pytest
from cluster_parts import liar
from cluster_parts.load import load
from cluster_parts.nodes import Nodes
from postgres import Database

from didmpc.bench.soak import Log

pytestmark = pytest.mark.cluster

FOUND_OUT_AS = {
    liar.forgets_mail: "lost: ",
    liar.keeps_what_was_deleted: "came back after it was deleted: ",
    liar.pushes_twice: "pushed twice to ",
    liar.knows_no_other_node: " both hold ",
}


@pytest.mark.parametrize(("lie", "complaint"), [(lie.__name__, said) for lie, said in FOUND_OUT_AS.items()])
async def test_nodes_that_lie_are_found_out(
    lie: str, complaint: str, tmp_path: Path, workplace: Path, database: Database, seed: int, log: Log
) -> None:
    nodes = Nodes(
        tmp_path,
        store=database.url,
        passwords=database.passwords_in(workplace),
        under=(sys.executable, liar.__file__, lie),
    )
    try:
        await asyncio.to_thread(nodes.start_mediators)
        async with load(nodes.did, seed) as at_work:
            try:
                await at_work.work(taken=300, acknowledged=150)
                await at_work.finish()
            except AssertionError:
                pass  # it is seen while they are at work
            found = at_work.journal.complaints()
        assert any(complaint in each for each in found), found
        log.write("found out", lie=lie.replace("_", " "))
    finally:
        await asyncio.to_thread(nodes.stop)
