"""The socket pair to the channel process, as one asyncio transport per party and start generation.

Writes go out with a lead (docs/performance.md): once every party was sent something after a receive, all of
it goes at once, as a round often waits for just that; the rest of the loop tick goes together. MPyC cannot be
slowed down (it has no `pause_writing`), so what the socket does not take is kept, up to a limit.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from didmpc.agent.program.config import Limits
from didmpc.agent.program.outcome import Failure, PeerFault
from didmpc.agent.program.wire import HEADER, PIECE, Decoder, Frame, FrameType, WireError, encode

READ_SIZE = 256 * 1024
MAX_UNSENT = 1024 * 1024 * 1024
"""The channel process has limits of its own, per party; this is for one that stands still."""

_DATA = FrameType.DATA

FAREWELL = 2.0
"""How long, in seconds, the channel process may take to read our last frames once they are sent."""


class Peer(Protocol):
    """What a transport delivers to: MPyC's message exchanger of one party."""

    def data_received(self, data: bytes) -> None: ...
    def peer_ended(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class PeerTransport(asyncio.Transport):
    """MPyC's connection to one party, in one start generation."""

    def __init__(self, mux: "Mux", pid: int, start: int) -> None:
        super().__init__()
        self.pid = pid
        self.start = start
        self.peer: Peer | None = None
        self.closed = False
        self.buffer: list[bytes] = []
        self._mux = mux
        self._seen = -1  # the receive after which the lead was taken

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send at the end of the loop tick, or once every party has its first since the last receive."""
        if self.closed or not data:
            return  # as asyncio does when the peer has ended, or we have
        mux, buffer = self._mux, self.buffer
        if not buffer:
            mux.dirty.append(self)
        buffer.append(bytes(data))
        if self._seen == mux.receives:
            mux.flush_in_turn()
            return
        self._seen = mux.receives
        mux.leads += 1
        if mux.leads == mux.count:
            mux.flush()  # the last to have its first message since the last receive sends for all
        else:
            mux.flush_in_turn()

    def writelines(self, list_of_data: Any) -> None:
        """Send as one message."""
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        """Whether either side has ended the connection."""
        return self.closed

    def close(self) -> None:
        """End our side: the peer gets END after all data."""
        if self.closed:
            return
        self._mux.flush()
        self.closed = True
        self._mux.send_frame(encode(FrameType.END, self.pid, self.start))
        self._mux.lost_soon(self)

    abort = close


class Mux:
    """Frames in and out. `fail` ends the process and does not return."""

    def __init__(
        self,
        channel: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        peers: frozenset[int],
        coalesce: bool,
        limits: Limits,
        fail: Callable[[Failure], None],
    ) -> None:
        self.receives = 0
        self.octets_read = 0
        self.go = asyncio.Event()
        self.start = 0
        self.on_activity: Callable[[], None] | None = None
        self._channel = channel
        self._loop = loop
        self._peers = peers
        self._coalesce = coalesce
        self._limits = limits
        self._fail = fail
        self._decoder = Decoder()
        self._transports: dict[int, PeerTransport] = {}
        self.count = len(peers)
        self.dirty: list[PeerTransport] = []  # have something for the end of this loop tick
        self.leads = 0  # transports that were written to since the last receive
        self._flushing = False  # at the end of this loop tick
        self._early: list[Frame] = []  # of generations that we have not started yet
        self._early_bytes = dict.fromkeys(peers, 0)
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        channel.setblocking(False)
        loop.add_reader(channel.fileno(), self._readable)

    # -- generations ---------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether a connection of the present generation is still open."""
        return any(not transport.closed for transport in self._transports.values())

    def connect(self) -> Mapping[int, PeerTransport]:
        """Begin the next generation. Give each transport its peer, then call `deliver_early`."""
        self.start += 1
        self._transports = {pid: PeerTransport(self, pid, self.start) for pid in sorted(self._peers)}
        return self._transports

    def deliver_early(self) -> None:
        """Hand over what parties sent that started before us."""
        early, self._early = self._early, []
        self._early_bytes = dict.fromkeys(self._peers, 0)
        self._take_all(early)

    # -- out -----------------------------------------------------------------------------------------------

    def flush_in_turn(self) -> None:
        """Flush at the end of this loop tick."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_in_turn)

    def _flush_in_turn(self) -> None:
        self._flushing = False
        self.flush()

    def flush(self) -> None:
        """Send all that waits for the end of the loop tick, with one system call."""
        dirty = self.dirty
        if not dirty:
            return
        self.dirty = []
        pieces: list[bytes] = []
        for transport in dirty:
            chunks, transport.buffer = transport.buffer, []
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            size = len(data)
            if size > PIECE or (len(chunks) > 1 and not self._coalesce):
                self._send_all(pieces)
                pieces = []
                self._send_many(transport, chunks)
            else:
                pieces += HEADER.pack(_DATA, transport.pid, transport.start, size), data
        if pieces:
            self.send_frame(b"".join(pieces))

    def _send_all(self, pieces: list[bytes]) -> None:
        if pieces:
            self.send_frame(b"".join(pieces))

    def _send_many(self, transport: PeerTransport, chunks: list[bytes]) -> None:
        """Frame by frame: what is large is copied no more often than it has to be."""
        pid, start = transport.pid, transport.start
        if not self._coalesce:
            for chunk in chunks:
                self.send_frame(encode(_DATA, pid, start, chunk))
            return
        view = memoryview(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        for place in range(0, len(view), PIECE):
            self.send_frame(encode(_DATA, pid, start, view[place : place + PIECE]))

    def send_frame(self, data: bytes) -> None:
        """Write, and keep what the socket does not take now."""
        sent = 0
        if not self._unsent:
            try:
                sent = self._channel.send(data)
            except BlockingIOError:
                pass
            except OSError:
                return  # the channel process is gone: the reader sees it too, and says so
            if sent == len(data):
                return
            self._loop.add_writer(self._channel.fileno(), self._writable)
        self._unsent.append(memoryview(data)[sent:])
        self._unsent_bytes += len(data) - sent
        if self._unsent_bytes > MAX_UNSENT:
            what = f"More than {MAX_UNSENT:,} bytes wait to be sent, and the channel process takes none."
            self._fail(Failure("channel", what))

    def _writable(self) -> None:
        try:
            while self._unsent:
                sent = self._channel.send(self._unsent[0])
                self._unsent_bytes -= sent
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
        self._loop.remove_writer(self._channel.fileno())

    def finish(self, last: bytes, *, timeout: float | None) -> None:
        """Send what is left and then `last`; wait up to `timeout` for the channel process to take it."""
        self.flush()
        with suppress(OSError):  # it is gone: there is no one to tell
            self._channel.settimeout(timeout)
            for data in self._unsent:
                self._channel.sendall(data)
            self._channel.sendall(last)
            # Were our end closed now, what the channel process writes at this moment would fail, and it would
            # give up before it has read `last`. So it reads the end first, and then closes.
            self._channel.shutdown(socket.SHUT_WR)
            latest = time.monotonic() + FAREWELL
            while (left := latest - time.monotonic()) > 0:
                self._channel.settimeout(left)
                if not self._channel.recv(READ_SIZE):
                    break

    # -- in ------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self._channel.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._channel.fileno())
            self._fail(
                Failure("channel", "The connection to the other parties is gone: the channel process ended.")
            )
            return
        self.receives += 1
        self.octets_read += len(data)
        self.leads = 0
        if self.on_activity is not None:
            self.on_activity()
        try:
            frames = self._decoder.feed(data)
        except WireError as error:
            self._take_all(error.before)
            self._fail_at(error)
        else:
            self._take_all(frames)

    def _take_all(self, frames: Iterable[Frame]) -> None:
        try:
            for frame in frames:
                kind, pid, start, payload = frame
                if kind is _DATA and start == self.start and (transport := self._transports.get(pid)):
                    # Once closed: as on a TCP connection, no one listens.
                    if transport.peer is not None and not transport.closed:
                        transport.peer.data_received(payload)
                else:
                    self._take(frame)
        except PeerFault as fault:
            self._fail(Failure("peer", fault.what, pid=fault.pid))
        except WireError as error:
            self._fail_at(error)

    def _fail_at(self, error: WireError) -> None:
        self._fail(Failure("channel", "The channel process sent what is no frame.", str(error)))

    def _take(self, frame: Frame) -> None:
        kind, pid, start, payload = frame
        if kind is FrameType.GO:
            self.go.set()
            return
        if kind not in (FrameType.DATA, FrameType.END) or pid not in self._peers:
            raise WireError(f"An unexpected {kind.name} frame for party {pid}.")
        if start > self.start:
            self._keep_early(frame)
            return
        transport = self._transports.get(pid)
        # Of a generation that has ended, or after our own close: as on a TCP connection, no one listens.
        if start < self.start or transport is None or transport.closed or transport.peer is None:
            return
        if kind is FrameType.DATA:
            transport.peer.data_received(payload)
        else:
            transport.peer.peer_ended()

    def _keep_early(self, frame: Frame) -> None:
        size = self._early_bytes[frame.pid] + len(frame.payload) + 64  # an empty frame costs memory as well
        if size > self._limits.octets:
            raise PeerFault(
                frame.pid, f"sent more than {self._limits.octets:,} bytes before our program started"
            )
        self._early_bytes[frame.pid] = size
        self._early.append(frame)

    def lost_soon(self, transport: PeerTransport) -> None:
        """Tell MPyC, as asyncio does, in the next loop tick."""
        if transport.peer is not None:
            self._loop.call_soon(transport.peer.connection_lost, None)
