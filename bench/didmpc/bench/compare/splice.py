"""A TCP relay that does nothing but pass bytes on.

python -m didmpc.bench.compare.splice PORT=HOST:PORT ...
"""

import asyncio
import contextlib
import sys
from typing import cast

import uvloop

WITHIN = 10.0
"""Seconds to reach the far end."""


class End(asyncio.Protocol):
    """One end of a splice; `twin` is the other."""

    def __init__(self, twin: "End | None" = None) -> None:
        self.twin = twin
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        if (twin := self.twin) is not None:
            twin.twin = self
            self.transport.writelines(twin.early)
            twin.early.clear()

    def data_received(self, data: bytes) -> None:
        if self.twin is not None and self.twin.transport is not None:
            self.twin.transport.write(data)
        else:
            self.early.append(data)

    def pause_writing(self) -> None:
        if self.twin is not None and self.twin.transport is not None:
            self.twin.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.twin is not None and self.twin.transport is not None:
            self.twin.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.twin is not None and self.twin.transport is not None:
            self.twin.transport.close()


class Near(End):
    """A connection that came in; it dials on."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._target = (host, port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._dialing = asyncio.ensure_future(self._dial())

    async def _dial(self) -> None:
        assert self.transport is not None
        host, port = self._target
        try:
            async with asyncio.timeout(WITHIN):
                await asyncio.get_running_loop().create_connection(lambda: End(self), host, port)
        except (OSError, TimeoutError):
            self.transport.abort()
            return
        if self.transport.is_closing() and self.twin is not None and self.twin.transport is not None:
            self.twin.transport.close()


async def serve(splices: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for splice in splices:
        port, _, target = splice.partition("=")
        host, _, far = target.rpartition(":")
        await loop.create_server(lambda host=host, far=int(far): Near(host, far), port=int(port))  # type: ignore[misc]
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1:]))
