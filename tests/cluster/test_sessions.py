"""A joint computation goes on while the cluster between its parties breaks, and its result is right.

Three agents that know one mediator and nothing of its nodes; the load balancer puts their sockets on
different ones. The program takes about a minute, and what it prints depends on every bit that was exchanged.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cluster_parts.nodes import Nodes
from cluster_parts.servers import Servers

from didmpc.bench.cluster import Running
from didmpc.bench.endurance import ENDURANCE, expected
from didmpc.bench.soak import Log

pytestmark = pytest.mark.cluster

SEED = int(os.environ.get("SEED", "1"))
STEPS, PAUSE, SIZE = 150, 0.3, 2000
ENDS_WITHIN = 300.0
CROSSING = """
SELECT count(*) FROM bound AS near JOIN bound AS far USING (channel)
WHERE near.side = 0 AND far.side = 1 AND near.node <> far.node
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Path(os.environ.get("CLUSTER_LOG") or tmp_path / "cluster.jsonl").open("a") as file:
        yield Log(file)


@asynccontextmanager
async def computation(folder: Path, servers: Servers, log: Log) -> AsyncIterator[Nodes]:
    """Breaks what it likes in its block, while three parties compute; then they have the right result."""
    nodes = Nodes(folder, store=servers.dsn, password=servers.password)
    try:
        await asyncio.to_thread(nodes.start)
        arguments = [str(STEPS), str(PAUSE), str(SIZE)]
        running = await asyncio.to_thread(
            nodes.begin, ENDURANCE, "--resume-limit", "120", arguments=arguments, as_json=False
        )
        async with asyncio.timeout(ENDS_WITHIN):
            while not all("step 5 " in each.stdout for each in running):
                assert_running(running)
                await asyncio.sleep(0.1)
        log.write("session", parties=len(running), crossing=await spread(nodes, servers))
        yield nodes
        assert_running(running)
        wanted = expected(STEPS, SIZE, len(running))
        for each in running:
            finished = await asyncio.to_thread(each.done, ENDS_WITHIN)
            assert finished.stdout == wanted
        log.write("result", right=len(running))
        assert nodes.tracebacks() == [], nodes.said()[-3000:]
    finally:
        await asyncio.to_thread(nodes.stop)


async def spread(nodes: Nodes, servers: Servers) -> int:
    """See to it that the two ends of some channel are on different nodes; of how many they are."""
    async with asyncio.timeout(ENDS_WITHIN):
        while not (crossing := await servers.ask(servers.primary, CROSSING)):
            await asyncio.to_thread(nodes.balancer.reset)
            await asyncio.sleep(5)
    return int(crossing)


def assert_running(running: Sequence[Running]) -> None:
    """A computation that is over shows nothing."""
    for each in running:
        assert each.poll() is None, f"it ended too early: {each.stdout}{each.stderr}"


async def kill_nodes(nodes: Nodes, servers: Servers, chance: random.Random) -> None:
    """Each in turn: whatever the parties are connected to dies once."""
    for node in chance.sample(nodes.nodes, len(nodes.nodes)):
        await asyncio.to_thread(nodes.kill, node)
        await asyncio.sleep(chance.uniform(0.5, 3))
        await asyncio.to_thread(nodes.restart, node)
        await asyncio.sleep(chance.uniform(1, 3))


async def kill_all_nodes(nodes: Nodes, servers: Servers, chance: random.Random) -> None:
    await asyncio.to_thread(nodes.kill, *nodes.nodes)
    await asyncio.to_thread(nodes.restart, *nodes.nodes)


async def roll(nodes: Nodes, servers: Servers, chance: random.Random) -> None:
    for node in chance.sample(nodes.nodes, len(nodes.nodes)):
        await asyncio.to_thread(nodes.roll, node)
        await asyncio.sleep(chance.uniform(1, 3))


async def kill_primary(nodes: Nodes, servers: Servers, chance: random.Random) -> None:
    old = servers.primary
    servers.kill(old)
    await asyncio.sleep(chance.uniform(3, 8))
    await servers.promote()
    await servers.rejoin(old)
    await servers.caught_up()


async def lose_all_servers(nodes: Nodes, servers: Servers, chance: random.Random) -> None:
    """Packets are never stored: what is connected needs no database."""
    for server in servers.all:
        servers.kill(server)
    await asyncio.sleep(10)
    for server in servers.all:
        await servers.start(server)
    await servers.caught_up()


@pytest.mark.parametrize("fault", [kill_nodes, kill_all_nodes, roll, kill_primary, lose_all_servers])
async def test_a_computation_goes_on_through(
    fault: Callable[[Nodes, Servers, random.Random], Awaitable[None]],
    tmp_path: Path,
    servers: Servers,
    log: Log,
) -> None:
    async with computation(tmp_path / "cluster", servers, log) as nodes:
        log.write("fault", name=fault.__name__)
        await fault(nodes, servers, random.Random(SEED))
