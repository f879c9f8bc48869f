"""Live delivery: who is connected for which account, and which mail is on its way to whom.

The pickup protocols say little about what a lost socket means. Here mail stays queued until it is
acknowledged; while it is on its way to a socket it is leased to that socket, so that several sockets of one
account share the mail and none gets it twice. When the socket ends, or the lease lapses without an
acknowledgement, the next one gets it; a socket is never pushed the same message twice.

Of several nodes (`Neighbours`) one delivers to an account: the one that a socket came to last. It holds the
leases of the others' sockets too.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from didmpc.mediator.limits import Limits
from didmpc.mediator.mail.quotas import Quotas
from didmpc.mediator.neighbours import Alone, Neighbours
from didmpc.mediator.store import Mail, Store, StoreFailed
from didmpc.protocols.did import canonical

log = logging.getLogger(__name__)

Push = Callable[[Sequence[Mail]], Awaitable[None]]
"""Sends mail down a socket. Raises ConnectionError when the socket has ended."""

RETRY_SECONDS = 1.0
"""After the store could not be read."""


@dataclass(frozen=True, slots=True)
class _Lease:
    socket: object
    until: float
    """On the clock of the loop."""


class _Account:
    """What is in motion for one account."""

    def __init__(self) -> None:
        self.leases: dict[int, _Lease] = {}  # by seq; the one that lapses first comes first
        self.live: dict[object, _Subscription] = {}
        self.sockets: set[object] = set()  # those that are live, or were
        self.listing = asyncio.Lock()  # from reading the queue to leasing what was read
        self.acknowledged: set[int] = set()  # while a listing is being made
        self.next_due = -math.inf  # when delayed mail is to be looked for
        self.has_delayed = False

    def lease(self, mail: Sequence[Mail], socket: object, until: float) -> None:
        for item in mail:
            self.leases.pop(item.seq, None)
            self.leases[item.seq] = _Lease(socket, until)

    def leased_to_others(self, socket: object | None) -> Iterator[int]:
        return (seq for seq, lease in self.leases.items() if lease.socket is not socket)

    def lapse(self, now: float) -> None:
        """End the leases that were not acknowledged in time."""
        lapsed: list[int] = []
        for seq, lease in self.leases.items():
            if lease.until > now:
                break
            lapsed.append(seq)
        self.free(lapsed)

    def leased_to(self, socket: object) -> list[int]:
        return [seq for seq, lease in self.leases.items() if lease.socket is socket]

    def free(self, seqs: Collection[int]) -> None:
        """Leased mail is for every live socket, also those that came after it: nobody else would ask."""
        for seq in seqs:
            self.leases.pop(seq, None)
        for subscription in self.live.values() if seqs else ():
            subscription.after = min(subscription.after, min(seqs) - 1)
            subscription.wake.set()

    def seconds_until_next(self, now: float, clock: float) -> float | None:
        """Until something happens that nobody rings for."""
        first = next(iter(self.leases.values()), None)
        lapse = math.inf if first is None else first.until - now
        soonest = min(lapse, self.next_due - clock)
        return None if soonest == math.inf else max(0.0, soonest)


class _Subscription:
    """One socket in live mode: pushes while the socket keeps up, then waits for acknowledgements."""

    def __init__(self, push: Push, after: int, since: float) -> None:
        self.push = push
        self.after = after
        self.since = since
        self.wake = asyncio.Event()
        self.sizes: dict[int, int] = {}  # pushed and not acknowledged
        self.fetched: set[int] = set()  # given on request and not acknowledged
        self.task: asyncio.Task[None] | None = None

    def release(self, seq: int) -> None:
        self.fetched.discard(seq)
        if self.sizes.pop(seq, None) is not None:
            self.wake.set()


class Deliveries:
    """All mail in motion. Sockets are told apart by identity; any object will do."""

    def __init__(
        self,
        store: Store,
        quotas: Quotas,
        limits: Limits,
        neighbours: Neighbours | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._neighbours = neighbours or Alone()
        self._clock = clock
        self._store = store
        self._quotas = quotas
        self._limits = limits
        self._accounts: dict[str, _Account] = {}
        self._sockets: dict[object, set[str]] = {}  # the accounts of each live socket

    def ring(self, account: str, due: float = 0.0) -> None:
        """There is new mail for an account, to be delivered from `due` on, from here or another node."""
        if not self.rung(account, due):
            self._neighbours.ring(canonical(account), due)

    def rung(self, account: str, due: float = 0.0) -> bool:
        """The same, where it is delivered from here: whether it is."""
        account = canonical(account)
        state = self._accounts.get(account)
        if state is None or not self._neighbours.delivers(account):
            return False
        if due:
            state.has_delayed = True
            state.next_due = min(state.next_due, due)
        for subscription in state.live.values():
            subscription.wake.set()
        return True

    def subscribe(self, account: str, socket: object, push: Push, *, after: int = 0) -> None:
        """Switch live mode on: oldest first what was put after the message `after`, and what comes."""
        account = canonical(account)
        state = self._accounts.setdefault(account, _Account())
        if socket in state.live:
            return
        state.sockets.add(socket)
        self._sockets.setdefault(socket, set()).add(account)
        self._neighbours.attach(account)
        subscription = state.live[socket] = _Subscription(push, after, self._clock())
        subscription.task = asyncio.create_task(self._keep_pushing(account, state, socket, subscription))

    def unsubscribe(self, account: str, socket: object) -> None:
        """Switch live mode off; what was pushed stays leased to the socket."""
        account = canonical(account)
        state = self._accounts.get(account)
        subscription = state.live.pop(socket, None) if state else None
        if state is None or subscription is None:
            return
        if subscription.task is not None:
            subscription.task.cancel()
        if not state.live:
            self._neighbours.detach(account)

    def is_live(self, account: str, socket: object) -> bool:
        state = self._accounts.get(canonical(account))
        return state is not None and socket in state.live

    def close(self, socket: object) -> None:
        """A socket has ended: what it did not acknowledge is free for others."""
        for account in self._sockets.pop(socket, ()):
            state = self._accounts[account]
            freed = state.leased_to(socket)
            state.free(freed)
            if freed:
                self._neighbours.freed(account, freed)
            self.unsubscribe(account, socket)
            state.sockets.discard(socket)
            if not state.sockets:
                del self._accounts[account]

    @property
    def live_count(self) -> int:
        """Sockets in live mode, each once per account."""
        return sum(len(state.live) for state in self._accounts.values())

    def sockets_of(self, account: str) -> set[object]:
        """The sockets that are or were in live mode for an account."""
        state = self._accounts.get(canonical(account))
        return set(state.sockets) if state else set()

    def drop(self, account: str) -> None:
        """Push nothing more for an account: it has gone, or is another DID's now."""
        account = canonical(account)
        state = self._accounts.pop(account, None)
        if state is None:
            return
        for subscription in state.live.values():
            if subscription.task is not None:
                subscription.task.cancel()
        for socket in state.sockets:
            self._sockets[socket].discard(account)
        if state.live:
            self._neighbours.detach(account)

    # --- between nodes

    @property
    def live_accounts(self) -> list[str]:
        """Those with a live socket on this node."""
        return [account for account, state in self._accounts.items() if state.live]

    @property
    def live_sockets(self) -> list[object]:
        return [socket for state in self._accounts.values() for socket in state.live]

    def resume(self, account: str) -> None:
        """It is delivered to from here now: look for what came meanwhile."""
        state = self._accounts.get(account)
        for subscription in state.live.values() if state else ():
            subscription.wake.set()

    def held(self, account: str) -> list[tuple[int, float]]:
        """What is on its way to sockets, and for how many seconds yet it is kept for them."""
        state = self._accounts.get(account)
        now = asyncio.get_running_loop().time()
        return [(seq, lease.until - now) for seq, lease in state.leases.items()] if state else []

    def hold(self, account: str, mail: Sequence[tuple[int, float]], holder: object) -> None:
        """Another node pushed this to its sockets: seq, and for how many seconds it is kept for them."""
        state = self._accounts.get(account)
        if state is None:
            return
        now = asyncio.get_running_loop().time()
        longest = self._limits.lease_seconds
        held = [(seq, _Lease(holder, now + min(seconds, longest))) for seq, seconds in mail if seconds > 0]
        leases = {**dict(held), **state.leases}
        state.leases = dict(sorted(leases.items(), key=lambda item: item[1].until))

    def free(self, account: str, seqs: Collection[int]) -> None:
        """Sockets of other nodes that held this mail have ended."""
        state = self._accounts.get(account)
        if state is not None:
            state.free([seq for seq in seqs if seq in state.leases])

    def free_all_of(self, holder: object) -> None:
        """A node is no more."""
        for state in self._accounts.values():
            state.free(state.leased_to(holder))

    def deleted(self, account: str, seqs: Sequence[int]) -> None:
        """Another node was asked to delete mail."""
        self._quotas.acknowledged(seqs)
        self._release(canonical(account), seqs)

    async def fetch(
        self, account: str, socket: object | None, recipient: str | None, messages: int
    ) -> list[Mail]:
        """The answer to a delivery-request: the oldest mail that is not on its way to another socket.

        Only live mode leases: it was proven to be fresh, while a request may be one that was played again.
        """
        account = canonical(account)
        elsewhere = await self._neighbours.held_elsewhere(account)
        state = self._accounts.get(account) or _Account()
        mail, _ = await self._list(
            account,
            state,
            lambda: frozenset(state.leased_to_others(socket)) | elsewhere,
            recipient=recipient,
            messages=min(messages, self._limits.delivery_messages),
            bytes=self._limits.delivery_bytes,
            lease_to=socket if socket in state.live else None,
        )
        if subscription := state.live.get(socket):
            subscription.fetched.update(item.seq for item in mail if item.seq not in subscription.sizes)
        return mail

    async def acknowledge(self, account: str, seqs: Sequence[int]) -> None:
        """Delete mail and let the next be pushed."""
        await self._store.acknowledge(account, seqs, self._clock())
        self._quotas.acknowledged(seqs)
        self._release(canonical(account), seqs)
        self._neighbours.acknowledged(canonical(account), seqs)

    # --- inner

    def _release(self, account: str, seqs: Sequence[int]) -> None:
        state = self._accounts.get(account)
        if state is None:
            return
        if state.listing.locked():
            state.acknowledged.update(seqs)
        for seq in seqs:
            state.leases.pop(seq, None)
            for subscription in state.live.values():
                subscription.release(seq)

    async def _keep_pushing(
        self, account: str, state: _Account, socket: object, subscription: _Subscription
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                subscription.wake.clear()
                pause = None
                if self._neighbours.delivers(account):
                    await self._push_all(account, state, socket, subscription)
                    pause = state.seconds_until_next(loop.time(), self._clock())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await subscription.wake.wait()
            except ConnectionError:
                return  # its reader notices too, and closes it
            except StoreFailed as problem:
                log.error("live delivery waits: %s", problem)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("live delivery failed")
                return

    async def _push_all(
        self, account: str, state: _Account, socket: object, subscription: _Subscription
    ) -> None:
        """Push what there is, until the socket must acknowledge first."""
        state.lapse(asyncio.get_running_loop().time())
        await self._look_for_delayed(account, state)
        is_all = False
        while not is_all:
            messages = self._limits.live_messages - len(subscription.sizes)
            room = self._limits.live_bytes - sum(subscription.sizes.values())
            if messages <= 0 or room <= 0:
                return
            mail, is_all = await self._list(
                account,
                state,
                lambda: subscription.sizes.keys() | subscription.fetched | state.leases.keys(),
                recipient=None,
                messages=min(messages, self._limits.delivery_messages),
                bytes=min(room, self._limits.delivery_bytes),
                lease_to=socket,
                subscription=subscription,
            )
            subscription.sizes.update((item.seq, len(item.body)) for item in mail)
            if mail:
                await subscription.push(mail)

    async def _look_for_delayed(self, account: str, state: _Account) -> None:
        now, was = self._clock(), state.next_due
        if was > now:
            return
        state.next_due = math.inf  # what is put while we look lowers it
        try:
            found = await self._store.next_due(account, now)
        except BaseException:
            state.next_due = was
            raise
        state.next_due = min(state.next_due, found)
        state.has_delayed |= found < math.inf
        for subscription in state.live.values() if was > -math.inf or found < math.inf else ():
            subscription.wake.set()  # something is due now, or there is something to wake up for

    async def _list(
        self,
        account: str,
        state: _Account,
        without: Callable[[], Collection[int]],
        *,
        recipient: str | None,
        messages: int,
        bytes: int,
        lease_to: object | None,
        subscription: _Subscription | None = None,
    ) -> tuple[list[Mail], bool]:
        """The mail, and whether that is all there is at the moment."""
        loop = asyncio.get_running_loop()
        async with state.listing:
            state.lapse(loop.time())
            found = await self._store.oldest(
                account,
                recipient,
                self._clock(),
                messages=messages,
                bytes=bytes,
                without=frozenset(without()),  # only now: others may have leased while we waited
                after=0 if subscription is None else subscription.after,
                or_due_after=subscription.since if subscription and state.has_delayed else math.inf,
            )
            if lease_to is not None and not self._neighbours.delivers(account):
                # Another node delivers, which knows of the leases that were there before.
                if subscription is not None:
                    return [], True
                lease_to = None
            # Read before it was deleted: whoever acknowledged it must not get it again.
            mail = [item for item in found.mail if item.seq not in state.acknowledged]
            state.acknowledged.clear()
            if lease_to is not None:
                state.lease(mail, lease_to, loop.time() + self._limits.lease_seconds)
        self._quotas.handed_out(mail)
        return mail, found.is_all
