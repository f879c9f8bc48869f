"""`didmpc` with a fault built in, to see that the tests find it: python liar.py LIE DIDMPC ARGUMENTS..."""

import itertools
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from didmpc.mediator.cluster.cluster import Cluster
from didmpc.mediator.mail.deliveries import Deliveries, Push
from didmpc.mediator.store import Mail
from didmpc.mediator.store.postgres import PostgresStore
from didmpc.mediator.store.records import Kept

EVERY = 20


def forgets_mail() -> None:
    """One commit in twenty is answered for and gone."""
    turns, enqueue = itertools.count(1), PostgresStore.enqueue

    async def lying(
        self: PostgresStore, recipient: str, envelopes: Sequence[bytes], *rest: Any, **options: Any
    ) -> Kept:
        kept = await enqueue(self, recipient, envelopes, *rest, **options)
        if next(turns) % EVERY == 0:
            await self.acknowledge(kept.account, [seq for seq, _ in kept.mail], rest[1])
        return kept

    PostgresStore.enqueue = lying  # type: ignore[method-assign]


def keeps_what_was_deleted() -> None:
    """One deletion in twenty is answered for and did not happen."""
    turns, acknowledge = itertools.count(1), PostgresStore.acknowledge

    async def lying(self: PostgresStore, account: str, seqs: Sequence[int], now: float) -> None:
        if next(turns) % EVERY:
            await acknowledge(self, account, seqs, now)

    PostgresStore.acknowledge = lying  # type: ignore[method-assign]


def pushes_twice() -> None:
    """One push in twenty goes down the socket again."""
    turns, subscribe = itertools.count(1), Deliveries.subscribe

    def lying(self: Deliveries, account: str, socket: object, push: Push, **options: Any) -> None:
        async def pushing(mail: Sequence[Mail]) -> None:
            await push(mail)
            if next(turns) % EVERY == 0:
                await push(mail)

        subscribe(self, account, socket, pushing, **options)

    Deliveries.subscribe = lying  # type: ignore[method-assign]


def knows_no_other_node() -> None:
    """Every node pushes to its own sockets, and asks nobody what is on its way elsewhere."""

    async def nothing(self: Cluster, account: str) -> Collection[int]:
        return frozenset()

    Cluster.delivers = lambda self, account: True  # type: ignore[method-assign]
    Cluster.held_elsewhere = nothing  # type: ignore[method-assign,assignment]


LIES: dict[str, Callable[[], None]] = {
    lie.__name__: lie for lie in (forgets_mail, keeps_what_was_deleted, pushes_twice, knows_no_other_node)
}

if __name__ == "__main__":
    _, lie, *sys.argv = sys.argv
    from didmpc.agent.cli.main import main

    LIES[lie]()
    sys.exit(main())
