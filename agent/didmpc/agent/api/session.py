"""A session with a contact: messages both ways, in order, whole, each exactly once."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from didmpc.agent.api.carrier import Carrier
from didmpc.agent.api.errors import SessionAborted, SessionLost
from didmpc.agent.api.flow import Allowance, Piece, Unread, cost, pieces
from didmpc.agent.api.limits import SessionLimits
from didmpc.agent.api.transport import SessionTransport
from didmpc.agent.channel.causes import readable
from didmpc.agent.channel.clock import now
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.session import exports

STREAM_LIMIT = 256 * 1024
SILENT_AFTER = 5.0
ABORT_WITHIN = 1.0

Protocol = TypeVar("Protocol", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True)
class SessionStats:
    """What a session has done so far."""

    rtt: float | None
    """Seconds to the peer's program and back, smoothed."""
    messages_sent: int
    messages_received: int
    bytes_sent: int
    """Of messages handed over; what `unacknowledged_bytes` says is still on its way."""
    bytes_received: int
    unacknowledged_bytes: int
    packets_sent: int
    packets_received: int
    sealed_bytes: int
    """Of the packets sent, with everything that sealing and sending again add."""
    sessions: int
    """How often the keys were made afresh, the first time included."""
    wire: Literal["binary", "json"]


