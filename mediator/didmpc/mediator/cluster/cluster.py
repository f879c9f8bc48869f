"""This node among the others: its lease, its links, and what it asks of the others and tells them."""

import asyncio
import contextlib
import importlib.metadata
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

from didmpc.mediator.cluster import lease as leases
from didmpc.mediator.cluster.crossings import Crossings
from didmpc.mediator.cluster.lease import Lease
from didmpc.mediator.cluster.link import Link
from didmpc.mediator.cluster.links import Links, Peer
from didmpc.mediator.cluster.messages import PROTOCOL, Dropped, Leaving, Message, Revoked, ShutOut, Standing
from didmpc.mediator.cluster.presence import Presence
from didmpc.mediator.cluster.tables import Beat, NodeRow, Tables
from didmpc.mediator.host.home import is_loopback
from didmpc.mediator.limits import Limits
from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.neighbours import Binding, Neighbours, Place
from didmpc.mediator.relay.legs import End
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.sockets.batch import Batch
from didmpc.mediator.store import StoreFailed
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.identity import Identity
from didmpc.protocols.relay import hop

log = logging.getLogger(__name__)

LOOK_AROUND = 5
"""Every so many beats."""
PART_AFTER = 5.0
"""Seconds without a lease, while other nodes have theirs, after which live sockets are sent to those."""
WORTH_SAYING = 5.0
"""Seconds by which a clock differs."""
MOST_CHANNELS = 10_000
NOT_RENEWED = "this node cannot renew its lease: %s"


class Here(Protocol):
    """What the cluster has this node do."""

    async def shut_out_here(self, did: str, channels: tuple[int, ...]) -> int:
        """Close what belongs to an account that is no more."""

    async def part(self) -> None:
        """Send live sockets to other nodes."""

    def load(self) -> Mapping[str, int]:
        """How much there is here, for `didmpc mediator nodes`."""


