"""The raw TCP relay: what comes on a connection goes out on another one, unread, and perhaps later.

It is what anything that relays is compared with, and with delays it is the box that makes a network of a
loopback. Run in one process on uvloop, as a mediator is.
"""

import asyncio
from collections.abc import Callable
from ssl import SSLContext
from typing import Any

HOST = "127.0.0.1"
RETRY = 0.02
"""Seconds between attempts to reach a target that does not listen yet."""


class _Side(asyncio.Protocol):
    """One of two connections that belong together: what it reads is written to the other."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._early: list[bytes] = []
        self._ended = False
        self.transport: Any = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def join(self, other: "_Side") -> None:
        """From now on there is another connection to write to."""
        self.other = other
        for data in self._early:
            self._forward(data)
        self._early.clear()
        if self._ended:
            self._end()

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self._forward(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._end()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def _forward(self, data: bytes) -> None:
        assert self.other is not None
        self._do(self.other.transport.write, data)

    def _end(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self._do(self.other.transport.close)

    def _do(self, action: Callable[..., None], *arguments: Any) -> None:
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, action, *arguments)
        else:
            action(*arguments)


async def splice(
    target: int,
    *,
    there: float = 0.0,
    back: float = 0.0,
    inside: SSLContext | None = None,
    outside: SSLContext | None = None,
    port: int = 0,
) -> asyncio.Server:
    """Listen, and splice each connection to one to `target`; delays in seconds, each way.

    With TLS, `inside` is for those who connect here, `outside` for the connection to the target.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def reach(near: _Side) -> None:
        far = _Side(back)
        while True:
            try:
                await loop.create_connection(
                    lambda: far, HOST, target, ssl=outside, server_hostname=HOST if outside else None
                )
                break
            except OSError:
                await asyncio.sleep(RETRY)
        far.join(near)
        near.join(far)

    class Near(_Side):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(reach(self))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    return await loop.create_server(lambda: Near(there), HOST, port, ssl=inside)
