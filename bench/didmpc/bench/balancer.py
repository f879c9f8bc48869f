"""A plain load balancer on TCP: each new connection goes to the next node that takes it.

It knows nothing of what passes through, as one has it from any provider. `Proxy` says what can be done to it.
"""

import asyncio
import contextlib

from didmpc.bench.proxy import Proxy

TAKEN_WITHIN = 1.0
"""Seconds that a node has to take a connection; then the next one is asked."""

Node = tuple[str, int]
"""Host and port."""


class Balancer(Proxy):
    """Use as a context manager. Set `nodes` at any time; a node that refuses is passed over."""

    def __init__(self, *, host: str = "127.0.0.1") -> None:
        super().__init__(host=host)
        self.nodes: tuple[Node, ...] = ()
        self._turn = 0

    async def _dial(self, source: str | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        nodes, self._turn = self.nodes, self._turn + 1
        local = None if source is None else (source, 0)
        for number in range(self._turn, self._turn + len(nodes)):
            host, port = nodes[number % len(nodes)]
            with contextlib.suppress(OSError):  # a time-out is one of them
                async with asyncio.timeout(TAKEN_WITHIN):
                    return await asyncio.open_connection(host, port, local_addr=local)
        raise ConnectionRefusedError("no node takes connections")
