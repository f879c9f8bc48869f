"""Whose mail waits in a mailbox: the share of each sender, and what was handed out already.

It is kept in memory only and ends with the process. One sender may fill its share of a mailbox and not the
whole of it; of several nodes each grants its part of that share, as none knows what the others take in.
Mail that was handed out and not acknowledged is the recipient's affair: it no longer counts against its
sender, and the mailbox takes in as much more, up to `awaiting_messages` and `awaiting_bytes`. Packets of
sessions are counted apart, so that they take no room from mail.
"""

import hashlib
import secrets
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import SenderQuota
from didmpc.mediator.store import Mail, Room

K = TypeVar("K", bound=Hashable)
Pair = bytes
"""A sender and a recipient, under a key of this process: neither can be read from it."""


class Quotas:
    def __init__(self, limits: Limits, nodes: Callable[[], int] = lambda: 1) -> None:
        """`nodes` says how many nodes take in mail."""
        self._limits = limits
        self._nodes = nodes
        self._key = secrets.token_bytes(32)
        self._waiting: _Book[Pair] = _Book(limits.tracked_messages)
        self._awaiting: _Book[tuple[int, bool]] = _Book(limits.tracked_messages)
        self._coming: dict[Pair, Room] = {}

    def pair(self, sender: str, recipient: str, *, packets: bool = False) -> Pair:
        text = f"{sender}\n{recipient}\n{packets}"
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=16).digest()

    def reserve(self, pair: Pair, sizes: Sequence[int], now: float) -> None:
        """Before mail is put. Raises `SenderQuota`; otherwise `settle` must follow."""
        more, nodes = Room(len(sizes), sum(sizes)), self._nodes()
        most = Room(self._limits.pair_messages // nodes, self._limits.pair_bytes // nodes)
        for _ in range(2):
            total = _sum(self._waiting.under(pair), self._coming.get(pair, Room()), more)
            if total.messages <= most.messages and total.bytes <= most.bytes:
                self._coming[pair] = _sum(self._coming.get(pair, Room()), more)
                return
            self._waiting.prune(pair, now)
        raise SenderQuota

    def settle(self, pair: Pair, sizes: Sequence[int]) -> None:
        """Mail that was reserved for was put, or not."""
        coming = self._coming.pop(pair)
        left = Room(coming.messages - len(sizes), coming.bytes - sum(sizes))
        if left.messages:
            self._coming[pair] = left

    def waiting_of(self, pair: Pair) -> frozenset[int]:
        """The mail that counts against a sender."""
        return self._waiting.mail_under(pair)

    def awaiting_in(self, mailbox: int, *, packets: bool = False) -> frozenset[int]:
        """The mail of a mailbox that was handed out here."""
        return self._awaiting.mail_under((mailbox, packets))

    def put(self, pair: Pair, mail: Iterable[tuple[int, int]], expires: float) -> None:
        """New mail waits: seq and size of each."""
        for seq, size in mail:
            if seq not in self._awaiting:  # a socket was quicker
                self._waiting.put(pair, seq, size, expires)

    def handed_out(self, mail: Iterable[Mail]) -> None:
        for item in mail:
            self._waiting.drop(item.seq)
            self._awaiting.put((item.mailbox, item.is_packet), item.seq, len(item.body), item.expires)

    def acknowledged(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self._waiting.drop(seq)
            self._awaiting.drop(seq)

    def beyond(self, mailbox: int, now: float, *, packets: bool = False) -> Room:
        """How much a mailbox may hold beyond its limits, because it was handed out already."""
        self._awaiting.prune((mailbox, packets), now)
        room = self._awaiting.under((mailbox, packets))
        return Room(
            min(room.messages, self._limits.awaiting_messages), min(room.bytes, self._limits.awaiting_bytes)
        )


class _Book(Generic[K]):
    """Messages, each under one key, and what they add up to. Too many: the oldest entries are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: dict[int, K] = {}
        self._mail: dict[K, dict[int, tuple[int, float]]] = {}
        self._totals: dict[K, Room] = {}

    def __contains__(self, seq: int) -> bool:
        return seq in self._keys

    def mail_under(self, key: K) -> frozenset[int]:
        return frozenset(self._mail.get(key, ()))

    def under(self, key: K) -> Room:
        return self._totals.get(key, Room())

    def put(self, key: K, seq: int, size: int, expires: float) -> None:
        if seq in self._keys:
            return
        self._keys[seq] = key
        self._mail.setdefault(key, {})[seq] = (size, expires)
        self._totals[key] = _sum(self.under(key), Room(1, size))
        if len(self._keys) > self._most:
            self.drop(next(iter(self._keys)))

    def drop(self, seq: int) -> None:
        key = self._keys.pop(seq, None)
        if key is None:
            return
        mail = self._mail[key]
        size, _ = mail.pop(seq)
        if mail:
            self._totals[key] = _sum(self._totals[key], Room(-1, -size))
        else:
            del self._mail[key], self._totals[key]

    def prune(self, key: K, now: float) -> None:
        """Forget what has expired."""
        for seq, (_, expires) in list(self._mail.get(key, {}).items()):
            if expires <= now:
                self.drop(seq)


def _sum(*rooms: Room) -> Room:
    return Room(sum(room.messages for room in rooms), sum(room.bytes for room in rooms))
