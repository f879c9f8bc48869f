"""What breaks in a cluster, under load: nothing acknowledged is lost, nothing deleted comes back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_parts.faults import LIBFAKETIME
from cluster_parts.servers import Servers
from cluster_parts.world import world

from didmpc.bench.soak import Log

pytestmark = pytest.mark.cluster

SEED = int(os.environ.get("SEED", "1"))
FAULTS = int(os.environ.get("FAULTS", "20"))
KINDS = [
    "kill-node",
    "kill-all-nodes",
    "kill-primary",
    "restart-primary",
    "lose-standby",
    "lose-both-standbys",
    "lose-all-servers",
    "kill-all-nodes-and-the-primary",
    "suspend-node",
    "suspend-primary",
    "roll",
    "reset",
    "skew",
]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """A raw log, appended to the file that CLUSTER_LOG names."""
    with Path(os.environ.get("CLUSTER_LOG") or tmp_path / "cluster.jsonl").open("a") as file:
        yield Log(file)


@pytest.mark.parametrize("kind", KINDS)
async def test_promises_are_kept_through(kind: str, tmp_path: Path, servers: Servers, log: Log) -> None:
    if kind == "skew" and LIBFAKETIME is None:
        pytest.skip("faketime is not installed (Debian: apt install faketime)")
    async with world(tmp_path / "nodes", servers, SEED, log) as faults:
        await faults.happen(kind)
        await faults.happen(kind)


async def test_promises_are_kept_through_whatever_the_seed_brings(
    tmp_path: Path, servers: Servers, log: Log
) -> None:
    async with world(tmp_path / "nodes", servers, SEED, log) as faults:
        for _ in range(FAULTS):
            await faults.happen()
