"""Which node delivers live to an account: the one that a socket of it came to last.

Going live claims the account in the table `live`, under a higher epoch. The node that had it is told over
the link (`Taken`), stops, and says what is on its way to its sockets (`Yielded`): that is handed out here
only when those sockets have ended or their leases lapse. Where the link is down, both say it through the
database at their next beat; a node whose lease has ended is waited for no longer. Nothing is pushed before.

A node whose lease has ended pushes nothing (`Lease`). Sockets that stay on a node which delivers no more hear
nothing until the account is vacant again.
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any

from didmpc.mediator.cluster.coalesce import Coalesced
from didmpc.mediator.cluster.lease import Lease
from didmpc.mediator.cluster.links import Links
from didmpc.mediator.cluster.messages import Acknowledged, AskHeld, Freed, Held, Ring, Taken, Vacant, Yielded
from didmpc.mediator.cluster.tables import Claim, Tables
from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.refusals import Unavailable
from didmpc.mediator.store import StoreFailed
from didmpc.protocols.errors import DidmpcError

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
CLAIM_SECONDS = 12.0
"""That a request waits until it is known who delivers to its account."""
ANSWER_SECONDS = 3.0
"""That another node has to say what it holds."""
MOST_SEQS = 5_000
"""In one message."""


class Node:
    """Stands for the sockets of another node."""

    def __init__(self, id: int) -> None:
        self.id = id


class _Live:
    """An account with a live socket here."""

    def __init__(self) -> None:
        self.epoch = 0
        self.is_mine = False
        self.is_new = False  # a socket has come since it was claimed: take it from whoever has it
        self.owner = 0  # another node, where it is known to be
        self.taken = 0  # the highest epoch that another node has told of
        self.waiting: set[int] = set()  # for these nodes to stop
        self.heirs: set[int] = set()  # nodes that may have sockets which wait
        self.changed = asyncio.Event()
        self.settled = asyncio.Event()  # it is known who delivers
        self.task: asyncio.Task[None] | None = None

    def lose(self, owner: int) -> None:
        self.is_mine = self.is_new = False
        self.owner = owner
        self.settled.set()


class _Post:
    """What is to be told to whoever delivers to an account."""

    def __init__(self) -> None:
        self.due: float | None = None
        self.acknowledged: list[int] = []
        self.freed: list[int] = []


class Presence:
    def __init__(self, me: int, tables: Tables, lease: Lease, links: Links, deliveries: Deliveries) -> None:
        self._me = me
        self._tables = tables
        self._lease = lease
        self._links = links
        self._deliveries = deliveries
        self._live: dict[str, _Live] = {}
        self._nodes: dict[int, Node] = {}
        self._claims = Coalesced(self._claim)
        self._owners = Coalesced(self._find_owners)
        self._post: dict[str, _Post] = {}
        self._postman: asyncio.Task[None] | None = None
        self._vacated: dict[str, tuple[int, set[int]]] = {}
        self._settled: dict[str, int] = {}
        self._asked: dict[int, asyncio.Future[frozenset[int]]] = {}
        self._token = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_seen = 0  # of all mail, at the last look
        self._seen_before = 0

    async def close(self) -> None:
        tasks = [*self._tasks, *([self._postman] if self._postman else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._claims.close()
        await self._owners.close()

    @property
    def count(self) -> int:
        """Accounts that are delivered to from here."""
        return sum(live.is_mine for live in self._live.values())

    # --- what deliveries ask

    def delivers(self, account: str) -> bool:
        live = self._live.get(account)
        return live is not None and live.is_mine and self._lease.is_held

    def attach(self, account: str) -> None:
        live = self._live.get(account)
        if live is None:
            live = self._live[account] = _Live()
        if not live.is_mine:
            live.is_new = True
            self._begin(account, live)

    def detach(self, account: str) -> None:
        live = self._live.pop(account, None)
        if live is None:
            return
        live.settled.set()
        if live.epoch and live.task is None and not live.owner:
            self._leave(account, live)
        live.changed.set()

    def ring(self, account: str, due: float) -> None:
        post = self._post_for(account)
        post.due = due if post.due is None else min(post.due, due)

    def acknowledged(self, account: str, seqs: Sequence[int]) -> None:
        if not self.delivers(account):
            self._post_for(account).acknowledged += seqs

    def freed(self, account: str, seqs: Collection[int]) -> None:
        if not self.delivers(account):
            self._post_for(account).freed += seqs

    async def held_elsewhere(self, account: str) -> frozenset[int]:
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                live = self._live.get(account)
                if live is not None:
                    await live.settled.wait()
                if self.delivers(account):
                    return frozenset()
                owner = await self._owners.ask(account)
                if owner is None or owner == self._me:
                    return frozenset()
                return await self._ask_held(owner, account)
        except TimeoutError:
            raise Unavailable from None

    async def _ask_held(self, owner: int, account: str) -> frozenset[int]:
        self._token += 1
        token = self._token
        answer: asyncio.Future[frozenset[int]] = asyncio.get_running_loop().create_future()
        self._asked[token] = answer
        try:
            if not self._links.tell(owner, AskHeld(token, account)):
                raise Unavailable
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        finally:
            del self._asked[token]

    # --- claiming

    def _begin(self, account: str, live: _Live) -> None:
        if live.task is not None:
            return
        live.settled.clear()
        live.task = asyncio.create_task(self._take(account, live), name="claiming an account")
        self._tasks.add(live.task)
        live.task.add_done_callback(self._tasks.discard)

    async def _take(self, account: str, live: _Live) -> None:
        try:
            await self._claim_and_wait(account, live)
        except Exception:
            log.exception("an account cannot be claimed")
        finally:
            live.task = None
            live.settled.set()
            if self._live.get(account) is live:
                if live.is_new and not live.is_mine:
                    self._begin(account, live)
            elif live.epoch and not live.owner:
                self._leave(account, live)

    async def _claim_and_wait(self, account: str, live: _Live) -> None:
        claim = None
        while claim is None:
            try:
                claim = await self._claims.ask((account, live.is_new))
            except StoreFailed as problem:
                log.error("live delivery waits: %s", problem)
                await asyncio.sleep(RETRY_SECONDS)
            if self._live.get(account) is not live and claim is None:
                return
        if claim.node != self._me:
            if not live.is_new:
                live.lose(claim.node)
            return
        if live.taken > claim.epoch:
            return  # another node was later, and has told so
        live.epoch, live.owner, live.is_new = claim.epoch, 0, False
        live.settled.clear()
        self._hold(account, claim)
        live.waiting = set(claim.formers)
        live.heirs |= claim.formers
        for node in claim.formers:
            self._links.tell(node, Taken(account, claim.epoch))
        while live.waiting:
            live.changed.clear()
            await live.changed.wait()
            if self._live.get(account) is not live or live.taken > live.epoch or live.owner:
                return
        live.is_mine = True
        if claim.formers or claim.held:
            self._settled[account] = claim.epoch
            self._wake_postman()
        self._deliveries.resume(account)

    async def _claim(self, keys: list[tuple[str, bool]]) -> Mapping[tuple[str, bool], Claim]:
        wanted: dict[str, bool] = {}
        for account, steal in keys:
            wanted[account] = wanted.get(account, False) or steal
        found = await self._tables.claim(self._me, wanted)
        return {key: found[key[0]] for key in keys if key[0] in found}

    async def _find_owners(self, accounts: list[str]) -> Mapping[str, int]:
        return await self._tables.owners(accounts)

    def _hold(self, account: str, claim: Claim) -> None:
        """What former nodes have said through the database that is on its way: for as long as can be."""
        if claim.held:
            self._deliveries.hold(account, [(seq, float("inf")) for seq in claim.held], self._node(0))

    def _leave(self, account: str, live: _Live) -> None:
        self._vacated[account] = (live.epoch, live.heirs)
        self._wake_postman()

    # --- what other nodes say

    def heard(self, node: int, message: Any) -> bool:
        """Act on a message; False where it is not for us."""
        match message:
            case Ring(account, due):
                self._deliveries.rung(account, due)
            case Acknowledged(account, seqs):
                self._deliveries.deleted(account, seqs)
            case Freed(account, seqs):
                self._deliveries.free(account, seqs)
                live = self._live.get(account)
                if live is not None and live.owner and live.owner != node:
                    self._post_for(account).freed += seqs  # it has moved on
            case Taken(account, epoch):
                self._yield(node, account, epoch)
            case Yielded(account, epoch, held):
                self._yielded(node, account, epoch, held)
            case Vacant(account):
                live = self._live.get(account)
                if live is not None and live.owner == node:
                    self._begin(account, live)
            case AskHeld(token, account):
                seqs = tuple(seq for seq, _ in self._deliveries.held(account))[:MOST_SEQS]
                self._links.tell(node, Held(token, seqs))
            case Held(token, seqs):
                answer = self._asked.get(token)
                if answer is not None and not answer.done():
                    answer.set_result(frozenset(seqs))
            case _:
                return False
        return True

    def _yield(self, node: int, account: str, epoch: int) -> None:
        live = self._live.get(account)
        if live is not None:
            if live.is_mine and live.epoch > epoch:
                return  # claimed again since; it is told so in its turn
            live.taken = max(live.taken, epoch)
            live.lose(node)
            live.changed.set()
        held = tuple((seq, max(0, int(1000 * left))) for seq, left in self._deliveries.held(account))
        self._links.tell(node, Yielded(account, epoch, held[:MOST_SEQS]))

    def _yielded(self, node: int, account: str, epoch: int, held: Sequence[tuple[int, int]]) -> None:
        live = self._live.get(account)
        if live is None or live.epoch != epoch:
            return
        self._deliveries.hold(account, [(seq, left / 1000) for seq, left in held], self._node(node))
        live.waiting.discard(node)
        live.heirs.add(node)
        live.changed.set()

    def node_gone(self, node: int) -> None:
        """Its lease has ended: it delivers nothing, and its sockets have been told to go."""
        for account, live in list(self._live.items()):
            if node in live.waiting:
                live.waiting.discard(node)
                live.changed.set()
            if live.owner == node:
                self._begin(account, live)
        gone = self._nodes.pop(node, None)
        if gone is not None:
            self._deliveries.free_all_of(gone)

    def resume(self) -> None:
        """The lease was out of sight for a while; what came meanwhile waits."""
        for account, live in self._live.items():
            if live.is_mine:
                self._deliveries.resume(account)

    def lease_lost(self) -> None:
        """Others may have taken what was ours; whoever has it keeps it."""
        for account, live in list(self._live.items()):
            live.is_mine = False
            live.owner = 0
            self._begin(account, live)

    # --- what the database says

    async def look(self) -> None:
        """At each beat: what the links may not have said. Raises `StoreFailed`."""
        asked = await self._tables.asked_to_yield(self._me)
        held: dict[str, list[int]] = {}
        for account, claim in asked.items():
            live = self._live.get(account)
            if live is not None and live.epoch < claim.epoch:
                live.taken = max(live.taken, claim.epoch)
                live.lose(claim.node)
                live.changed.set()
            held[account] = [seq for seq, _ in self._deliveries.held(account)]
        if held:
            await self._tables.give_up(self._me, held)
        waiting = [account for account, live in self._live.items() if live.waiting]
        for account, claim in (await self._tables.claims(waiting)).items() if waiting else ():
            live = self._live.get(account)
            if live is None:
                continue
            if claim.epoch > live.epoch:
                live.taken = max(live.taken, claim.epoch)
                live.lose(claim.node)
            elif claim.epoch == live.epoch:
                self._hold(account, claim)
                live.waiting &= claim.formers
            live.changed.set()

    async def look_around(self) -> None:
        """Every few beats: doorbells that were lost, accounts that are vacant. Raises `StoreFailed`."""
        # From the mail of two looks ago: what has a lower number may have been committed later.
        if any(live.is_mine for live in self._live.values()):
            accounts, last = await self._tables.news(self._me, self._seen_before)
            self._seen_before, self._last_seen = self._last_seen, last
            for account in accounts:
                self._deliveries.rung(account)
        passive = [account for account, live in self._live.items() if live.owner and live.task is None]
        owners = await self._tables.owners(passive) if passive else {}
        for account in passive:
            live = self._live.get(account)
            if live is not None and owners.get(account) in (None, self._me):
                self._begin(account, live)

    # --- the post

    def _node(self, id: int) -> Node:
        return self._nodes.setdefault(id, Node(id))

    def _post_for(self, account: str) -> _Post:
        post = self._post.get(account)
        if post is None:
            post = self._post[account] = _Post()
            self._wake_postman()
        return post

    def _wake_postman(self) -> None:
        if self._postman is None or self._postman.done():
            self._postman = asyncio.create_task(self._deliver_post(), name="doorbells")

    async def _deliver_post(self) -> None:
        """Tell the nodes that deliver; what cannot be told they find out by themselves."""
        while self._post or self._vacated or self._settled:
            post, self._post = self._post, {}
            vacated, self._vacated = self._vacated, {}
            settled, self._settled = self._settled, {}
            try:
                await self._vacate(vacated)
            except StoreFailed as problem:
                # Else this node would be taken for theirs for as long as it lives.
                log.info("accounts are given up later: %s", problem)
                self._vacated = {**vacated, **self._vacated}
                await asyncio.sleep(RETRY_SECONDS)
            if settled:
                await self._quietly(self._tables.settle(self._me, settled))
            await self._quietly(self._send(post))

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except DidmpcError as problem:
            log.info("other nodes are not told: %s", problem)

    async def _vacate(self, vacated: Mapping[str, tuple[int, set[int]]]) -> None:
        if vacated:
            await self._tables.vacate(self._me, {account: epoch for account, (epoch, _) in vacated.items()})
        for account, (_, heirs) in vacated.items():
            for node in heirs:
                self._links.tell(node, Vacant(account), may_drop=True)

    async def _send(self, post: Mapping[str, _Post]) -> None:
        owners = await self._tables.owners(list(post)) if post else {}
        for account, owner in owners.items():
            item = post[account]
            if owner == self._me:
                continue
            if item.acknowledged:
                for part in _parts(item.acknowledged):
                    self._links.tell(owner, Acknowledged(account, part), may_drop=True)
            if item.freed:
                for part in _parts(item.freed):
                    self._links.tell(owner, Freed(account, part), may_drop=True)
            if item.due is not None:
                self._links.tell(owner, Ring(account, item.due), may_drop=True)


def _parts(seqs: list[int]) -> list[tuple[int, ...]]:
    return [tuple(seqs[at : at + MOST_SEQS]) for at in range(0, len(seqs), MOST_SEQS)]
