"""A whole cluster at work: servers, nodes, customers, computations, what breaks them, and the verdict."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cluster_parts.faults import Faults
from cluster_parts.load import load
from cluster_parts.network import OUTSIDE, Network, NetworkFaults
from cluster_parts.nodes import Nodes
from cluster_parts.servers import Server, Servers
from cluster_parts.sessions import Computations
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
    """At its end nothing may be missing, doubled or miscounted, and no node has said a traceback."""
    nodes = Nodes(folder, store=servers.dsn, passwords=servers.passwords)
    if network is not None:
        nodes.places, nodes.balancer_host = network.places, OUTSIDE
    try:
        await asyncio.to_thread(nodes.start)
        async with load(nodes.did, seed, **customers) as at_work:
            computations = Computations(nodes, servers, log)
            parts = nodes, servers, at_work, random.Random(seed), log, computations
            faults = Faults(*parts) if network is None else NetworkFaults(*parts, network=network)
            log.write("begin", seed=seed, nodes=len(nodes.nodes), servers=len(servers.all))
            yield faults
            await computations.finish()
            await at_work.finish()
            faults.end("cluster")
            assert at_work.journal.complaints() == [], at_work.journal.complaints()[:10]
            await check_rows(servers, servers.primary)
        await asyncio.to_thread(nodes.stop_in_order)
        assert nodes.tracebacks() == [], nodes.said()[-3000:]
    finally:
        await asyncio.to_thread(nodes.stop)


async def check_rows(servers: Servers, server: Server) -> None:
    """What is counted is what is there, once the mailboxes of customers are empty."""
    assert await servers.ask(server, MISCOUNTED) == 0
    assert await servers.ask(server, MISCOUNTED_ACCOUNTS) == 0
