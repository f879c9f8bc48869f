"""What one node asks of the others that are the same mediator, and tells them.

`Neighbours` stands between live delivery, relay and intake on one side and the cluster on the other.
`Alone` is a mediator with a store of its own: nobody else is there, and nothing waits.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from didmpc.mediator.relay.legs import End


@dataclass(frozen=True, slots=True)
class Place:
    """Where an end of a channel is bound: at which node, by which bind."""

    node: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Binding:
    """An end that was bound here: by which bind, and where its other end is bound, if elsewhere."""

    epoch: int
    far: Place | None = None


class Neighbours(Protocol):
    def clock(self) -> float:
        """The time that all nodes go by."""

    @property
    def nodes_there(self) -> int:
        """How many nodes there are, this one included."""

    # --- live delivery

    def delivers(self, account: str) -> bool:
        """Whether live mail of an account is pushed from here at this moment."""

    def attach(self, account: str) -> None:
        """A socket has gone live: deliver from here from now on. `Deliveries.resume` follows when it may."""

    def detach(self, account: str) -> None:
        """The last live socket of an account has ended."""

    def ring(self, account: str, due: float) -> None:
        """There is new mail for an account, which may be live on another node."""

    def freed(self, account: str, seqs: Collection[int]) -> None:
        """Sockets here that held this mail have ended."""

    def acknowledged(self, account: str, seqs: Sequence[int]) -> None:
        """Mail was deleted by a request that came here."""

    async def held_elsewhere(self, account: str) -> frozenset[int]:
        """The mail that is on its way to sockets of other nodes. Raises `Unavailable` where nobody says."""

    async def of_these_deleted(self, seqs: Collection[int]) -> frozenset[int]:
        """Mail that other nodes have deleted meanwhile."""

    # --- the relay

    async def bind(self, channel: int, side: int) -> Binding:
        """Note that an end of a channel is bound here."""

    def meet(self, end: End, far: Place) -> None:
        """Connect an end here with its other end on another node."""

    def unbind(self, end: End) -> None:
        """An end is bound here no more."""

    def revoked(self, channels: Iterable[int]) -> None:
        """An owner took channels back."""

    # --- accounts

    async def nodes(self) -> list[dict[str, Any]] | None:
        """All nodes, with what each says of itself; None where there can be no others."""

    def dropped(self, account: str) -> None:
        """An account is another DID's now."""

    def shut_out(self, account: str, channels: Iterable[int]) -> None:
        """The operator has closed an account."""


class Alone(Neighbours):
    """No other nodes."""

    _BOUND = Binding(0)

    def clock(self) -> float:
        return time.time()

    @property
    def nodes_there(self) -> int:
        return 1

    def delivers(self, account: str) -> bool:
        return True

    def attach(self, account: str) -> None:
        pass

    def detach(self, account: str) -> None:
        pass

    def ring(self, account: str, due: float) -> None:
        pass

    def freed(self, account: str, seqs: Collection[int]) -> None:
        pass

    def acknowledged(self, account: str, seqs: Sequence[int]) -> None:
        pass

    async def held_elsewhere(self, account: str) -> frozenset[int]:
        return frozenset()

    async def of_these_deleted(self, seqs: Collection[int]) -> frozenset[int]:
        return frozenset()

    async def bind(self, channel: int, side: int) -> Binding:
        return self._BOUND

    def meet(self, end: End, far: Place) -> None:
        pass

    def unbind(self, end: End) -> None:
        pass

    def revoked(self, channels: Iterable[int]) -> None:
        pass

    async def nodes(self) -> list[dict[str, Any]] | None:
        return None

    def dropped(self, account: str) -> None:
        pass

    def shut_out(self, account: str, channels: Iterable[int]) -> None:
        pass
