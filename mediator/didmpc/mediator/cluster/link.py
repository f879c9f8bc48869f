"""One link: a sealed connection to another node, over which channels, doorbells and hand-overs go.

To the relay it is a leg like any other, so control goes before packets, channels take turns, and one that
waits holds up no other. A slow node holds up nobody here: what waits for it is bounded by the credit of the
channels, and by `CONTROL_FRAMES`.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from didmpc.mediator.cluster.messages import PROTOCOL, Message, Ready, decode, encode
from didmpc.mediator.cluster.wire import Wire
from didmpc.mediator.limits import Limits
from didmpc.mediator.relay.legs import End, Leg, give_back
from didmpc.mediator.relay.relay import Relay
from didmpc.protocols.errors import SessionError
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import UnboundReason
from didmpc.protocols.session.handshake import Established
from didmpc.protocols.session.packet import unsealed

log = logging.getLogger(__name__)

CONTROL_FRAMES = 16_384
"""That wait for a node which does not read; then the link is given up. Doorbells stop at half of it."""
PING_AFTER = 2.0
DEAD_AFTER = 6.0
"""Seconds of silence after which a link is given up."""
BEAT = 0.5


class LinkLeg(Leg):
    """A leg of the relay whose other side is a node."""

    def pass_on(self, end: End, packet: bytearray, cost: int, now: float) -> bool:
        super().pass_on(end, packet, cost, now)
        return False  # credit comes from the node where the bytes reach a client

    def queue_control(self, frame: bytes) -> None:
        if self.waiting >= CONTROL_FRAMES:
            self.abort("does not read")
        else:
            self._control.append(unsealed(frame))
            self._wake.set()

    @property
    def waiting(self) -> int:
        """Control frames that wait to be sent."""
        return len(self._control)


class Link:
    """A connection whose handshake is done. It is up once the other side has proven its keys (`Ready`)."""

    def __init__(
        self,
        wire: Wire,
        established: Established,
        *,
        me: int,
        peer: int,
        limits: Limits,
        relay: Relay,
        on_up: "Callable[[Link], None]",
        on_message: "Callable[[Link, Message | hop.Unbound | hop.Error], None]",
        on_lost: "Callable[[Link], None]",
    ) -> None:
        self.peer = peer
        self.is_up = False
        self.since = time.time()
        self._wire = wire
        self._me = me
        self._relay = relay
        self._on_up = on_up
        self._on_message = on_message
        self._on_lost = on_lost
        self._dialled = established.role == "initiator"
        self._number = 1 if self._dialled else 0  # both sides number channels: one oddly, one evenly
        self.ended = asyncio.Event()
        self._heard = self._pinged = time.monotonic()
        self._beat = asyncio.get_running_loop().call_later(BEAT, self._look_after)
        self.leg = LinkLeg(
            established,
            write=wire.write,
            write_now=wire.write_now,
            has_room=wire.has_room,
            abort=self.abort,
            limits=limits,
            address="",
        )
        wire.trust()
        wire.on_message, wire.on_lost = self._packet, self._lost
        if self._dialled:
            self._say_ready()  # the responder sends nothing before it has proof of us

    def tell(self, message: Message, *, may_drop: bool = False) -> None:
        """Say something; `may_drop` where it is only a hint and the other node is slow."""
        if not (may_drop and self.leg.waiting > CONTROL_FRAMES // 2):
            self.leg.control(encode(message))

    def unbind(self, number: int) -> None:
        """There is no end with this number here."""
        self.leg.control(hop.encode_unbound(number, UnboundReason.LEFT))

    def new_number(self) -> int:
        """For a channel."""
        while True:
            self._number = (self._number + 2) & hop.MAX_CHANNEL
            if self._number not in self.leg.ends:
                return self._number

    def close(self) -> None:
        """End it when what was said has left."""
        self._wire.close()

    def abort(self, reason: str) -> None:
        """End it at once."""
        if not self._wire.is_lost:
            log.warning("the link to node %d is given up: the node %s", self.peer, reason)
        self._wire.abort()

    # --- inner

    def _say_ready(self) -> None:
        self.tell(Ready(self._me, PROTOCOL))

    def _packet(self, packet: bytearray) -> None:
        self._heard = time.monotonic()
        try:
            frame = self.leg.open(packet)
            if self.is_up and hop.is_data(frame):
                self._relay.pass_on(self.leg, packet, frame, self._heard)
            else:
                self._take(decode(bytes(frame)))
        except SessionError as error:
            # TCP keeps order and content, so this is no accident of the network.
            self.abort(f"sent what cannot be read: {error.what}")

    def _take(self, frame: Message | hop.Frame) -> None:
        if not self.is_up:
            self._begin(frame)
            return
        match frame:
            case hop.Ping(token):
                self.leg.control(hop.encode_pong(token))
            case hop.Pong():
                pass
            case hop.Credit(number, count):
                end = self.leg.ends.get(number)
                if end is not None and end.far is not None:
                    give_back(end.far, count)
            case hop.Unbound(number) | hop.Error(number):
                end = self.leg.ends.get(number)
                if end is not None:
                    self._relay.part(end)
                else:
                    self._on_message(self, frame)
            case hop.Data() | hop.Bind() | hop.Bound() | Ready():
                raise SessionError("A node sent what has no meaning between nodes.")
            case _:
                self._on_message(self, frame)

    def _begin(self, frame: Message | hop.Frame) -> None:
        if not isinstance(frame, Ready) or frame.node != self.peer:
            raise SessionError("A node does not say which one it is.")
        if frame.protocol != PROTOCOL:
            raise SessionError(f"A node speaks version {frame.protocol} of links, this one {PROTOCOL}.")
        self.is_up = True
        if not self._dialled:
            self._say_ready()
        self._relay.join_link(self.leg)
        self._on_up(self)

    def _lost(self) -> None:
        self._beat.cancel()
        self._relay.leave_link(self.leg)
        self.ended.set()
        self._on_lost(self)

    def _look_after(self) -> None:
        """Ask a silent node, and give up one that does not answer."""
        now = time.monotonic()
        silent = now - self._heard
        if silent >= DEAD_AFTER:
            self.abort("does not answer")
            return
        if self.is_up and silent >= PING_AFTER and now - self._pinged >= PING_AFTER:
            self._pinged = now
            self.leg.control(hop.encode_ping(int(now * 1e6).to_bytes(8, "big")))
        self._beat = asyncio.get_running_loop().call_later(BEAT, self._look_after)
