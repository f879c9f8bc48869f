"""A whole cluster under load: servers, nodes, customers and what breaks them, and the verdict at the end."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cluster_parts.faults import Faults
from cluster_parts.load import Load, load
from cluster_parts.network import OUTSIDE, Network, NetworkFaults
from cluster_parts.nodes import Nodes
from cluster_parts.servers import Server, Servers
from didmpc.bench.soak import Log

MISCOUNTED = """
SELECT count(*) FROM box LEFT JOIN
  (SELECT mid, count(*) AS n, sum(size) AS bytes FROM msg GROUP BY mid) AS kept USING (mid)
WHERE box.n <> coalesce(kept.n, 0) OR box.bytes <> coalesce(kept.bytes, 0)
"""
MISCOUNTED_ACCOUNTS = """
SELECT count(*) FROM account LEFT JOIN
  (SELECT aid, sum(bytes) AS bytes FROM box GROUP BY aid) AS boxes USING (aid)
WHERE account.bytes <> coalesce(boxes.bytes, 0)
"""


@contextlib.asynccontextmanager
async def world(
    folder: Path,
    servers: Servers,
    seed: int,
    log: Log,
    *,
    network: Network | None = None,
    **customers: Any,
) -> AsyncIterator[Faults]:
    """Nodes and load at work. At the end nothing may be missing, doubled, miscounted or a traceback."""
    nodes = Nodes(folder, (), store=servers.dsn, password=servers.password)
    if network is not None:
        nodes.places, nodes.balancer_host = network.places, OUTSIDE
    try:
        await asyncio.to_thread(nodes.start_mediators)
        async with load(nodes.did, seed, **customers) as customers_at_work:
            parts = nodes, servers, customers_at_work, random.Random(seed), log
            faults = Faults(*parts) if network is None else NetworkFaults(*parts, network=network)
            log.write("begin", seed=seed, nodes=len(nodes.nodes), servers=len(servers.all))
            yield faults
            await verdict(faults, log)
        await asyncio.to_thread(nodes.stop_in_order)
        assert nodes.tracebacks() == [], nodes.said()[-3000:]
    finally:
        await asyncio.to_thread(nodes.stop)


async def verdict(faults: Faults, log: Log) -> None:
    """After everybody has come to an end."""
    at_work: Load = faults.load
    await at_work.finish()
    summary = at_work.journal.summary()
    log.write("end", faults=sum(faults.count.values()), kinds=dict(faults.count), **summary)
    print(f"{sum(faults.count.values())} faults {dict(faults.count)}: {summary}")
    assert at_work.journal.complaints() == [], at_work.journal.complaints()[:10]
    await check_rows(faults.servers, faults.servers.primary)


async def check_rows(servers: Servers, server: Server) -> None:
    """What is counted is what is there: nothing, once all mailboxes are empty."""
    assert await servers.ask(server, "SELECT count(*) FROM msg") == 0
    assert await servers.ask(server, MISCOUNTED) == 0
    assert await servers.ask(server, MISCOUNTED_ACCOUNTS) == 0
