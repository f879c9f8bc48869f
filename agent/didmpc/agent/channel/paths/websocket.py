"""The WebSocket data path (RFC 6455), without a task or a queue between a frame and the transport.

aiohttp dials (TLS, proxies, time-outs); after the upgrade this protocol takes the transport over. The
client speaks first on these sockets, so nothing can arrive in between.
"""

import asyncio
import base64
import hashlib
import os
import struct
from collections.abc import Callable, Sequence

import aiohttp

from didmpc.protocols.errors import RemoteViolation

try:
    from aiohttp._websocket.helpers import websocket_mask as _mask
except ImportError:  # aiohttp keeps its compiled mask private: without it, slower

    def _mask(mask: bytes, data: bytearray) -> None:
        size = len(data)
        stream = (mask * (size // 4 + 1))[:size]
        data[:] = (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_CONTROL = 0x8
_FINAL = 0x80
_WHOLE_MESSAGE = _FINAL | BINARY
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LONG, _LONGER = struct.Struct(">BBH"), struct.Struct(">BBQ")
_LARGE = 4096  # bytes; what is smaller is copied faster than looked at
_KEYS_AT_ONCE = 1024
_keys: list[bytes] = []  # fresh and unpredictable (RFC 6455, section 5.3), each for one frame


def _more_keys() -> bytes:
    """One masking key, and many for later by the same system call."""
    pool = os.urandom(4 * _KEYS_AT_ONCE)
    _keys.extend(pool[place : place + 4] for place in range(0, len(pool), 4))
    return _keys.pop()


class WebSocketError(RemoteViolation):
    """The other end broke RFC 6455, or went over a limit."""

    code = "e.p.msg"


def masked_frame(payload: bytes, opcode: int = BINARY) -> bytes:
    """A whole frame as a client sends it."""
    body = bytearray(payload)
    return mask(body, opcode) + body


def mask(payload: bytearray, opcode: int = BINARY) -> bytes:
    """Mask a payload where it is; returns what goes before it."""
    size = len(payload)
    key = _keys.pop() if _keys else _more_keys()
    _mask(key, payload)
    if size < 126:
        return bytes((_FINAL | opcode, 0x80 | size)) + key
    if size < 65536:
        return _LONG.pack(_FINAL | opcode, 0xFE, size) + key
    return _LONGER.pack(_FINAL | opcode, 0xFF, size) + key


class WebSocket(asyncio.Protocol):
    """One open WebSocket. `on_read` follows each read of the socket, after all its messages."""

    def __init__(
        self,
        *,
        on_message: Callable[[bytes | memoryview], None],
        on_read: Callable[[], None],
        on_writable: Callable[[], None],
        on_lost: Callable[[str], None],
        frame_limit: int,
        buffer_limit: int,
    ) -> None:
        self.on_message = on_message
        """Who is told of messages; it may be changed at any time."""
        self._on_read = on_read
        self._on_writable = on_writable
        self._on_lost = on_lost
        self._frame_limit = frame_limit
        self._buffer_limit = buffer_limit
        self._transport: asyncio.Transport | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0
        self._fragments: list[bytes] = []
        self._lost = asyncio.Event()
        self.writable = False

    # --- opening and closing

    async def dial(self, session: aiohttp.ClientSession, url: str, timeout: float) -> None:
        """Open the WebSocket at `url`. Raises aiohttp.ClientError, TimeoutError or WebSocketError."""
        key = base64.b64encode(os.urandom(16))
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key.decode(),
        }
        limit = aiohttp.ClientTimeout(total=timeout)
        response = await session.get(url, headers=headers, allow_redirects=False, timeout=limit)
        accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest()).decode()
        transport = None if response.connection is None else response.connection.transport
        if response.status != 101 or transport is None:
            response.close()
            raise WebSocketError(f"{url} offers no WebSocket.", why=f"It answered {response.status}.")
        if response.headers.get("Sec-WebSocket-Accept") != accept:
            response.close()
            raise WebSocketError(f"{url} is no WebSocket server.", why="Its answer does not match the key.")
        self._response = response  # holds the connection; released in connection_lost
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=self._buffer_limit)
        self._transport = transport
        self.writable = not transport.is_closing()

    async def close(self, timeout: float) -> None:
        """Write out what is buffered, say goodbye, hang up; after `timeout` seconds without ceremony."""
        transport = self._transport
        if transport is None:
            return
        if not transport.is_closing():
            transport.write(masked_frame((1000).to_bytes(2, "big"), CLOSE))
            transport.close()
        try:
            await asyncio.wait_for(self._lost.wait(), timeout)
        except TimeoutError:
            transport.abort()

    def abort(self) -> None:
        """Hang up at once."""
        self.writable = False
        if self._transport is not None:
            self._transport.abort()

    # --- writing

    def write(self, frames: Sequence[bytes | bytearray]) -> None:
        """Write frames made by `masked_frame` or `mask`, in one system call where the socket takes it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if len(frames) == 1:
            transport.write(frames[0])
        else:
            transport.writelines(frames)

    @property
    def unwritten(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # --- what asyncio calls

    def data_received(self, data: bytes) -> None:
        if self._parts:  # a frame in progress: joined once, when it is whole
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        try:
            self._parse(data)
        except WebSocketError as error:
            self._fail(str(error))
        else:
            self._on_read()

    def eof_received(self) -> None:
        self.writable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable = False
        self._lost.set()
        if self._response is not None:
            self._response.close()
            self._response = None
        self._on_lost(str(exc) if exc else "The mediator closed the connection.")

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._on_writable()

    # --- within

    def _parse(self, data: bytes) -> None:
        position, end = 0, len(data)
        while end - position >= 2:
            first, size = data[position], data[position + 1]
            payload = position + 2
            if size > 125 or first & 0x70:
                if first & 0x70 or size & 0x80:
                    raise WebSocketError("A frame was masked, or used an extension that was not agreed.")
                payload += 2 if size == 126 else 8
                if end < payload:
                    break
                size = int.from_bytes(data[position + 2 : payload], "big")
            if size > self._frame_limit:
                raise WebSocketError(f"A frame of {size} bytes is over the limit of {self._frame_limit}.")
            after = payload + size
            if end < after:
                self._keep(data, position, after - position)
                return
            if first == _WHOLE_MESSAGE and not self._fragments:
                large = size > _LARGE
                self.on_message(memoryview(data)[payload:after] if large else data[payload:after])
            else:
                self._frame(first, data[payload:after])
            position = after
        if position < end:
            self._keep(data, position, 2)

    def _keep(self, data: bytes, position: int, need: int) -> None:
        rest = data[position:]
        self._parts.append(rest)
        self._have, self._need = len(rest), need

    def _frame(self, first: int, payload: bytes) -> None:
        final, opcode = first & _FINAL, first & 0x0F
        if opcode in (BINARY, TEXT) and final and not self._fragments:
            self.on_message(payload)
        elif opcode & _CONTROL:
            self._control(opcode, payload, bool(final))
        elif opcode in (BINARY, TEXT, CONTINUATION) and (opcode == CONTINUATION) == bool(self._fragments):
            self._fragments.append(payload)
            if sum(map(len, self._fragments)) > self._frame_limit or len(self._fragments) > 1024:
                raise WebSocketError("A fragmented message is over the limit.")
            if final:
                message = b"".join(self._fragments)
                self._fragments.clear()
                self.on_message(message)
        else:
            raise WebSocketError("A frame was out of its order.")

    def _control(self, opcode: int, payload: bytes, final: bool) -> None:
        if not final or len(payload) > 125:
            raise WebSocketError("A control frame was malformed.")
        if opcode == PING:
            self.write([masked_frame(payload, PONG)])
        elif opcode == CLOSE:
            why = payload[2:].decode("utf-8", "replace")
            self._fail(f"The mediator said goodbye. {why}".rstrip())

    def _fail(self, reason: str) -> None:
        """Hang up because of what arrived; `connection_lost` tells the rest."""
        self.writable = False
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(masked_frame((1000).to_bytes(2, "big") + reason.encode()[:120], CLOSE))
            transport.close()
