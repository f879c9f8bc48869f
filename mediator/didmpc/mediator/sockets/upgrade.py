"""From a GET to a WebSocket (RFC 6455), without a task, a timer or a queue between a packet and its relay.

aiohttp reads the request and writes the answer; then its protocol gives the transport up, and hears only of
its end. Messages wait for `receive`, in order; but binary ones go to whoever has asked to see them first.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from didmpc.mediator.limits import KIB
from didmpc.mediator.sockets import frames
from didmpc.mediator.sockets.batch import Batch
from didmpc.mediator.sockets.frames import BINARY, CLOSE, PING, TEXT, FrameError, FrameReader

WRITE_BUFFER = 256 * KIB
"""Bytes that wait in a socket, from which writers wait."""
LOW_WATER = WRITE_BUFFER // 4
READ_QUEUE = 256 * KIB
"""Bytes of messages that wait to be received, from which a socket is not read."""
MESSAGE_COST = 64
"""Bytes that a message in the queue counts beside its own."""
TOGETHER = 64 * KIB
"""More than this does not wait for the end of what is read."""
CLOSE_SECONDS = 2.0
"""How long a peer has to answer a close, and to take what was written before it."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Incoming(NamedTuple):
    """A message that waits for its turn: TEXT, BINARY, PING or CLOSE, or what somebody has made of one."""

    kind: int
    data: bytes | bytearray


def accept_key(request: web.Request) -> str:
    """What answers the key of a request to upgrade. Raises `web.HTTPBadRequest`."""
    headers = request.headers
    asks = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in asks:
        raise web.HTTPBadRequest(text="Here is a WebSocket. The request does not ask for one.\n")
    if headers.get("Sec-WebSocket-Version", "") != "13":
        raise web.HTTPBadRequest(
            text="This server speaks version 13 of WebSockets.\n", headers={"Sec-WebSocket-Version": "13"}
        )
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        size = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if size != 16:
        raise web.HTTPBadRequest(text="Sec-WebSocket-Key must be 16 bytes in base64.\n")
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


async def upgrade(
    request: web.Request, *, batch: Batch, limit: int, heartbeat: float
) -> tuple[web.StreamResponse, "WebSocket | None"]:
    """Answer a request, and the WebSocket, if it is still there. Raises `web.HTTPBadRequest`.

    `limit` bounds messages (bytes); a peer that is silent for `heartbeat` seconds is asked, and for half as
    long again, dropped.
    """
    response = web.StreamResponse(
        status=101,
        headers={
            "Upgrade": "websocket",
            "Connection": "upgrade",
            "Sec-WebSocket-Accept": accept_key(request),
        },
    )
    response.force_close()
    await response.prepare(request)
    http, transport = request.protocol, request.transport
    if transport is None or transport.is_closing():
        return response, None
    # What came with the request or since; nobody may speak before the answer, but some do.
    early, http._message_tail = http._message_tail, b""
    socket = WebSocket(http, transport, batch=batch, limit=limit, heartbeat=heartbeat)
    transport.set_protocol(socket)
    if not transport.is_reading():
        transport.resume_reading()
    socket.feed(early)
    return response, socket


