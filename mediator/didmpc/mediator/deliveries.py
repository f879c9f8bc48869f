"""Live delivery: who is connected for which account, and which mail is on its way to whom.

messagepickup/3.0 says little about what a lost socket means. Here mail stays queued until it is
acknowledged; while it is on its way to a socket it is leased to that socket, so that several sockets of
one account share the mail and none gets it twice; when the socket ends, the next one gets it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from didmpc.mediator.limits import Limits
from didmpc.mediator.store import Mail, Store
from didmpc.protocols.did import canonical

log = logging.getLogger(__name__)

Push = Callable[[Sequence[Mail]], Awaitable[None]]
"""Sends mail down a socket. Raises ConnectionError when the socket has ended."""


class _Account:
    """What is in motion for one account."""

    def __init__(self) -> None:
        self.leases: dict[int, object] = {}  # seq -> the socket it is on its way to
        self.live: dict[object, _Subscription] = {}
        self.listing = asyncio.Lock()  # from reading the queue to leasing what was read
        self.acknowledged: set[int] = set()  # while a listing is being made


class _Subscription:
    """One socket in live mode: pushes while the socket keeps up, then waits for acknowledgements."""

    def __init__(self, push: Push) -> None:
        self.push = push
        self.wake = asyncio.Event()
        self.wake.set()
        self.sizes: dict[int, int] = {}  # pushed and not acknowledged
        self.task: asyncio.Task[None] | None = None

    def release(self, seq: int) -> None:
        if self.sizes.pop(seq, None) is not None:
            self.wake.set()


class Deliveries:
    """All mail in motion. Sockets are told apart by identity; any object will do."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._accounts: dict[str, _Account] = {}

    def ring(self, account: str) -> None:
        """There is new mail for an account."""
        state = self._accounts.get(canonical(account))
        for subscription in state.live.values() if state else ():
            subscription.wake.set()

    def subscribe(self, account: str, socket: object, push: Push) -> None:
        """Switch live mode on: what is queued goes out oldest first, then what comes."""
        account = canonical(account)
        state = self._accounts.setdefault(account, _Account())
        if socket in state.live:
            return
        subscription = state.live[socket] = _Subscription(push)
        subscription.task = asyncio.create_task(self._keep_pushing(account, state, socket, subscription))

    def unsubscribe(self, account: str, socket: object) -> None:
        """Switch live mode off; what was pushed stays leased to the socket."""
        state = self._accounts.get(canonical(account))
        subscription = state.live.pop(socket, None) if state else None
        if subscription is not None and subscription.task is not None:
            subscription.task.cancel()

    def drop(self, account: str) -> None:
        """Push nothing more for an account: it has gone, or is another DID's now."""
        state = self._accounts.pop(canonical(account), None)
        for subscription in state.live.values() if state else ():
            if subscription.task is not None:
                subscription.task.cancel()

    def is_live(self, account: str, socket: object) -> bool:
        state = self._accounts.get(canonical(account))
        return state is not None and socket in state.live

    def close(self, socket: object) -> None:
        """A socket has ended: what it did not acknowledge is free for others."""
        for account, state in list(self._accounts.items()):
            self.unsubscribe(account, socket)
            freed = [seq for seq, holder in state.leases.items() if holder is socket]
            for seq in freed:
                del state.leases[seq]
            if not state.live and not state.leases:
                del self._accounts[account]
            elif freed:
                self.ring(account)

    async def fetch(
        self, account: str, socket: object | None, recipient: str | None, messages: int
    ) -> list[Mail]:
        """The answer to a delivery-request: the oldest mail that is not on its way to another socket.

        Only live mode leases: it was proven to be fresh, while a request may be one that was played again.
        """
        account = canonical(account)
        state = self._accounts.get(account) or _Account()
        return await self._list(
            account,
            state,
            lambda: (seq for seq, holder in state.leases.items() if holder is not socket),
            recipient=recipient,
            messages=min(messages, self._limits.delivery_messages),
            bytes=self._limits.delivery_bytes,
            lease_to=socket if socket in state.live else None,
        )

    async def acknowledge(self, account: str, seqs: Sequence[int]) -> None:
        """Delete mail and let the next be pushed."""
        await self._store.acknowledge(account, seqs)
        state = self._accounts.get(canonical(account))
        if state is None:
            return
        if state.listing.locked():
            state.acknowledged.update(seqs)
        for seq in seqs:
            state.leases.pop(seq, None)
            for subscription in state.live.values():
                subscription.release(seq)

    # --- inner

    async def _keep_pushing(
        self, account: str, state: _Account, socket: object, subscription: _Subscription
    ) -> None:
        try:
            while True:
                await subscription.wake.wait()
                subscription.wake.clear()
                while mail := await self._next_push(account, state, socket, subscription):
                    await subscription.push(mail)
        except ConnectionError:
            return  # its reader notices too, and closes it
        except Exception:
            log.exception("live delivery failed")

    async def _next_push(
        self, account: str, state: _Account, socket: object, subscription: _Subscription
    ) -> list[Mail]:
        messages = self._limits.live_messages - len(subscription.sizes)
        room = self._limits.live_bytes - sum(subscription.sizes.values())
        if messages <= 0 or room <= 0:
            return []
        mail = await self._list(
            account,
            state,
            lambda: state.leases,
            recipient=None,
            messages=min(messages, self._limits.delivery_messages),
            bytes=min(room, self._limits.delivery_bytes),
            lease_to=socket,
        )
        subscription.sizes.update((item.seq, len(item.body)) for item in mail)
        return mail

    async def _list(
        self,
        account: str,
        state: _Account,
        without: Callable[[], Iterable[int]],
        *,
        recipient: str | None,
        messages: int,
        bytes: int,
        lease_to: object | None,
    ) -> list[Mail]:
        async with state.listing:
            found = await self._store.oldest(
                account,
                recipient,
                time.time(),
                messages=messages,
                bytes=bytes,
                without=frozenset(without()),  # only now: others may have leased while we waited
            )
            # Read before it was deleted: whoever acknowledged it must not get it again.
            mail = [item for item in found if item.seq not in state.acknowledged]
            state.acknowledged.clear()
            if lease_to is not None:
                state.leases.update((item.seq, lease_to) for item in mail)
            return mail
