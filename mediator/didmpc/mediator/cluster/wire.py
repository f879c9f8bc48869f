"""What travels on the connection of a link: `length u32 | bytes`, big endian, over TCP.

What is read is handed on where it is read, without a task or a queue in between, as on a WebSocket
(`upgrade`): a packet that crosses two nodes shall cost little more than one that crosses one.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from didmpc.mediator.limits import KIB
from didmpc.mediator.sockets.batch import Batch
from didmpc.protocols.session.packet import MAX_PACKET_BYTES

HANDSHAKE_BYTES = 16 * KIB
"""The longest message before the other side is known."""
READ_AT_ONCE = 128 * KIB
WRITE_BUFFER = 512 * KIB
LOW_WATER = WRITE_BUFFER // 4
TOGETHER = 64 * KIB
"""More than this does not wait for the end of what is read."""
_HEAD = 4

# Between asking for room and `buffer_updated` nothing else runs, so all links read into the same memory.
_common = bytearray(READ_AT_ONCE)


class Wire(asyncio.BufferedProtocol):
    """One connection. `on_message` gets what comes and raises nothing; `on_lost` is called once."""

    def __init__(self, batch: Batch, on_connected: "Callable[[Wire], None] | None" = None) -> None:
        self._batch = batch
        self._on_connected = on_connected
        self._transport: asyncio.Transport | None = None
        self._limit = HANDSHAKE_BYTES
        self._rest = b""  # of a message whose length has not come
        self._message: bytearray | None = None  # one in progress
        self._have = 0
        self._out: list[bytes | bytearray] = []
        self._unwritten = 0
        self._paused = False
        self._writers: asyncio.Future[None] | None = None
        self.on_message: Callable[[bytearray], None] = lambda message: None
        self.on_lost: Callable[[], None] = lambda: None
        self.is_lost = False

    def trust(self) -> None:
        """The other side is known: it may send packets of any size that there is."""
        self._limit = MAX_PACKET_BYTES

    @property
    def peer(self) -> str:
        """The address of the other side, for the log."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return str(name[0]) if isinstance(name, tuple) else "?"

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        transport.set_write_buffer_limits(high=WRITE_BUFFER, low=LOW_WATER)
        if self._on_connected is not None:
            self._on_connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.resume_writing()
        self.on_lost()

    def eof_received(self) -> None:
        """The transport closes by itself."""

    # --- reading

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._message is not None:
            return memoryview(self._message)[self._have :]
        kept = len(self._rest)
        _common[:kept] = self._rest
        return memoryview(_common)[kept:]

    def buffer_updated(self, nbytes: int) -> None:
        self._batch.begin()
        try:
            self._take(nbytes)
        finally:
            self._batch.end()

    def _take(self, count: int) -> None:
        message = self._message
        if message is None:
            end = len(self._rest) + count
            self._rest = b""
            self._parse(end)
            return
        self._have += count
        if self._have == len(message):
            self._message = None
            self.on_message(message)

    def _parse(self, end: int) -> None:
        data, start = _common, 0
        while end - start >= _HEAD:
            size = int.from_bytes(data[start : start + _HEAD], "big")
            if size > self._limit:
                self.abort()
            if self._is_closing:
                return
            body = start + _HEAD
            if end - body < size:
                self._message = bytearray(size)
                self._have = end - body
                self._message[: self._have] = memoryview(data)[body:end]
                return
            start = body + size
            self.on_message(data[body:start])
        self._rest = bytes(data[start:end])

    # --- writing

    def has_room(self, size: int) -> bool:
        """Whether so much more stays below the mark, or nothing waits: then a write has none waiting."""
        if self._transport is None:
            return False
        waiting = self._unwritten + self._transport.get_write_buffer_size()
        return not waiting or waiting + size <= LOW_WATER

    def write_now(self, message: bytes | bytearray) -> None:
        """Write a message, whatever waits. It is not to be changed. Raises ConnectionError."""
        if self._is_closing:
            raise ConnectionResetError
        self._out += (len(message).to_bytes(_HEAD, "big"), message)
        waited = bool(self._unwritten)
        self._unwritten += _HEAD + len(message)
        if not waited:
            self._batch.wait_for_end(self)
        if self._unwritten > TOGETHER:
            self.flush()

    async def write(self, message: bytes | bytearray) -> None:
        """Write a message and wait until the connection takes more. Raises ConnectionError."""
        self.write_now(message)
        while self._paused:
            if self._writers is None:
                self._writers = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writers)
            if self._is_closing:
                raise ConnectionResetError

    def flush(self) -> None:
        """Give the transport what is to leave."""
        out, size = self._out, self._unwritten
        if not out or self._transport is None or self._is_closing:
            return
        self._out, self._unwritten = [], 0
        if size <= TOGETHER:
            self._transport.write(b"".join(out))
        else:
            self._transport.writelines(out)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        writers, self._writers = self._writers, None
        if writers is not None:
            writers.set_result(None)

    # --- the end

    @property
    def _is_closing(self) -> bool:
        return self.is_lost or self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        """End it when what was written has left."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()
