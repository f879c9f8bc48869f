"""Networks that break between nodes and servers, under load: nobody promises what it cannot keep.

Each node and each server is a host of its own, a network namespace, which only root may make.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cluster_parts.network import NetworkFaults, network
from cluster_parts.servers import Servers
from cluster_parts.world import world
from postgres import binaries

from didmpc.bench.compare.isolate import run_isolated
from didmpc.bench.soak import Log

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed: apt install nftables"),
]

SEED = int(os.environ.get("SEED", "1"))
FAULTS = int(os.environ.get("FAULTS", "20"))
KINDS = [
    "cut-node-from-node",
    "cut-node-from-all-nodes",
    "cut-node-from-servers",
    "cut-primary-from-standbys",
    "cut-primary-off",
]


def on_hosts_of_their_own(folder: Path, course: Callable[[NetworkFaults], Awaitable[None]]) -> None:
    """A cluster whose networks can be cut; all of it ends with the function."""
    found = binaries(Path(tempfile.mkdtemp(dir=folder)))
    if found is None:
        pytest.skip("there is no PostgreSQL here: run  make test  once, which installs one into .venv")
    raw = Path(os.environ.get("CLUSTER_LOG") or folder / "cluster.jsonl").absolute()

    async def run() -> None:
        with network(folder / "hosts") as made, raw.open("a") as file:
            async with (
                Servers(found, hosts=made.servers) as servers,
                world(folder / "nodes", servers, SEED, Log(file), network=made) as faults,
            ):
                assert isinstance(faults, NetworkFaults)
                await course(faults)

    run_isolated(lambda: asyncio.run(run()))


@pytest.mark.parametrize("kind", KINDS)
def test_promises_are_kept_through(kind: str, tmp_path: Path) -> None:
    async def course(faults: NetworkFaults) -> None:
        assert sorted(faults.partitions) == sorted(KINDS)
        await faults.happen(kind)

    on_hosts_of_their_own(tmp_path, course)


def test_promises_are_kept_through_whatever_the_seed_brings(tmp_path: Path) -> None:
    async def course(faults: NetworkFaults) -> None:
        for _ in range(FAULTS):
            await faults.happen()

    on_hosts_of_their_own(tmp_path, course)
