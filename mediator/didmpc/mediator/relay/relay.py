"""`relay/1.0`: sealed packets pass from one leg to another, unread.

A leg is a WebSocket with a hop session. It binds ends of channels; while both ends of a channel are bound,
what comes in on one goes out on the other. Nothing is dropped and nothing is stored:

- An end may send as much as it has credit for, and gets credit back as the far socket takes its bytes.
  So what waits here is bounded per channel, and one that does not read delays nobody else.
- What waits for a leg goes out channel by channel in turn, control frames first.
- A channel may have a rate: then credit comes back no faster than that.
- When an end leaves, what waited for it is let go: the parties send it again after the next BOUND.

Memory is set aside for a channel only while both its ends are bound, and for each account within its share.

An end may be bound at another node of this mediator (`cluster`). Then another `End` stands in for it here,
on the leg that is the link to that node: what goes out there earns no credit before that node gives it.
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from didmpc.mediator.limits import KIB, Limits
from didmpc.mediator.neighbours import Alone, Binding, Neighbours
from didmpc.mediator.relay.legs import End, Leg, give_back
from didmpc.mediator.relay.pace import Pace
from didmpc.mediator.store import ChannelEnd, Store, StoreFailed
from didmpc.protocols.errors import SessionError
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import ErrorCode, UnboundReason
from didmpc.protocols.session.packet import inside

K = TypeVar("K")

log = logging.getLogger(__name__)

LEAST_CREDIT = 512 * KIB
"""The largest packet, a padded record of 256 KiB, must fit well into it."""
CREDIT_SHARE = 256
"""An end gets at most this part of the memory that is left: so the 300 channels of 25 parties find room."""
ACCOUNT_CREDIT_SHARE = 32
"""And at most this part of what is left to the channel's owner."""


@dataclass(slots=True)
class Traffic:
    """What was relayed since the start."""

    bytes: int = 0
    packets: int = 0


