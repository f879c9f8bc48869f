"""All links of a node: it listens for the nodes that came after it, and dials those that came before.

Of each pair the node with the higher id dials, so there is one link; a new one takes the place of an old one
only when it is up. A link that is lost is dialled again, after a pause that doubles up to `LONGEST_PAUSE`.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from didmpc.mediator.cluster import handshake
from didmpc.mediator.cluster.link import Link
from didmpc.mediator.cluster.messages import Message
from didmpc.mediator.cluster.wire import Wire
from didmpc.mediator.host.configuration import address
from didmpc.mediator.limits import Limits
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.sockets.batch import Batch
from didmpc.protocols.errors import DidmpcError, RemoteViolation
from didmpc.protocols.identity import Identity
from didmpc.protocols.relay import hop
from didmpc.protocols.session.handshake import Established

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 5.0
STRANGERS = 64
"""Connections at once whose other side is not known yet."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0

OnMessage = Callable[[Link, Message | hop.Unbound | hop.Error], None]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, as the table says."""

    id: int
    url: str
    key: str


class Links:
    def __init__(
        self,
        me: int,
        identity: Identity,
        batch: Batch,
        relay: Relay,
        limits: Limits,
        *,
        find: Callable[[str], Awaitable[Peer | None]],
        on_up: Callable[[Link], None],
        on_message: OnMessage,
        on_lost: Callable[[Link], None],
    ) -> None:
        """`find` gives the node that has a key."""
        self._me = me
        self._identity = identity
        self._batch = batch
        self._relay = relay
        self._limits = limits
        self._find = find
        self._on_up = on_up
        self._on_message = on_message
        self._on_lost = on_lost
        self._server: asyncio.Server | None = None
        self._dialling: dict[Peer, asyncio.Task[None]] = {}
        self._greeting: set[asyncio.Task[None]] = set()
        self._beginning: set[Link] = set()
        self._links: dict[int, Link] = {}

    async def start(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Wire(self._batch, self._greet), sock=listener)

    async def close(self) -> None:
        """Let what was said leave, and end them all."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._dialling.values(), *self._greeting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in [*self._links.values(), *self._beginning]:
            link.close()
        await asyncio.sleep(0)

    @property
    def up(self) -> Mapping[int, Link]:
        """Those that are up, by node."""
        return self._links

    def tell(self, node: int, message: Message, *, may_drop: bool = False) -> bool:
        """Say something to a node; False where there is no link to it."""
        link = self._links.get(node)
        if link is None:
            return False
        link.tell(message, may_drop=may_drop)
        return True

    def tell_all(self, message: Message) -> None:
        for link in list(self._links.values()):
            link.tell(message)

    def know(self, peers: Collection[Peer]) -> None:
        """These nodes are there, and no others."""
        wanted = {peer for peer in peers if peer.id < self._me}
        for peer in self._dialling.keys() - wanted:
            self._dialling.pop(peer).cancel()
        for peer in wanted - self._dialling.keys():
            self._dialling[peer] = asyncio.create_task(self._keep_linked(peer), name=f"link to {peer.id}")
        there = {peer.id for peer in peers}
        for node in self._links.keys() - there:
            self._links[node].abort("is no longer in the table of nodes")

    # --- the side that dials

    async def _keep_linked(self, peer: Peer) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                link = await self._dial(peer)
            except (OSError, TimeoutError, DidmpcError) as problem:
                log.info(
                    "no link to node %d at %s: %s", peer.id, peer.url, str(problem) or "it does not answer"
                )
            else:
                await link.ended.wait()
                if link.is_up:
                    pause = FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  (jitter, no secret)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _dial(self, peer: Peer) -> Link:
        loop = asyncio.get_running_loop()
        dialing = handshake.Dialing(self._identity, peer.key)
        made: asyncio.Future[Link] = loop.create_future()

        def finish(accept: bytearray) -> None:
            if not made.done():
                try:
                    # At once: what comes next are packets.
                    made.set_result(self._link(wire, dialing.finish(bytes(accept)), peer.id))
                except RemoteViolation as problem:
                    made.set_exception(problem)

        def hung_up() -> None:
            if not made.done():
                made.set_exception(ConnectionResetError("it hung up"))

        async with asyncio.timeout(HANDSHAKE_SECONDS):
            _, wire = await loop.create_connection(lambda: Wire(self._batch), *address(peer.url))
            wire.on_message, wire.on_lost = finish, hung_up
            try:
                wire.write_now(dialing.open)
                return await made
            except BaseException:
                wire.abort()
                raise

    # --- the side that is dialled

    def _greet(self, wire: Wire) -> None:
        if len(self._greeting) + len(self._beginning) >= STRANGERS:
            wire.abort()
            return
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def hung_up() -> None:
            if not heard.done():
                heard.set_exception(ConnectionResetError("it hung up"))

        def once(message: bytearray) -> None:
            if heard.done():
                wire.abort()  # it speaks before it has our answer
            else:
                heard.set_result(bytes(message))

        def ended(task: asyncio.Task[None]) -> None:
            self._greeting.discard(task)
            heard.cancel()
            if task.cancelled():
                wire.abort()

        # Now: what it has said may be read before any task runs.
        wire.on_message, wire.on_lost = once, hung_up
        task = asyncio.create_task(self._answer(wire, heard), name="greeting a node")
        self._greeting.add(task)
        task.add_done_callback(ended)

    async def _answer(self, wire: Wire, heard: asyncio.Future[bytes]) -> None:
        """Make a link with a node that dials; hang up on anybody else."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                opened = handshake.read(self._identity, await heard)
                peer = await self._find(opened.key)
            if peer is None:
                raise RemoteViolation("Its key is not in the table of nodes.", code=handshake.STRANGER)
            accept, session = handshake.answer(self._identity, opened)
            wire.write_now(accept)
            self._link(wire, session, peer.id)
        except (DidmpcError, TimeoutError, OSError) as problem:
            log.warning(
                "a connection from %s is none of a node: %s", wire.peer, str(problem) or "it says nothing"
            )
            wire.abort()

    # --- both

    def _link(self, wire: Wire, established: Established, peer: int) -> Link:
        link = Link(
            wire,
            established,
            me=self._me,
            peer=peer,
            limits=self._limits,
            relay=self._relay,
            on_up=self._up,
            on_message=self._on_message,
            on_lost=self._lost,
        )
        self._beginning.add(link)
        return link

    def _up(self, link: Link) -> None:
        self._beginning.discard(link)
        former = self._links.get(link.peer)
        self._links[link.peer] = link
        if former is not None:
            former.abort("has made a new one")
        log.info("linked to node %d", link.peer)
        self._on_up(link)

    def _lost(self, link: Link) -> None:
        self._beginning.discard(link)
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
            log.warning("the link to node %d is lost", link.peer)
            self._on_lost(link)
