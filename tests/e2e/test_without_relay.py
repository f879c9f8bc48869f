"""An operator need not relay sessions: where a mediator does not, packets go through mailboxes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from didmpc.bench.cluster import Cluster


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Cluster]:
    """Alice and Carol on a mediator that relays nothing, Bob on one that does."""
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_mediator("mail-only", "--relay", "off")
        cluster.start_mediator("relaying")
        for mediator in cluster.mediators:
            mediator.ready()
        cluster.start_agents()
        cluster.introduce()
        yield cluster


def test_a_pair_is_relayed_where_it_can_be_and_the_result_is_the_same(mixed: Cluster, demos: Path) -> None:
    inputs = {
        name: demos / "inputs" / "salary" / file.name
        for name, file in zip(
            ("Alice", "Bob", "Carol"), sorted((demos / "inputs" / "salary").iterdir()), strict=False
        )
    }
    results = mixed.compute(demos / "salary.py", inputs=inputs)
    assert {result["output"] for result in results} == {"Average salary of 3 people: 3,408.33\n"}
    wires = [{peer: link["wire"] for peer, link in result["stats"]["per_peer"].items()} for result in results]
    # It is the mediator of the higher pid that relays: of each pair with Carol, the one that does not.
    assert [sorted(each.values()) for each in wires] == [
        ["binary", "json"],
        ["binary", "json"],
        ["json", "json"],
    ]