class Relay:
    """All legs and the channels between them."""

    def __init__(self, store: Store, limits: Limits, neighbours: Neighbours | None = None) -> None:
        self._store = store
        self._limits = limits
        self._neighbours = neighbours or Alone()
        self._ends: dict[tuple[int, int], End] = {}
        self._legs: set[Leg] = set()
        self._links: set[Leg] = set()
        self._per_address: Counter[str] = Counter()
        self._memory = limits.relay_memory_bytes  # what is left
        self._reserved: Counter[int] = Counter()  # by account
        self._paces: dict[tuple[int, int], Pace] = {}
        self.traffic = Traffic()

    @property
    def leg_count(self) -> int:
        return len(self._legs)

    @property
    def channel_count(self) -> int:
        """Channels of which an end is bound."""
        return len({channel for channel, _ in self._ends})

    def is_full(self, address: str) -> bool:
        """Whether no more legs are taken, at all or from this address."""
        return (
            len(self._legs) >= self._limits.legs
            or self._per_address[address] >= self._limits.legs_per_address
        )

    def join(self, leg: Leg) -> None:
        self._legs.add(leg)
        self._per_address[leg.address] += 1
        loop = asyncio.get_running_loop()
        leg.patience = loop.call_later(self._limits.leg_unbound_seconds, self._drop_unused, leg)

    def leave(self, leg: Leg) -> None:
        """The socket of a leg has ended."""
        self._legs.discard(leg)
        _subtract(self._per_address, leg.address, 1)
        leg.close()
        for end in list(leg.ends.values()):
            self._detach(end)

    # --- for what connects ends of two nodes

    def join_link(self, leg: Leg) -> None:
        """A link to another node is a leg too, on which ends stand in for those of that node."""
        self._links.add(leg)

    def leave_link(self, leg: Leg) -> None:
        self._links.discard(leg)
        leg.close()
        for end in list(leg.ends.values()):
            self._detach(end)

    def bound_here(self) -> list[End]:
        """The ends whose sockets are on this node."""
        return [end for end in self._ends.values() if not end.elsewhere]

    def bound_at(self, channel: int, side: int) -> End | None:
        """This end, where its socket is on this node."""
        end = self._ends.get((channel, side))
        return None if end is None or end.elsewhere else end

    def window_for(self, end: End) -> int:
        """How much may be set aside for what goes to and comes from this end; at last nothing."""
        return self._credit(end)

    def connect_elsewhere(
        self, end: End, link: Leg, number: int, window: int, credit: int, epoch: int
    ) -> None:
        """Connect an end with its other one, which is at another node and has this number on the link there.

        `end` may send `credit` of `window` at once; the other node gives more as it has room again.
        `epoch` is that of the other end.
        """
        place = (end.channel, 1 - end.side)
        former = self._ends.get(place)
        if former is not None:
            self._detach(former)
        found = ChannelEnd(*place, end.expires, b"", end.account)
        stand_in = End(link, number, found, epoch=epoch, elsewhere=True)
        self._ends[place] = link.ends[number] = stand_in
        link.former.discard(number)
        self._connect(stand_in, end, window, credit)

    def part(self, end: End) -> None:
        """The other end, for which this one stands in, is not there any more."""
        self._detach(end)

    def displace(self, end: End) -> None:
        """It was bound at another node since."""
        self._detach(end, UnboundReason.DISPLACED)

    # --- what comes on a leg

    async def receive(self, leg: Leg, packet: bytearray, now: float) -> None:
        """Act on a packet that was opened by the leg. Raises `SessionError`: then the leg is to be closed."""
        frame = inside(packet)
        if hop.is_data(frame):
            self.pass_on(leg, packet, frame, time.monotonic())
            return
        match hop.decode(bytes(frame)):
            case hop.Bind() as bind:
                code = await self._bind(leg, bind, now)
                if code is not None:
                    leg.control(hop.encode_error(bind.channel, code))
            case hop.Ping(token):
                leg.control(hop.encode_pong(token))
            case hop.Pong():
                pass
            case _:
                raise SessionError("A leg sent what only a mediator sends.")

    def revoke(self, channels: Iterable[int]) -> None:
        """The owner took channels back."""
        self._end_channels(set(channels), UnboundReason.REVOKED)

    def expire(self, now: float) -> None:
        over = {end.channel for end in self._ends.values() if end.expires <= now}
        self._end_channels(over, UnboundReason.EXPIRED)
        clock = time.monotonic()
        for place, pace in list(self._paces.items()):
            if place not in self._ends and pace.is_full(clock):
                del self._paces[place]  # a new one would be no other

    def pass_on(self, leg: Leg, packet: bytearray, frame: memoryview, now: float) -> None:
        """A DATA frame goes to the other end of its channel, in the same turn of the loop where it can.

        It does in the memory of the packet that it came in, where it is `frame`. `now` is monotonic.
        """
        number = hop.channel_of(frame)
        end = leg.ends.get(number)
        if end is None:
            if number not in leg.former:
                leg.control(hop.encode_error(number, ErrorCode.NOT_BOUND))
            return
        cost = len(frame) - hop.HEADER.size
        far = end.far
        if far is None:
            # Sent before it read UNBOUND. It sends it again after BOUND.
            end.allowance = max(0, end.allowance - cost)
            return
        if cost > end.allowance:
            self._detach(end)
            leg.control(hop.encode_error(number, ErrorCode.OVER_CREDIT))
            return
        if end.former or end.pace is not None:
            end.spend(cost, now)
        else:
            end.allowance -= cost
        traffic = self.traffic
        traffic.bytes += cost
        traffic.packets += 1
        hop.readdress(frame, far.number)
        if far.leg.pass_on(far, packet, cost, now):
            end.owed += cost
            if end.owed >= end.piece:
                give_back(end, 0)

    # --- inner

    async def _bind(self, leg: Leg, bind: hop.Bind, now: float) -> ErrorCode | None:
        try:
            return await self._bind_if_allowed(leg, bind, now)
        except StoreFailed as problem:
            log.error("%s", problem)
            return ErrorCode.TOO_MANY_CHANNELS  # which is tried again

    async def _bind_if_allowed(self, leg: Leg, bind: hop.Bind, now: float) -> ErrorCode | None:
        try:
            hop.verify_bind(bind, leg.exporter)
        except SessionError:
            return ErrorCode.BAD_PROOF
        found = await self._store.bind(hashlib.sha256(bind.capability).digest(), bind.rebind_key)
        if found is None:
            return ErrorCode.UNKNOWN_CAPABILITY
        if found.expires <= now:
            return ErrorCode.EXPIRED
        if found.rebind_key != bind.rebind_key:
            return ErrorCode.WRONG_REBIND_KEY
        if leg not in self._legs:
            return None  # its socket ended while we looked
        place = (found.channel, found.side)
        holder = leg.ends.get(bind.channel)
        if holder is not None and (holder.channel, holder.side) != place:
            return ErrorCode.CHANNEL_IN_USE
        here = await self._neighbours.bind(*place)
        end = End(leg, bind.channel, found, self._pace(place, found.rate), epoch=here.epoch)
        code = self._install(end, here) if leg in self._legs else None
        if self._ends.get(place) is not end:
            self._neighbours.unbind(end)
        return code

    def _install(self, end: End, here: Binding) -> ErrorCode | None:
        """Put an end in its place, unless there is no room for it, and connect it with the other one."""
        leg, place = end.leg, (end.channel, end.side)
        holder, former = leg.ends.get(end.number), self._ends.get(place)
        far = self._ends.get((end.channel, 1 - end.side))
        if former is not None and former.epoch > end.epoch:
            leg.control(hop.encode_unbound(end.number, UnboundReason.DISPLACED))  # bound again meanwhile
            return None
        is_full = holder is None and len(leg.ends) >= self._limits.channels_per_leg
        # An end that is bound anew takes the place of its former self, whose memory is there again.
        is_short = former is None and far is not None and not self._credit(far)
        if is_full or is_short:
            return ErrorCode.TOO_MANY_CHANNELS
        if former is not None:
            self._detach(former, None if former is holder else UnboundReason.DISPLACED)
        if far is not None and here.far is not None:
            self._detach(far, UnboundReason.DISPLACED)  # its owner has gone to another node meanwhile
        self._ends[place] = leg.ends[end.number] = end
        leg.former.discard(end.number)
        far = self._ends.get(
            (end.channel, 1 - end.side)
        )  # what stood in for one elsewhere went with `former`
        if far is not None:
            self._connect(end, far)
        elif here.far is not None:
            self._neighbours.meet(end, here.far)
        return None

    def _connect(self, new: End, stayed: End, window: int = 0, credit: int | None = None) -> None:
        """Both ends are bound: each may send, on what is a fresh path for it.

        `window` and `credit`, where the node of `new` has a say in them.
        """
        new.far, stayed.far = stayed, new
        former_window = stayed.window
        # The least is there also when memory is short: else this bind was refused, or both had it before.
        least = min(self._limits.credit_bytes, LEAST_CREDIT)
        new.window = stayed.window = window or self._credit(stayed) or least
        for end in (new, stayed):
            end.piece = end.window // 4 if end.pace is None else end.pace.piece
        now = time.monotonic()
        # What the former holder of this end sent still waits: its credit comes back as that goes out.
        new.allowance = new.grant(max(0, new.window - stayed.queued), now)
        # Packets that it sent before it reads this BOUND count too; they are within what it had.
        stayed.former = min(stayed.allowance, former_window)
        grant = stayed.grant(stayed.window if credit is None else min(credit, stayed.window), now)
        stayed.allowance = stayed.former + grant
        self._reserve(new, stayed.allowance + stayed.owed)
        self._reserve(stayed, new.allowance + new.owed + stayed.queued)
        # Credit that comes back must not overtake this BOUND, so it goes the same way as CREDIT.
        if new.elsewhere:
            new.allowance += self._limits.credit_bytes  # for what was sent there before a BOUND was read
        else:
            new.leg.control(hop.encode_bound(new.number, new.allowance))
        stayed.leg.notice(stayed, hop.encode_bound(stayed.number, grant))
        if new.owed:
            new.pay()

    def _detach(self, end: End, reason: UnboundReason | None = None) -> None:
        """Take an end from its leg; the other end hears of it, this one only for a reason given."""
        if self._ends.get((end.channel, end.side)) is not end:
            return
        self._take_off(end)
        end.close()
        self._reserve(end, 0)
        far, end.far = end.far, None
        end.queue.clear()
        end.queued = 0
        if reason is not None and self._is_joined(end.leg):
            end.leg.notice(end, hop.encode_unbound(end.number, reason))
        if far is not None:
            far.far = None
            far.owed = 0
            far.close()
            self._reserve(far, far.queued)  # what still goes out there, and nothing more comes
            if self._is_joined(far.leg):
                far.leg.notice(far, hop.encode_unbound(far.number, UnboundReason.LEFT))
            if far.elsewhere:
                self._take_off(far)
                self._reserve(far, 0)  # what waits for it still goes out
        if not end.elsewhere:
            self._neighbours.unbind(end)

    def _take_off(self, end: End) -> None:
        del self._ends[end.channel, end.side]
        del end.leg.ends[end.number]
        if len(end.leg.former) < self._limits.channels_per_leg:
            end.leg.former.add(end.number)

    def _is_joined(self, leg: Leg) -> bool:
        return leg in self._legs or leg in self._links

    def _end_channels(self, channels: set[int], reason: UnboundReason) -> None:
        for end in [end for end in self._ends.values() if end.channel in channels]:
            self._detach(end, reason)

    def _pace(self, place: tuple[int, int], rate: int) -> Pace | None:
        if not rate:
            return None
        if place not in self._paces:
            burst = min(self._limits.credit_bytes, max(LEAST_CREDIT, rate))
            self._paces[place] = Pace(rate, burst, time.monotonic())
        return self._paces[place]

    def _credit(self, end: End) -> int:
        """What each end of this channel gets when they meet: less and less as memory is given away.

        At last nothing. What still waits for `end` counts as its own.
        """
        left = self._memory + end.reserved
        of_account = self._limits.relay_account_bytes - self._reserved[end.account] + end.reserved
        share = min(left // CREDIT_SHARE, of_account // ACCOUNT_CREDIT_SHARE)
        window = min(self._limits.credit_bytes, max(LEAST_CREDIT, share))
        return window if 2 * window <= min(left, of_account) else 0

    def _reserve(self, end: End, count: int) -> None:
        self._memory += end.reserved - count
        _subtract(self._reserved, end.account, end.reserved - count)
        end.reserved = count

    def _drop_unused(self, leg: Leg) -> None:
        if not (leg.ends or leg.former):
            leg.abort("has bound no channel")


def _subtract(counter: Counter[K], key: K, count: int) -> None:
    """So that what is down to nothing leaves no entry."""
    counter[key] -= count
    if not counter[key]:
        del counter[key]