class Cluster(Neighbours):
    """`join` it before anything is served, `start` it when all is wired, `leave` it at the end."""

    def __init__(self, tables: Tables, identity: Identity, url: str, listener: socket.socket) -> None:
        self._tables = tables
        self._identity = identity
        self._url = url
        self._listener = listener
        self._lease = Lease()
        self._nodes: dict[int, NodeRow] = {}
        self._term = ""  # of the last beat
        self._standing: dict[int, bool] = {}  # of other nodes: whether they reach the database
        self._said: bool | None = None
        self._lost_since: float | None = None
        self._is_parted = False
        self._is_failing = False
        self._beats: asyncio.Task[None] | None = None
        self._looks: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.id = 0
        self.ahead = 0.0
        """Seconds by which this machine's clock is ahead of the database's."""
        self._presence: Presence
        self._crossings: Crossings
        self._links: Links
        self._deliveries: Deliveries
        self._here: Here

    @classmethod
    async def join(
        cls, tables: Tables, *, keys: str, public_url: str, url: str, listener: socket.socket
    ) -> Self:
        """Take a place among the nodes of this mediator. Raises `LocalMisuse`, `StoreFailed`.

        `keys` stands for those of the mediator; `url` is where other nodes reach the `listener`.
        """
        await tables.begin_term(leases.SECONDS)
        # Not who was there at last: nobody waits for those, where all have died.
        others = [node for node in await tables.nodes() if node.lease_seconds > 0 and node.url != url]
        await _identify(tables, keys, public_url, alone=not others)
        _check_others(others, url)
        cluster = cls(tables, Identity.key(), url, listener)
        asked = leases.now()
        cluster.id = await tables.register(url, cluster._identity.did, version(), cluster._lease.seconds)
        cluster._lease.renewed(asked)
        await cluster._beat({})
        if abs(cluster.ahead) >= WORTH_SAYING:
            log.warning(
                "the clock of this machine is %.0f s %s that of the database",
                abs(cluster.ahead),
                "ahead of" if cluster.ahead > 0 else "behind",
            )
        return cluster

    async def start(
        self, deliveries: Deliveries, relay: Relay, here: Here, batch: Batch, limits: Limits
    ) -> None:
        """Link up with the other nodes."""
        self._deliveries = deliveries
        self._here = here
        self._links = Links(
            *(self.id, self._identity, batch, relay, limits),
            find=self._find,
            on_up=self._linked,
            on_message=self._heard,
            on_lost=self._unlinked,
        )
        self._presence = Presence(self.id, self._tables, self._lease, self._links, deliveries)
        self._crossings = Crossings(self.id, self._tables, self._links, relay)
        await self._links.start(self._listener)
        self._links.know(self._peers())
        self._beats = asyncio.create_task(self._keep_beating(), name="heartbeat")
        self._looks = asyncio.create_task(self._keep_looking(), name="what other nodes said")

    async def leave(self) -> None:
        """Give back what this node has: others need not wait for the end of its lease."""
        for task in (self._beats, self._looks, *self._tasks):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._crossings.close()
        await self._presence.close()
        self._lease.lost()
        with contextlib.suppress(StoreFailed, TimeoutError):
            async with asyncio.timeout(self._lease.seconds):
                await self._tables.leave(self.id)
        self._links.tell_all(Leaving())
        await self._links.close()

    # --- for the operator

    async def nodes(self) -> list[dict[str, Any]]:
        """All nodes; the others as they said of themselves at their last beat."""
        return [
            {
                "id": node.id,
                "url": node.url,
                "this": node.id == self.id,
                "there": node.is_there,
                "version": node.version,
                "since": node.since,
                "lease_seconds": round(node.lease_seconds, 1),
                **(self._figures() if node.id == self.id else node.figures),
            }
            for node in await self._tables.nodes()
        ]

    def clock(self) -> float:
        """The time of the database, which is the same for all nodes."""
        return time.time() - self.ahead

    @property
    def is_in(self) -> bool:
        """Whether this node holds its lease."""
        return self._lease.is_held

    # --- Neighbours

    @property
    def nodes_there(self) -> int:
        return 1 + len(self._nodes)

    def delivers(self, account: str) -> bool:
        return self._presence.delivers(account)

    def attach(self, account: str) -> None:
        self._presence.attach(account)

    def detach(self, account: str) -> None:
        self._presence.detach(account)

    def ring(self, account: str, due: float) -> None:
        self._presence.ring(account, due)

    def freed(self, account: str, seqs: Collection[int]) -> None:
        self._presence.freed(account, seqs)

    def acknowledged(self, account: str, seqs: Sequence[int]) -> None:
        self._presence.acknowledged(account, seqs)

    async def held_elsewhere(self, account: str) -> frozenset[int]:
        return await self._presence.held_elsewhere(account)

    async def of_these_deleted(self, seqs: Collection[int]) -> frozenset[int]:
        return frozenset(seqs) - await self._tables.still_there(seqs)

    async def bind(self, channel: int, side: int) -> Binding:
        return await self._crossings.bind(channel, side)

    def meet(self, end: End, far: Place) -> None:
        self._crossings.meet(end, far)

    def unbind(self, end: End) -> None:
        self._crossings.unbind(end)

    def revoked(self, channels: Iterable[int]) -> None:
        told = tuple(channels)[:MOST_CHANNELS]
        if told:
            self._links.tell_all(Revoked(told))

    def dropped(self, account: str) -> None:
        self._links.tell_all(Dropped(account))

    def shut_out(self, account: str, channels: Iterable[int]) -> None:
        self._links.tell_all(ShutOut(account, tuple(channels)[:MOST_CHANNELS]))

    # --- the lease

    async def _keep_beating(self) -> None:
        while True:
            began = leases.now()
            try:
                async with asyncio.timeout(self._lease.seconds):
                    await self._beat(self._figures())
            except (StoreFailed, TimeoutError) as problem:
                why = str(problem) or "The database does not answer."
                log.log(logging.INFO if self._is_failing else logging.ERROR, NOT_RENEWED, why)
                self._is_failing = True
            else:
                if self._is_failing:
                    log.warning("this node renews its lease again")
                self._is_failing = False
            self._say_standing()
            await self._consider_parting()
            await asyncio.sleep(max(0.1, leases.BEAT - (leases.now() - began)))

    async def _beat(self, figures: Mapping[str, Any]) -> None:
        """Renew the lease; where it has ended meanwhile, begin anew."""
        asked, before = leases.now(), time.time()
        beat = await self._tables.beat(self.id, self._lease.seconds, figures)
        was_held, was_term = self._lease.is_held, self._term
        self._term = beat.term
        # A new term gives leases also to nodes from which others may have taken over before it began.
        if beat.is_held and (was_held or beat.term == was_term):
            self._lease.renewed(asked)
            if not was_held and self._beats is not None:
                self._presence.resume()  # late, but nobody could take over
        else:
            await self._come_back()
        after = time.time()
        if after - before < 1.0:
            self.ahead = (before + after) / 2 - beat.clock
        self._know(beat)

    async def _come_back(self) -> None:
        log.warning("this node was without a lease, so that others may have taken over what it did")
        asked = leases.now()
        await self._tables.return_(*(self.id, self._url, self._identity.did, version(), self._lease.seconds))
        # First: what is still ours must be asked for.
        if self._beats is not None:
            self._presence.lease_lost()
        self._lease.renewed(asked)

    def _know(self, beat: Beat) -> None:
        there = {node.id: node for node in beat.nodes if node.is_there and node.id != self.id}
        gone = self._nodes.keys() - there.keys()
        self._nodes = there
        if self._beats is None:
            return  # it is not linked yet
        self._links.know(self._peers())
        for node in gone:
            log.warning("node %d is gone", node)
            self._standing.pop(node, None)
            self._presence.node_gone(node)

    def _peers(self) -> list[Peer]:
        return [
            Peer(node.id, node.url, node.key) for node in self._nodes.values() if node.protocol == PROTOCOL
        ]

    async def _find(self, key: str) -> Peer | None:
        for look in (False, True):
            if look:
                self._nodes |= {
                    node.id: node
                    for node in await self._tables.nodes()
                    if node.is_there and node.id != self.id
                }
            for peer in self._peers():
                if peer.key == key:
                    return peer
        return None

    def _figures(self) -> dict[str, Any]:
        return {
            **self._here.load(),
            "delivers": self._presence.count,
            "links": sorted(self._links.up),
            "clock_ahead": round(self.ahead, 3),
        }

    def _say_standing(self) -> None:
        if self._said != self._lease.is_held:
            self._said = self._lease.is_held
            self._links.tell_all(Standing(self._said))

    async def _consider_parting(self) -> None:
        """A node that is cut off from the database is of no use to live sockets, where others are not."""
        if self._lease.is_held:
            self._lost_since, self._is_parted = None, False
            return
        now = leases.now()
        self._lost_since = self._lost_since or now
        others = [self._standing.get(node, True) for node in self._links.up]
        are_others_in = any(others) or (bool(self._nodes) and not others)
        if are_others_in and not self._is_parted and now - self._lost_since >= PART_AFTER:
            self._is_parted = True
            log.error("this node does not reach the database, and others do: live sockets are sent to those")
            await self._here.part()

    # --- what was missed

    async def _keep_looking(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(leases.BEAT)
            number += 1
            at_all = number % LOOK_AROUND == 0
            try:
                await self._presence.look()
                await self._crossings.look(at_all=at_all)
                if at_all:
                    await self._presence.look_around()
                    await self._close_what_is_shut()
                    await self._tables.forget_nodes()
            except StoreFailed as problem:
                log.info("this node cannot look at what others do: %s", problem)
            except Exception:
                log.exception("what other nodes do cannot be looked at")

    async def _close_what_is_shut(self) -> None:
        accounts = self._deliveries.live_accounts
        for account in await self._tables.shut(accounts) if accounts else ():
            await self._here.shut_out_here(account, ())

    # --- links

    def _linked(self, link: Link) -> None:
        link.tell(Standing(self._lease.is_held))
        self._do(self._crossings.look)

    def _unlinked(self, link: Link) -> None:
        self._crossings.link_lost(link)
        self._standing.pop(link.peer, None)

    def _heard(self, link: Link, message: Message | hop.Unbound | hop.Error) -> None:
        if self._crossings.heard(link, message) or self._presence.heard(link.peer, message):
            return
        match message:
            case Standing(has_lease):
                self._standing[link.peer] = has_lease
            case Leaving():
                self._nodes.pop(link.peer, None)
                self._presence.node_gone(link.peer)
            case Dropped(account):
                self._deliveries.drop(account)
            case ShutOut(account, channels):
                self._do(lambda: self._here.shut_out_here(account, channels))

    def _do(self, work: Callable[[], Awaitable[Any]]) -> None:
        async def done() -> None:
            try:
                await work()
            except StoreFailed as problem:
                log.info("this node cannot look at what others do: %s", problem)

        task = asyncio.create_task(done(), name="asked by a node")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def version() -> str:
    return importlib.metadata.version("didmpc")


async def _identify(tables: Tables, my_keys: str, my_url: str, *, alone: bool) -> None:
    keys, url = await tables.identify(my_keys, my_url)
    if keys == my_keys and url != my_url and alone:
        await tables.move(my_url)
        return
    if keys == my_keys and url != my_url:
        raise LocalMisuse(
            "This node has another public URL than the mediator in this database.",
            why=f"That one is reached at {url}, this node was given {my_url}.",
            fix=f"Start it with  --public-url {url}  or stop all nodes before the URL is changed.",
        )
    if keys != my_keys:
        raise LocalMisuse(
            "This node has other keys than the mediator in this database.",
            why="All nodes of a mediator have the same keys.",
            fix="Copy mediator.json (and log.key) from the home of another node into this one,"
            " and start again.",
        )


def _check_others(others: Sequence[NodeRow], url: str) -> None:
    for node in others:
        if node.protocol != PROTOCOL:
            raise LocalMisuse(
                f"This version of didmpc cannot work together with the node at {node.url}.",
                why=f"That one is didmpc {node.version} and speaks version {node.protocol} of links;"
                f" this one is {version()} and speaks {PROTOCOL}.",
                fix="Run the same version of didmpc on all nodes:"
                " stop the old ones before the first new one.",
            )
        if _is_local(node.url) != _is_local(url):
            here, there = (url, node.url) if _is_local(url) else (node.url, url)
            raise LocalMisuse(
                f"The node at {there} cannot reach the one at {here}: only its own machine can.",
                why="Nodes on several machines must reach each other.",
                fix="Start every node with  --node-listen ADDRESS:PORT  of an address that the others reach"
                " (and --node-url where they reach it under another one).",
            )


def _is_local(url: str) -> bool:
    return is_loopback(url.rpartition(":")[0].strip("[]"))
