"""Bare connections for load: so little work per message that what is measured is the mediator.

HTTP/1.1 with keep-alive and one request in flight; a TCP echo; a WebSocket that says nothing.
"""

import asyncio
import base64
import os
from typing import Self
from urllib.parse import urlsplit

from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.message import ENCRYPTED


class ConnectionLost(DidmpcError):
    """The mediator, or the relay measured beside it, closed a connection of the load generator."""

    def __init__(self) -> None:
        super().__init__("A connection of the load generator was closed.")


def address_of(url: str) -> tuple[str, int]:
    """Host and port of an http or ws URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return parts.hostname, parts.port or 80


def http_request(url: str, envelope: bytes) -> bytes:
    """A whole POST, as it goes over the wire."""
    head = f"POST / HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: {ENCRYPTED}\r\n"
    return f"{head}Content-Length: {len(envelope)}\r\n\r\n".encode() + envelope


class _Exchange(asyncio.Protocol):
    """A connection on which one request waits for its answer at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._waiter: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self.lost = False

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._waiter is not None and (length := self._answer_length()) is not None:
            answer, waiter = bytes(self._received[:length]), self._waiter
            del self._received[:length]
            self._waiter = None
            if not waiter.done():
                waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionLost())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def exchange(self, request: bytes) -> bytes:
        """Send, and wait for the answer. Raises `ConnectionLost`."""
        if self.lost or self._transport is None:
            raise ConnectionLost
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def _answer_length(self) -> int | None:
        """How many of the received bytes are the answer; None while some are missing."""
        raise NotImplementedError


class HttpConnection(_Exchange):
    """Answers of the mediator: a status line, headers with Content-Length, a body."""

    async def post(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer to a whole request (`http_request`)."""
        answer = await self.exchange(request)
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body

    def _answer_length(self) -> int | None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = 0
        for line in self._received[:end].lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        whole = end + 4 + length
        return whole if len(self._received) >= whole else None


class EchoConnection(_Exchange):
    """What was sent comes back."""

    size = 0

    async def echo(self, payload: bytes) -> None:
        self.size = len(payload)
        await self.exchange(payload)

    def _answer_length(self) -> int | None:
        return self.size if len(self._received) >= self.size else None


class EchoServer(asyncio.Protocol):
    """The raw TCP relay: every byte goes back the way it came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class IdleWebSocket(asyncio.Protocol):
    """A WebSocket that only answers pings, as RFC 6455 asks of it."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._received = b""
        self._open = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False

    @classmethod
    async def connect(cls, url: str) -> Self:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(url), *address_of(url))
        await protocol.opened
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET {self._url.path} HTTP/1.1\r\nHost: {self._url.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._open:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            self._received, self._open = rest, head.startswith(b"HTTP/1.1 101")
            if self._open:
                self.opened.set_result(None)
            else:
                self._transport.close()
        # The mediator has nothing to say to us: what comes are pings, two bytes of header and up to 125 more.
        while self._open and len(self._received) >= 2 and len(self._received) >= 2 + self._received[1]:
            frame, self._received = (
                self._received[: 2 + self._received[1]],
                self._received[2 + self._received[1] :],
            )
            if frame[0] == 0x89:  # ping; a mask of zeros leaves the payload as it is
                self._transport.write(bytes([0x8A, 0x80 | frame[1], 0, 0, 0, 0]) + frame[2:])

    def close(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionLost())