class Session:
    """Made by `Agent.session`, `Agent.accept` and `Agent.sessions`; close it, best by `async with`.

    Leaving `async with` by an exception aborts instead: the peer does not take a part for the whole.
    """

    def __init__(self, carrier: Carrier, limits: SessionLimits) -> None:
        facts, established = carrier.facts, carrier.established
        assert established is not None
        self._carrier = carrier
        self._limits = limits
        self._exporter = established.exporter
        self._allowance = Allowance(established.peer_hs.get("limits", {}))
        self._unread = Unread(limits.unread)
        self._assembled: list[bytes] = []
        self._assembled_size = 0
        self._messages_sent = self._messages_received = 0
        self._sending = asyncio.Lock()
        self._receiving = asyncio.Lock()
        self._moved = asyncio.Event()
        self._came = asyncio.Event()
        self._failure: DidmpcError | None = None
        self._said_all = False
        self._peer_left = False
        self._peer_gone = False
        self._leaving = False
        self._over = asyncio.Event()
        self._on_over: list[Callable[[], None]] = []
        self.contact = str(facts["contact"])
        """The name of the peer among our contacts."""
        self.did = str(facts["did"])
        """The DID that the peer uses towards us alone; the handshake has proven it."""
        self.protocol = str(facts["protocol"])
        self.id = str(facts["link"])
        """The same at both sides, and at no other session."""
        self.role: Literal["initiator", "responder"] = established.role
        self.suite = established.suite
        carrier.listen(self)

    def __repr__(self) -> str:
        return f"<Session with {self.contact!r} {self.protocol!r} {self.role}>"

    # --- messages

    async def send(self, message: bytes | bytearray | memoryview) -> None:
        """Send one message. Waits while too much is on its way; returns before it has arrived.

        A cancelled `send` has sent all of its message or nothing. Raises `SessionLost`, `SessionAborted`, or
        `LocalMisuse` when it is too long or this side has said that it sends no more.
        """
        view = memoryview(message).cast("B")
        if len(view) > self._limits.message:
            raise LocalMisuse(
                f"A message of {len(view):,} bytes is too long.",
                why=f"The limit of this session is {self._limits.message:,} bytes.",
                fix="Send it in parts, or raise `SessionLimits.message` at both sides.",
            )
        async with self._sending:
            self._check_sending()
            begun = False
            try:
                for piece, data in pieces(view):
                    await self._room_for(data)
                    self._put(piece, data)
                    begun = True
            except asyncio.CancelledError:
                if begun and self._failure is None:
                    self._put(Piece.VOID, b"")
                raise
            self._messages_sent += 1

    def _put(self, piece: Piece, data: bytes) -> None:
        self._allowance.spend(cost(data))
        self._carrier.send(piece, data)
        if self._failure is not None:
            raise self._failure

    async def _room_for(self, data: bytes) -> None:
        while not (
            self._carrier.link.unacknowledged_bytes + len(data) <= self._limits.unsent
            and self._allowance.covers(cost(data))
        ):
            await self._move()
            self._check_sending()

    async def _move(self) -> None:
        """Wait for news: an acknowledgement, a path, a failure, or a beat."""
        self._moved.clear()
        await self._moved.wait()

    def _check_sending(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._said_all:
            raise LocalMisuse("This session was told that nothing more is sent.")
        if self._peer_gone:
            raise SessionAborted(f"{self.contact} has closed the session and reads no more.")

    async def receive(self) -> bytes | None:
        """The next message; None once the peer has closed and all its messages were received.

        A cancelled `receive` loses nothing. What came whole before a failure is returned before it is raised.
        """
        async with self._receiving:
            while True:
                if (message := self._next_message()) is not None:
                    return message
                if self._failure is not None:
                    raise self._failure
                if self._over.is_set():
                    raise LocalMisuse("This session is closed.")
                if self._peer_left:
                    self._check_end()
                    return None
                self._came.clear()
                await self._came.wait()

    def _next_message(self) -> bytes | None:
        """Put records together as far as they go."""
        message = None
        while message is None and self._unread:
            start, data = self._unread.take()
            if start == Piece.VOID:
                self._assembled.clear()
                self._assembled_size = 0
                continue
            self._assembled.append(data)
            self._assembled_size += len(data)
            if self._assembled_size > self._limits.message:
                self._break(f"A message is longer than the limit here, {self._limits.message:,} bytes.")
                return None
            if start == Piece.LAST:
                message = b"".join(self._assembled)
                self._assembled.clear()
                self._assembled_size = 0
                self._messages_received += 1
        if (state := self._unread.news()) is not None:
            self._carrier.link.set_state(state)
            self._carrier.peer.pump(now())
            self._carrier.peer.flush()
        return message

    def _check_end(self) -> None:
        if self._assembled:
            self._break("It closed in the middle of a message.")
            assert self._failure is not None
            raise self._failure

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        message = await self.receive()
        if message is None:
            raise StopAsyncIteration
        return message

    # --- streams

    async def transport(self, protocol_factory: Callable[[], Protocol]) -> tuple[asyncio.Transport, Protocol]:
        """The session as an `asyncio.Transport` below a protocol; nothing else may be used then."""
        protocol = protocol_factory()
        transport = SessionTransport(self, protocol)
        transport.begin()
        return transport, protocol

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The session as a stream of bytes, as `asyncio.open_connection` gives one."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=STREAM_LIMIT, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self.transport(lambda: protocol)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    # --- the end

    async def end(self) -> None:
        """Nothing more is sent; the peer's `async for` ends after what was. Receiving goes on."""
        async with self._sending:
            if not self._said_all and self._failure is None:
                self._said_all = True
                self._carrier.peer.close()

    async def close(self) -> None:
        """Say that all is said, and wait until the peer has all of it. Nothing more is received.

        Returns when every message has arrived, whole. Raises `SessionLost` or `SessionAborted` when that
        cannot be known. A peer that still sends after that is told that nobody reads.
        """
        if self._leaving:
            await self._over.wait()
            return
        self._leaving = True
        orderly = False
        try:
            await self.end()
            await self._delivered()
            await self._see_off()
            orderly = True
        except asyncio.CancelledError:
            self._carrier.abort({"kind": "aborted", "what": "The program was interrupted."})
            raise
        finally:
            await asyncio.shield(asyncio.ensure_future(self._finish(orderly or self._failure is not None)))

    async def _delivered(self) -> None:
        """Until the peer has every record, and knows that there are no more."""
        link = self._carrier.link
        while link.unacknowledged and not self._peer_gone:
            if self._failure is not None:
                raise self._failure
            await self._move()
        if self._failure is not None:
            raise self._failure

    async def _see_off(self) -> None:
        """Let the peer close as well. One that goes on is told that nobody reads."""
        try:
            async with asyncio.timeout(self._limits.leave):
                while not (self._peer_left or self._peer_gone or self._unread or self._failure):
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            pass
        if self._unread:
            await self._say_goodbye({"kind": "unread", "what": "The program did not read everything."})
        elif not (self._peer_left or self._peer_gone or self._failure):
            await self._say_goodbye({"kind": "closed", "what": "The program closed the session."})
        while not (self._carrier.link.has_acknowledged or self._peer_gone or self._failure):
            await self._move()  # without our last acknowledgement the peer would wait for us

    async def abort(self, why: str = "") -> None:
        """End the session at once: the peer's program gets `SessionAborted` with these words."""
        if self._leaving:
            await self._over.wait()
            return
        self._leaving = True
        try:
            if self._failure is None and not self._peer_gone:
                await self._say_goodbye({"kind": "aborted", "what": readable(why, 300)})
            self._fail(SessionAborted("This session was aborted.", why=why))
        finally:
            await asyncio.shield(asyncio.ensure_future(self._finish(True)))

    async def _say_goodbye(self, cause: Mapping[str, Any]) -> None:
        self._carrier.abort(cause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ABORT_WITHIN):
                while not self._carrier.peer.abort_written:
                    await self._move()

    async def _finish(self, orderly: bool) -> None:
        try:
            await self._carrier.finish(orderly=orderly)
        finally:
            self._said_all = True
            self._unread.clear()
            self._over.set()
            self._wake()
            for call in self._on_over:
                call()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self.abort("The program failed.")

    def on_over(self, call: Callable[[], None]) -> None:
        self._on_over.append(call)

    # --- facts

    @property
    def stats(self) -> SessionStats:
        link = self._carrier.link
        stats = link.stats
        return SessionStats(
            rtt=link.rtt,
            messages_sent=self._messages_sent,
            messages_received=self._messages_received,
            bytes_sent=stats.bytes_sent,
            bytes_received=stats.bytes_received,
            unacknowledged_bytes=link.unacknowledged_bytes,
            packets_sent=stats.packets_sent,
            packets_received=stats.packets_received,
            sealed_bytes=stats.sealed_bytes,
            sessions=stats.sessions,
            wire="json" if link.wire == "json" else "binary",
        )

    @property
    def reachable(self) -> bool:
        """Whether the peer was heard in the last seconds."""
        return not self._over.is_set() and now() - self._carrier.link.last_heard < SILENT_AFTER

    def renew(self) -> None:
        """Ask for fresh keys now; the session goes on meanwhile. Only the side that opened it may."""
        if self.role != "initiator":
            raise LocalMisuse("Only the side that opened a session may ask for fresh keys.")
        self._carrier.renew()

    def export(self, label: str, length: int = 32) -> bytes:
        """A secret that only this session's two programs have, for example to bind something else to it.

        `label` begins with a URI that you own; both sides get the same bytes for it.
        """
        if ":" not in label:
            raise LocalMisuse("A label begins with a URI that you own.", why=f"It was {label!r}.")
        return exports.export(self._exporter, label, length)

    # --- CarrierListener

    def record_came(self, start: int, data: bytes) -> None:
        if not self._unread.put(start, data):
            self._break("It sends more than it may, or what is no part of a message.")
        self._came.set()

    def state_came(self, state: Mapping[str, Any]) -> None:
        self._allowance.learn(state)
        self._moved.set()

    def peer_left(self) -> None:
        self._peer_left = True
        self._came.set()

    def peer_ended(self, cause: Mapping[str, Any]) -> None:
        kind = cause.get("kind")
        if kind == "closed" and self._peer_left and self._carrier.link.delivered:
            self._peer_gone = True  # it has all that we sent, and has said all
            self._wake()
        elif kind in ("closed", "unread"):
            self._fail(SessionAborted(f"{self.contact} closed the session before it had read everything."))
        else:
            why = readable(cause.get("what"), 300)
            self._fail(SessionAborted(f"{self.contact}'s program aborted the session.", why=why))

    def link_failed(self, error: DidmpcError) -> None:
        self._fail(error)

    def link_moved(self) -> None:
        self._moved.set()

    def _break(self, why: str) -> None:
        """The peer did what it may not do."""
        what = f"The session with {self.contact} ended: its program broke the rules."
        self._fail(SessionLost(what, why=why))
        self._carrier.abort({"kind": "refused", "what": why})

    def _fail(self, error: DidmpcError) -> None:
        if self._failure is None:
            self._failure = error
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._came.set()
