"""Whether two stores hold the same: counts and hashes of every table, and of the mail in every mailbox."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from didmpc.mediator.migration.side import Row, Side, View
from didmpc.mediator.migration.tables import MAIL, TABLES, Table

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Sum:
    """Of the rows of a table, or of a mailbox."""

    count: int
    digest: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, by table."""

    source: dict[str, Sum]
    target: dict[str, Sum]
    mailboxes: int
    """That hold mail, and were compared one by one."""
    different_mailboxes: tuple[int, ...]
    damaged: int
    """Messages whose content is not what its hash says, in the target."""
    behind: tuple[str, ...]
    """Tables in which the target might give out a key that the source has given out before."""

    @property
    def different(self) -> list[str]:
        return [name for name in self.source if self.source[name] != self.target[name]]

    @property
    def equal(self) -> bool:
        return not (self.different or self.different_mailboxes or self.damaged or self.behind)


async def compare(source: Side, target: Side) -> Verdict:
    """Read both to the end. Neither may change meanwhile."""
    async with source.view() as left, target.view() as right:
        sums: tuple[dict[str, Sum], dict[str, Sum]] = ({}, {})
        for table in TABLES:
            if table is not MAIL:
                for view, found in zip((left, right), sums, strict=True):
                    found[table.name] = await _sum(view, table)
        mail = _Mail()
        await mail.read(left, right)
        for found, value in zip(sums, mail.sums(), strict=True):
            found[MAIL.name] = value
        behind = [
            table.name
            for table in TABLES
            if table.sequence and await right.highest(table) < await left.highest(table)
        ]
        return Verdict(*sums, mail.mailboxes, tuple(mail.different[:SHOWN]), mail.damaged, tuple(behind))


async def _sum(view: View, table: Table) -> Sum:
    digest, count = hashlib.sha256(), 0
    async for row in view.rows(table, hashed=table.big is not None):
        digest.update(canonical(row))
        count += 1
    return Sum(count, digest.hexdigest())


class _Mail:
    """Both sides mailbox by mailbox."""

    def __init__(self) -> None:
        self.mailboxes = 0
        self.different: list[int] = []
        self.damaged = 0
        self._all = (hashlib.sha256(), hashlib.sha256())
        self._counts = [0, 0]

    async def read(self, source: View, target: View) -> None:
        left, right = self._boxes(source, 0), self._boxes(target, 1)
        one, other = await anext(left, None), await anext(right, None)
        while one is not None or other is not None:
            self.mailboxes += 1
            if one == other:
                one, other = await anext(left, None), await anext(right, None)
                continue
            mailbox = min(each[0] for each in (one, other) if each is not None)
            self.different.append(mailbox)
            if one is not None and one[0] == mailbox:
                one = await anext(left, None)
            if other is not None and other[0] == mailbox:
                other = await anext(right, None)

    def sums(self) -> tuple[Sum, Sum]:
        return (
            Sum(self._counts[0], self._all[0].hexdigest()),
            Sum(self._counts[1], self._all[1].hexdigest()),
        )

    async def _boxes(self, view: View, side: int) -> AsyncIterator[tuple[int, int, bytes]]:
        """Number, count and digest of each mailbox that holds something."""
        box, stated = MAIL.columns.index("mid"), MAIL.columns.index("h")
        now: int | None = None
        digest, count = hashlib.sha256(), 0
        async for row in view.rows(MAIL, hashed=True):
            if row[box] != now:
                if now is not None:
                    yield now, count, digest.digest()
                now, digest, count = row[box], hashlib.sha256(), 0
            encoded = canonical(row)
            digest.update(encoded)
            self._all[side].update(encoded)
            count += 1
            self._counts[side] += 1
            self.damaged += side and row[stated] != row[-1]
        if now is not None:
            yield now, count, digest.digest()


def canonical(row: Row) -> bytes:
    """A row as bytes: the same from every store, and of no two different rows."""
    return b"".join(map(_field, row)) + b";"


def _field(value: Any) -> bytes:
    match value:
        case None:
            return b"n"
        case bool():
            return b"t" if value else b"f"
        case int():
            return b"i%d," % value
        case float():
            return b"d" + value.hex().encode() + b","
        case str():
            encoded = value.encode()
            return b"s%d:" % len(encoded) + encoded
        case bytes():
            return b"b%d:" % len(value) + value
        case _:
            raise TypeError(type(value).__name__)
