"""A session as an `asyncio.Transport`: for protocols that were written for sockets."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from didmpc.protocols.errors import DidmpcError

HIGH = 1024 * 1024
LOW = HIGH // 4
CHUNK = 256 * 1024 - 64


class Conversation(Protocol):
    """What is needed of a session."""

    contact: str
    did: str

    async def send(self, message: bytes) -> None: ...

    async def receive(self) -> bytes | None: ...

    async def end(self) -> None: ...

    async def close(self) -> None: ...

    async def abort(self, why: str = "") -> None: ...


class SessionTransport(asyncio.Transport):
    """Reads and writes by two tasks. `get_extra_info` knows `peername` (contact, DID) and `session`."""

    def __init__(self, session: Conversation, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"peername": (session.contact, session.did), "session": session})
        self._session = session
        self._protocol = protocol
        self._buffer = bytearray()
        self._high, self._low = HIGH, LOW
        self._paused = False  # the protocol was asked to write no more
        self._news = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._eof = False
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Tell the protocol, and start."""
        self._protocol.connection_made(self)
        self._tasks = [asyncio.create_task(self._read_all()), asyncio.create_task(self._write_all())]

    # --- BaseTransport, ReadTransport, WriteTransport

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._news.set()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_reading(self) -> bool:
        return self._reading.is_set() and not self._closing

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH if low is None else 4 * low
        low = high // 4 if low is None else low
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        self._buffer += data
        self._news.set()
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        self._eof = True
        self._news.set()

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        self._closing = True
        self._buffer.clear()
        self._end(self._session.abort, None)

    # --- within

    async def _read_all(self) -> None:
        try:
            while True:
                await self._reading.wait()
                message = await self._session.receive()
                if message is None:
                    break
                await self._reading.wait()
                self._deliver(message)
        except DidmpcError as error:
            self._broken(error)
            return
        if not self._tell_eof():
            self.close()

    def _deliver(self, data: bytes) -> None:
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            while data:
                room = memoryview(protocol.get_buffer(len(data)))
                size = min(len(room), len(data))
                room[:size] = data[:size]
                protocol.buffer_updated(size)
                data = data[size:]
        elif data and isinstance(protocol, asyncio.Protocol):
            protocol.data_received(data)

    def _tell_eof(self) -> bool:
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol | asyncio.Protocol):
            return bool(protocol.eof_received())
        return False

    async def _write_all(self) -> None:
        try:
            ended = False
            while True:
                if self._buffer:
                    chunk = bytes(self._buffer[:CHUNK])
                    await self._session.send(chunk)
                    del self._buffer[: len(chunk)]
                    self._maybe_resume()
                elif self._closing:
                    break
                elif self._eof and not ended:
                    ended = True
                    await self._session.end()
                else:
                    self._news.clear()
                    await self._news.wait()
        except DidmpcError as error:
            self._broken(error)
            return
        self._end(self._session.close, None)

    def _maybe_resume(self) -> None:
        if self._paused and len(self._buffer) <= self._low:
            self._paused = False
            self._protocol.resume_writing()

    def _broken(self, error: DidmpcError) -> None:
        self._closing = True
        self._end(self._session.abort, error)

    def _end(self, how: Callable[[], Any], error: DidmpcError | None) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._finish(how, error))

    async def _finish(self, how: Callable[[], Any], error: DidmpcError | None) -> None:
        """End the session; then, and not before, the protocol is told."""
        here = asyncio.current_task()
        for task in self._tasks:
            if task is not here:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await how()
        except DidmpcError as problem:
            error = error or problem
        self._protocol.connection_lost(None if error is None else _as_os_error(error))


def _as_os_error(error: DidmpcError) -> ConnectionError:
    """What protocols and streams expect of a broken connection; the cause is in `__cause__`."""
    problem = ConnectionResetError(str(error))
    problem.__cause__ = error
    return problem
