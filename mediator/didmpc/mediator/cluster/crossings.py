"""Channels whose ends are bound at two nodes.

A bind writes down in the table `bound` where the end is, and finds there where the other one is. Then the two
nodes connect them: `Meet` says how much this node has set aside for them, `Met` what the other one has, and
which credit each may give its client. From there on packets go over the link under a number of their own, and
what a client has taken comes back as credit: so what waits is bounded, at both nodes.

A link or node that is lost is an UNBOUND for the ends that are left. They are connected again when the link
is back, or when the other end is bound at another node. Nothing is kept: what was lost, the parties send
again.
"""

import asyncio
import logging
import time
from collections.abc import Mapping

from didmpc.mediator.cluster.coalesce import Coalesced
from didmpc.mediator.cluster.link import Link
from didmpc.mediator.cluster.links import Links
from didmpc.mediator.cluster.messages import Displaced, Meet, Message, Met, Revoked
from didmpc.mediator.cluster.tables import Bound, Found, Tables
from didmpc.mediator.neighbours import Binding, Place
from didmpc.mediator.relay.legs import End
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.store import StoreFailed
from didmpc.protocols.relay import hop

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""After so long a `Meet` is not waited for any more."""


class _Meeting:
    """An end that waits for its other one to answer."""

    def __init__(self, end: End, link: Link, far: Place) -> None:
        self.end = end
        self.link = link
        self.far = far
        self.since = time.monotonic()


class Crossings:
    def __init__(self, me: int, tables: Tables, links: Links, relay: Relay) -> None:
        self._me = me
        self._tables = tables
        self._links = links
        self._relay = relay
        self._binds = Coalesced(self._bind)
        self._binding: dict[tuple[int, int], asyncio.Lock] = {}
        self._meetings: dict[tuple[Link, int], _Meeting] = {}
        self._unbound: set[tuple[int, int, int]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await self._binds.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    # --- what the relay asks

    async def bind(self, channel: int, side: int) -> Binding:
        place = (channel, side)
        lock = self._binding.setdefault(place, asyncio.Lock())
        async with lock:  # so that each bind has an epoch of its own
            found = await self._binds.ask(place)
        if not lock.locked():
            self._binding.pop(place, None)
        if found is None:
            raise StoreFailed("The database does not say where a channel is bound.")
        if found.former is not None and found.former != self._me:
            self._links.tell(found.former, Displaced(channel, side, found.epoch))
        is_elsewhere = found.far is not None and found.far.node != self._me
        return Binding(found.epoch, found.far if is_elsewhere else None)

    def meet(self, end: End, far: Place) -> None:
        link = self._links.up.get(far.node)
        window = self._relay.window_for(end)
        if link is None or not window:
            return  # `look` comes back to it
        number = link.new_number()
        while (link, number) in self._meetings:
            number = link.new_number()
        self._meetings[link, number] = _Meeting(end, link, far)
        credit = max(0, window - end.queued)
        link.tell(Meet(number, end.channel, end.side, end.epoch, far.epoch, window, credit))

    def unbind(self, end: End) -> None:
        self._unbound.add((end.channel, end.side, end.epoch))
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep(), name="unbinding")

    # --- what other nodes say

    def heard(self, link: Link, message: Message | hop.Unbound | hop.Error) -> bool:
        """Act on a message; False where it is not for us."""
        match message:
            case Meet():
                self._asked(link, message)
            case Met(number, window, credit):
                self._answered(link, number, window, credit)
            case hop.Unbound(number) | hop.Error(number):
                self._meetings.pop((link, number), None)
            case Displaced(channel, side, epoch):
                end = self._relay.bound_at(channel, side)
                if end is not None and end.epoch < epoch:
                    self._relay.displace(end)
            case Revoked(channels):
                self._relay.revoke(channels)
            case _:
                return False
        return True

    def _asked(self, link: Link, meet: Meet) -> None:
        mine = self._relay.bound_at(meet.channel, 1 - meet.side)
        if mine is None or mine.epoch != meet.far_epoch or not self._gives_way(mine, meet):
            link.unbind(meet.number)
            return
        window = min(meet.window, self._relay.window_for(mine))
        if not window:
            link.unbind(meet.number)  # no memory left; asked again, there may be
            return
        credit = max(0, window - mine.queued)
        # Before anything goes there under this number.
        link.tell(Met(meet.number, window, credit))
        self._relay.connect_elsewhere(mine, link.leg, meet.number, window, meet.credit, meet.epoch)

    def _gives_way(self, mine: End, meet: Meet) -> bool:
        """Whether to be met by another node: not by a bind that is over, nor where we meet it ourselves.

        Of two that meet each other the one of side 0 goes on.
        """
        if mine.far is not None and mine.far.elsewhere and mine.far.epoch > meet.epoch:
            return False
        for key, meeting in list(self._meetings.items()):
            if meeting.end is mine:
                if mine.side == 0 and meeting.far.epoch >= meet.epoch:
                    return False
                del self._meetings[key]
        return True

    def _answered(self, link: Link, number: int, window: int, credit: int) -> None:
        meeting = self._meetings.pop((link, number), None)
        end = None if meeting is None else meeting.end
        if meeting is None or end is None or not self._waits(end):
            link.unbind(number)
            return
        self._relay.connect_elsewhere(end, link.leg, number, window, credit, meeting.far.epoch)

    def _waits(self, end: End) -> bool:
        return end.far is None and self._relay.bound_at(end.channel, end.side) is end

    def link_lost(self, link: Link) -> None:
        for key in [key for key in self._meetings if key[0] is link]:
            del self._meetings[key]

    # --- what the database says

    async def look(self, *, at_all: bool = False) -> None:
        """Connect the ends that wait, where the database says where their other ones are.

        `at_all`: see also whether those that are bound here still should be. Raises `StoreFailed`.
        """
        overdue = time.monotonic() - ANSWER_SECONDS
        for key, meeting in list(self._meetings.items()):
            if meeting.since < overdue:
                del self._meetings[key]
        ends = [end for end in self._relay.bound_here() if at_all or end.far is None]
        if not ends:
            return
        found = {
            (item.channel, item.side): item
            for item in await self._tables.whereabouts({end.channel for end in ends})
        }
        for end in ends:
            self._put_right(end, found)
        if at_all:
            await self._write_again(ends, found)
            self._relay.revoke(await self._tables.gone({end.channel for end in ends}))

    def _put_right(self, end: End, found: Mapping[tuple[int, int], Found]) -> None:
        here = found.get((end.channel, end.side))
        if here is not None and here.place.node != self._me and here.place.epoch > end.epoch:
            if self._relay.bound_at(end.channel, end.side) is end:
                self._relay.displace(end)
            return
        far = found.get((end.channel, 1 - end.side))
        if far is None or far.place.node == self._me or not self._waits(end):
            return
        is_meeting = any(meeting.end is end for meeting in self._meetings.values())
        # One of the two is enough.
        if end.side == 0 and not is_meeting:
            self.meet(end, far.place)

    async def _write_again(self, ends: list[End], found: Mapping[tuple[int, int], Found]) -> None:
        lost = [
            (end.channel, end.side, end.epoch)
            for end in ends
            if (end.channel, end.side) not in found and self._relay.bound_at(end.channel, end.side) is end
        ]
        if lost:
            await self._tables.rebind(self._me, lost)

    # --- inner

    async def _bind(self, places: list[tuple[int, int]]) -> Mapping[tuple[int, int], Bound]:
        return await self._tables.bind(self._me, places)

    async def _sweep(self) -> None:
        while self._unbound:
            ends, self._unbound = self._unbound, set()
            try:
                await self._tables.unbind(self._me, ends)
            except StoreFailed as problem:
                log.info("the database is not told what is unbound: %s", problem)
