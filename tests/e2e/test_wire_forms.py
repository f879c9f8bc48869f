"""Packets as ordinary envelopes, fresh keys in mid-run, and contacts who recognise each other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from didmpc.bench.cluster import Cluster


@pytest.fixture(scope="module")
def renewing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose sessions give way to new ones each second."""
    variables = {"DIDMPC_RENEW_SECONDS": "1"}
    with Cluster(tmp_path_factory.mktemp("renewing"), variables=variables) as started:
        yield started.start()


@pytest.mark.parametrize("wire", ["binary", "json"])
def test_sessions_give_way_to_new_ones_in_mid_run(renewing: Cluster, steps: Path, wire: str) -> None:
    results = renewing.compute(steps, "--wire", wire, arguments=["14", "0.5"])
    assert {result["output"].splitlines()[-1] for result in results} == {"together 14"}
    links = [link for result in results for link in result["stats"]["per_peer"].values()]
    assert {link["wire"] for link in links} == {wire}
    assert min(link["sessions"] for link in links) >= 2


def test_bob_and_carol_recognise_each_other_though_alice_introduced_them(
    renewing: Cluster, demos: Path
) -> None:
    alice, bob, carol = renewing.parties
    url = bob.didmpc("invite", "--json").json()["url"]
    carol.start("accept", url, "--as", "Bobby").done()
    arguments = ["run", demos / "rounds.py", "--with", "Bob,Carol", "--yes", "--", "20"]
    joined = [guest.start("join", "--from", "Alice", "--yes") for guest in (bob, carol)]
    run = alice.start(*arguments)
    said = [each.done().stderr for each in (run, *joined)]
    assert "Carol: known contact, proven inside this session" in said[1]
    assert "Bob: your contact Bobby, proven inside this session" in said[2]
    assert "Bob: known contact, proven inside this session" in said[0]