class WebSocket(asyncio.BufferedProtocol):
    """One WebSocket. `fault` says why it was given up, where the peer is to be told."""

    def __init__(
        self,
        http: asyncio.BaseProtocol,
        transport: asyncio.Transport,
        *,
        batch: Batch,
        limit: int,
        heartbeat: float,
    ) -> None:
        self._http = http
        self._transport = transport
        self._batch = batch
        self._reader = FrameReader(limit, self._message, self._binary)
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes | bytearray] = []
        self._unwritten = 0  # bytes of `_out`
        self.waiting: deque[Incoming] = deque()  # to be received
        self._waiting_bytes = 0
        self._receiver: asyncio.Future[None] | None = None
        self._writers: asyncio.Future[None] | None = None
        self._peer_done: asyncio.Future[None] = self._loop.create_future()  # it has closed, or is gone
        self._paused = False
        self._ended = False  # it is read no more, except to the end of what it sends
        self._closing = False
        self.heard = time.monotonic()  # when something came last
        self._beat = self._loop.call_later(heartbeat, self._look_after)
        self.fault: FrameError | None = None
        transport.set_write_buffer_limits(high=WRITE_BUFFER, low=LOW_WATER)

    # --- reading

    def show(self, on_binary: Callable[[bytearray], None]) -> None:
        """From now on binary messages go there as they are read. It may `queue` them, or raise FrameError."""
        self._reader.on_binary = on_binary

    async def receive(self) -> Incoming | None:
        """The next message; None when there is none any more."""
        while not self.waiting:
            if self._peer_done.done() or self._closing or self.fault is not None:
                return None
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        message = self.waiting.popleft()
        self._waiting_bytes -= len(message.data) + MESSAGE_COST
        if self._waiting_bytes <= READ_QUEUE // 2 and not self._transport.is_closing():
            self._read_on()
        if message.kind == CLOSE:
            self._done()
            return None
        return message

    def feed(self, data: bytes) -> None:
        """Take bytes that were read before."""
        view = memoryview(data)
        while view:
            room = self.get_buffer(len(view))
            count = min(len(room), len(view))
            room[:count] = view[:count]
            del room  # so that the reader may enlarge it
            self.buffer_updated(count)
            view = view[count:]

    def get_buffer(self, sizehint: int) -> memoryview:
        return frames.COMMON_ROOM if self._ended else self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = time.monotonic()
        if self._ended:
            return
        batch = self._batch
        batch.begin()
        try:
            self._reader.take(nbytes)
        except FrameError as fault:
            self._ended, self.fault = True, fault
            self._wake()
        finally:
            batch.end()

    def _message(self, opcode: int, payload: bytearray) -> None:
        if opcode == TEXT:
            self.queue(Incoming(TEXT, frames.text_of(payload)))
        elif opcode == PING:
            self.queue(Incoming(PING, bytes(payload)))
        elif opcode == CLOSE:
            frames.close_code(payload)
            self._ended = True
            self._reader.stop()
            self.queue(Incoming(CLOSE, b""))
            if self._closing:
                self._done()

    def _binary(self, payload: bytearray) -> None:
        self.queue(Incoming(BINARY, payload))

    def queue(self, message: Incoming) -> None:
        """Have a message wait to be received."""
        if self._closing:
            return
        self.waiting.append(message)
        self._waiting_bytes += len(message.data) + MESSAGE_COST
        if self._waiting_bytes > READ_QUEUE and self._transport.is_reading():
            self._transport.pause_reading()
        self._wake()

    def _read_on(self) -> None:
        if not self._transport.is_reading():
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _done(self) -> None:
        if not self._peer_done.done():
            self._peer_done.set_result(None)
        self._wake()

    # --- writing

    def has_room(self, size: int) -> bool:
        """Whether so much more stays below the mark, or nothing waits: then a write has none waiting."""
        waiting = self._unwritten + self._transport.get_write_buffer_size()
        return not waiting or waiting + size <= LOW_WATER

    def write_now(self, packet: bytes | bytearray) -> None:
        """Write a binary message, whatever waits. It is not to be changed. Raises ConnectionError."""
        self._write(BINARY, packet)

    async def send_packet(self, packet: bytes | bytearray) -> None:
        """Write a binary message and wait until the socket takes more. Raises ConnectionError."""
        await self.send(BINARY, packet)

    async def send(self, kind: int, data: bytes | bytearray) -> None:
        """Write a message and wait until the socket takes more. Raises ConnectionError."""
        self._write(kind, data)
        while self._paused:
            if self._writers is None:
                self._writers = self._loop.create_future()
            await asyncio.shield(self._writers)
            if self._transport.is_closing():
                raise ConnectionResetError

    def flush(self) -> None:
        """Give the transport what is to leave."""
        out, size = self._out, self._unwritten
        if not out or self._transport.is_closing():
            return
        self._out, self._unwritten = [], 0
        if size <= TOGETHER:
            self._transport.write(b"".join(out))
        else:
            self._transport.writelines(out)  # which uvloop writes from where they are

    def _write(self, kind: int, data: bytes | bytearray) -> None:
        if self._closing or self._transport.is_closing():
            raise ConnectionResetError
        head = frames.head(kind, len(data))
        self._out += (head, data)
        if self._unwritten:
            self._unwritten += len(head) + len(data)
        else:
            self._unwritten = len(head) + len(data)
            self._batch.wait_for_end(self)
        if self._unwritten > TOGETHER:
            self.flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        writers, self._writers = self._writers, None
        if writers is not None:
            writers.set_result(None)

    # --- the end

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, wait a little for the peer's, hang up. What it still sends is not read."""
        if self._closing:
            await asyncio.wait([self._peer_done], timeout=CLOSE_SECONDS)
            return
        try:
            self._write(CLOSE, frames.close_payload(code, reason))
        except ConnectionError:
            return
        self._closing = True
        self._reader.on_binary = self._binary
        self.waiting.clear()
        self._waiting_bytes = 0
        self._wake()
        self._read_on()
        if not self._peer_done.done():
            await asyncio.wait([self._peer_done], timeout=CLOSE_SECONDS)
        self._beat.cancel()
        if self._peer_done.done():
            self._transport.close()
            self._beat = self._loop.call_later(CLOSE_SECONDS, self.abort)
        else:
            self.abort()

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()

    def eof_received(self) -> None:
        """The transport closes by itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._beat.cancel()
        self._done()
        self.resume_writing()
        self._http.connection_lost(exc)

    def _look_after(self) -> None:
        """Ask a peer that says nothing, and drop one that does not answer."""
        silent = time.monotonic() - self.heard
        patience = 1.5 * self._heartbeat
        if not self._transport.is_reading():
            wait = self._heartbeat  # it is us who do not listen
        elif silent >= patience:
            self.abort()
            return
        elif silent >= self._heartbeat:
            with contextlib.suppress(ConnectionError):
                self._write(PING, b"")
            wait = patience - silent
        else:
            wait = self._heartbeat - silent
        self._beat = self._loop.call_later(wait, self._look_after)
