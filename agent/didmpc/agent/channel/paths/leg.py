"""One leg: a WebSocket to a mediator, and the hop session on it (session.md, section 5).

The hop session is made by the same handshake as any other, under a throwaway did:key: the mediator learns
an address and no identity. Afterwards every binary message is one sealed hop frame.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from didmpc.agent.channel.clock import now
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.paths.path import LinkEnd
from didmpc.agent.channel.paths.websocket import TEXT, WebSocket, mask, masked_frame
from didmpc.protocols import did as dids
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.errors import DidmpcError, SessionError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.relay import hop
from didmpc.protocols.session.handshake import ACCEPT, OPEN, Initiation, Party
from didmpc.protocols.session.packet import PacketOpener, PacketSealer, unsealed

HANDSHAKE_TIMEOUT = 10.0
OPEN_LIFETIME = 60
PING_AFTER = 2.0
DEAD_AFTER = 8.0
_LARGE = 4096  # bytes; for a smaller frame copies are cheaper than looking after its memory
_DATA, _HEAD = hop.FrameType.DATA.value, hop.HEADER.size
_clock = time.perf_counter


class Leg:
    """Open it with `open`, then send frames; `lost` is done, with the reason, once it is gone."""

    envelopes = 2
    """DIDComm messages that opening a leg takes: an `open` and an `accept`."""

    def __init__(
        self,
        *,
        ends: Mapping[int, LinkEnd],
        on_frame: Callable[[hop.Frame], None],
        on_read: Callable[[float], None],
        on_writable: Callable[[], None],
        limits: Limits,
    ) -> None:
        self._ends = ends  # by the numbers of their channels
        self._on_frame = on_frame
        self._after_read = on_read
        self.socket = WebSocket(
            on_message=self._answered,
            on_read=self._read,
            on_writable=on_writable,
            on_lost=self._set_lost,
            frame_limit=limits.relay_frame,
            buffer_limit=limits.relay_buffer,
        )
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._sealer: PacketSealer | None = None
        self._opener: PacketOpener | None = None
        self._out: list[bytes | bytearray] = []
        self._heard = self._pinged = now()
        self.exporter = b""
        self.crypto_seconds = 0.0

    async def open(self, http: aiohttp.ClientSession, mediator: str, url: str) -> None:
        """Dial and shake hands. Raises aiohttp.ClientError, TimeoutError, OSError or DidmpcError."""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                await self.socket.dial(http, url, HANDSHAKE_TIMEOUT)
                await self._shake_hands(dids.resolve(mediator))
        except BaseException:
            self.abort()
            raise

    async def _shake_hands(self, mediator: dids.DIDDocument) -> None:
        me = Identity.key()
        request = Message(
            type=OPEN,
            from_=me.did,
            to=(mediator.did,),
            expires_time=int(time.time()) + OPEN_LIFETIME,
            return_route="all",
        )
        initiation = Initiation(Party.of(me), Party.of(mediator), request.id)
        request.body.update(initiation.body)
        self.socket.write([masked_frame(pack_authcrypt(request, me, mediator), TEXT)])
        either: set[asyncio.Future[Any]] = {self._answer, self.lost}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise SessionError("The mediator closed the connection.", why=self.lost.result())
        answer = unpack(self._answer.result(), Identities(me))
        if answer.sender is None or not dids.same_party(answer.sender, mediator.did):
            raise SessionError("Somebody else than the mediator answered.")
        if answer.message.type != ACCEPT or answer.message.thread != request.id:
            raise SessionError("The mediator does not relay sessions.", why=f"Answer: {answer.message.type}")
        session = initiation.finish(answer.message.body)
        self._sealer = PacketSealer(session.secret_send, session.sid_out, ordered=True)
        self._opener = PacketOpener(session.secret_receive, session.sid_in)
        self.exporter = session.exporter
        self.socket.on_message = self._packet

    # --- sending

    @property
    def unwritten(self) -> int:
        """Bytes that wait for the socket."""
        return self.socket.unwritten

    def send(self, head: bytes, payload: bytes = b"") -> None:
        """Seal one hop frame; it leaves with `flush`, in one write with all the others."""
        sealer = self._sealer
        assert sealer is not None
        started = _clock()
        if len(payload) < _LARGE:
            packet = sealer.seal(head + payload)
            self.crypto_seconds += _clock() - started
            self._out.append(masked_frame(packet))
        else:  # copied once, and then sealed and masked where it is
            room = unsealed(head, payload)
            sealer.seal_in_place(room)
            self.crypto_seconds += _clock() - started
            self._out += mask(room), room

    def flush(self) -> None:
        if self._out:
            frames, self._out = self._out, []
            self.socket.write(frames)

    def beat(self, now: float, silence: Callable[[float, float], float]) -> None:
        """Ask a silent mediator for a sign; give up a dead one (a new leg is made then)."""
        silent = silence(self._heard, now)
        if silent > DEAD_AFTER:
            self.abort()
        elif silent > PING_AFTER and now - self._pinged > PING_AFTER:
            self._pinged = now
            self.send(hop.encode_ping(int(now * 1e6).to_bytes(8, "big")))
            self.flush()

    async def close(self, timeout: float) -> None:
        self.flush()
        await self.socket.close(timeout)

    def abort(self) -> None:
        self.socket.abort()

    # --- receiving

    def _answered(self, message: bytes | memoryview) -> None:
        """Before the session is there, only its `accept` is looked at."""
        if not self._answer.done():
            self._answer.set_result(bytes(message))

    def _packet(self, packet: bytes | memoryview) -> None:
        opener = self._opener
        assert opener is not None
        started = _clock()
        try:
            frame = opener.open(packet)
            self.crypto_seconds += _clock() - started
            if len(frame) >= _HEAD and frame[0] == _DATA:
                end = self._ends.get(int.from_bytes(frame[1:_HEAD], "big"))
                if end is not None:
                    large = len(frame) > _LARGE
                    end.packet_received(memoryview(frame)[_HEAD:] if large else frame[_HEAD:])
            else:
                self._control(hop.decode(frame))
        except DidmpcError:
            # WebSockets keep order and content: this is no accident of the network. A new leg starts afresh.
            if packet[:1] != b"{":  # an envelope: once there is a session, nothing counts that is not sealed
                self.abort()

    def _control(self, frame: hop.Frame) -> None:
        if isinstance(frame, hop.Ping):
            self.send(hop.encode_pong(frame.token))
        elif not isinstance(frame, hop.Pong):
            self._on_frame(frame)

    def _read(self) -> None:
        self._heard = at = now()
        if self._opener is not None:
            self._after_read(at)
            if self._out:
                self.flush()

    def _set_lost(self, reason: str) -> None:
        self._out.clear()
        if not self.lost.done():
            self.lost.set_result(reason)
