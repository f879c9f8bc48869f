"""Messages in records, and how much of them may be on its way (docs/session-api.md, "On the wire").

A record's `start` says what it is to its message; both sides count what each record costs them. The limit
that the receiver states grows as its program reads: `unread_bytes` in the handshake, then `may_send` in its
state.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from didmpc.protocols.session.frames import MAX_RECORD_DATA

OVERHEAD = 64
"""What holding a record costs beside its data; empty ones cost it, too."""
LIMIT = "unread_bytes"
STATE = "may_send"


class Piece(IntEnum):
    """What a record is: `start` on the wire."""

    LAST = 0  # the end of a message, or all of it
    MORE = 1  # others of the same message follow
    VOID = 2  # what came of this message is void: its sender gave up


def cost(data: bytes) -> int:
    return len(data) + OVERHEAD


def pieces(message: memoryview) -> Iterator[tuple[Piece, bytes]]:
    """The records of a message."""
    size = len(message)
    for offset in range(0, size or 1, MAX_RECORD_DATA):
        end = offset + MAX_RECORD_DATA
        yield Piece.LAST if end >= size else Piece.MORE, bytes(message[offset:end])


class Allowance:
    """How much the peer lets us send. A peer that states nothing is not slowed down for."""

    def __init__(self, theirs: Mapping[str, Any]) -> None:
        limit = theirs.get(LIMIT)
        self._limit: int | None = limit if isinstance(limit, int) else None
        self._spent = 0

    def learn(self, state: Mapping[str, Any]) -> None:
        """What the peer's state says; it never takes anything back."""
        stated = state.get(STATE)
        if self._limit is not None and type(stated) is int:
            self._limit = max(self._limit, stated)

    def covers(self, amount: int) -> bool:
        return self._limit is None or self._spent + amount <= self._limit

    def spend(self, amount: int) -> None:
        self._spent += amount


class Unread:
    """What has come and was not read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: deque[tuple[int, bytes]] = deque()
        self._received = 0
        self._taken = 0
        self.stated = limit

    def __bool__(self) -> bool:
        return bool(self._records)

    def put(self, start: int, data: bytes) -> bool:
        """Keep a record; False if the peer may not have sent it."""
        self._received += cost(data)
        if start not in Piece._value2member_map_ or self._received > self.stated:
            return False
        self._records.append((start, data))
        return True

    def take(self) -> tuple[int, bytes]:
        start, data = self._records.popleft()
        self._taken += cost(data)
        return start, data

    def news(self) -> dict[str, int] | None:
        """A new state for the peer, when enough was read for it to matter."""
        allowed = self._taken + self._limit
        if allowed - self.stated < self._limit // 4:
            return None
        self.stated = allowed
        return {STATE: allowed}

    def clear(self) -> None:
        self._records.clear()
