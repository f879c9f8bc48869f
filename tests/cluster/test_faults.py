"""All that breaks in a cluster, under load: nothing acknowledged is lost, nothing deleted comes back.

Nobody is given a message twice as new, nothing is promised that cannot be kept, and the computations that
are under way go on and end right. As root each node and each server is a host of its own, a network
namespace, and what breaks are networks too.
"""

import asyncio
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster_parts.faults import LIBFAKETIME
from cluster_parts.network import network
from cluster_parts.servers import Servers
from cluster_parts.world import world
from postgres import Binaries

from didmpc.bench.compare.isolate import run_isolated
from didmpc.bench.soak import Log

pytestmark = pytest.mark.cluster

NAMED = (os.environ.get("KINDS") or "").split()
FAULTS = int(os.environ.get("FAULTS") or len(NAMED) or 38)
HAS_HOSTS = os.geteuid() == 0 and shutil.which("nft") is not None
MISSING = [
    *([] if HAS_HOSTS else ["partitions: they need root and nft (Debian: apt install nftables)"]),
    *([] if LIBFAKETIME else ["wrong clocks: they need faketime (Debian: apt install faketime)"]),
]


def test_promises_are_kept_and_computations_go_on(
    tmp_path: Path, workplace: Path, programs: Binaries, seed: int, log: Log
) -> None:
    async def course() -> None:
        with ExitStack() as stack:
            hosts = stack.enter_context(network(tmp_path / "hosts")) if HAS_HOSTS else None
            async with (
                Servers(programs, workplace / "servers", hosts=hosts.servers if hosts else ()) as servers,
                world(tmp_path / "nodes", servers, seed, log, network=hosts) as faults,
            ):
                for number in range(FAULTS):
                    await faults.happen(NAMED[number % len(NAMED)] if NAMED else None)

    for what in MISSING:
        print(f"not tested here: {what}")
    if HAS_HOSTS:
        run_isolated(lambda: asyncio.run(course()))
    else:
        asyncio.run(course())
