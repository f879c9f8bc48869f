"""A pass: the target is made equal to one state of the source.

What is there already and equal is not copied again, so a pass that was broken off at any place is gone on
with by making it anew. What is surplus goes before anything comes: a name may have gone over to another row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from didmpc.mediator.migration.merge import Differs, differences
from didmpc.mediator.migration.side import Key, Row, Side, View
from didmpc.mediator.migration.tables import COUNTERS, TABLES, Table

ROWS = 1000
BYTES = 8 * 1024 * 1024
"""Most of one write."""


@dataclass(slots=True)
class Tally:
    """What a pass has changed, by table."""

    inserted: dict[str, int] = field(default_factory=dict)
    updated: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        return sum(sum(each.values()) for each in (self.inserted, self.updated, self.deleted))


Progress = Callable[[str, int, int], None]
"""Told the table, how many of its rows were looked at, and how many there are."""


async def copy_all(source: Side, target: Side, progress: Progress = lambda *_: None) -> Tally:
    """One pass over all tables."""
    tally = Tally()
    async with source.view() as state:
        for table in TABLES:
            await _copy(table, state, target, tally, progress)
        for table in COUNTERS:
            await _copy(table, state, target, tally, lambda *_: None)
        for table in TABLES:
            if table.numbered:
                await target.set_highest(table, await state.highest(table))
    return tally


async def _copy(table: Table, source: View, target: Side, tally: Tally, progress: Progress) -> None:
    width = len(table.key)
    total = await source.count(table)
    async with target.view() as present:
        surplus: list[Key] = []
        if await present.count(table):
            async for differs, row in differences(table, source.rows(table), present.rows(table)):
                if differs is Differs.SURPLUS:
                    surplus.append(row[:width])
                    if len(surplus) >= ROWS:
                        await _delete(table, target, surplus, tally)
        await _delete(table, target, surplus, tally)
    async with target.view() as present:
        writer = _Writer(table, source, target, tally)
        seen = 0

        async def counted() -> "object":
            nonlocal seen
            async for row in source.rows(table):
                seen += 1
                if seen % ROWS == 0:
                    progress(table.name, seen, total)
                yield row

        async for differs, row in differences(table, counted(), present.rows(table)):  # type: ignore[arg-type]
            await writer.take(differs, row)
        await writer.flush()
        progress(table.name, seen, total)


async def _delete(table: Table, target: Side, keys: list[Key], tally: Tally) -> None:
    if keys:
        await target.delete(table, keys)
        tally.deleted[table.name] = tally.deleted.get(table.name, 0) + len(keys)
        keys.clear()


class _Writer:
    """Collects rows, and writes them when they are many."""

    def __init__(self, table: Table, source: View, target: Side, tally: Tally) -> None:
        self._table = table
        self._source = source
        self._target = target
        self._tally = tally
        self._new: list[Row] = []
        self._changed: list[Row] = []
        self._bytes = 0
        self._size = table.columns.index("size") if table.big else None

    async def take(self, differs: Differs, row: Row) -> None:
        match differs:
            case Differs.MISSING:
                size = row[self._size] if self._size is not None else 0
                if self._new and self._bytes + size > BYTES:
                    await self.flush()
                self._new.append(row)
                self._bytes += size
            case Differs.CHANGED:
                self._changed.append(row)
            case Differs.SURPLUS:
                raise AssertionError("surplus rows have gone before")
        if len(self._new) + len(self._changed) >= ROWS:
            await self.flush()

    async def flush(self) -> None:
        table, name, width = self._table, self._table.name, len(self._table.key)
        if self._new:
            rows = self._new
            if table.big is not None:
                bodies = await self._source.big(table, [row[:width] for row in rows])
                rows = [(*row, bodies[row[:width]]) for row in rows]
            await self._target.insert(table, rows)
            self._tally.inserted[name] = self._tally.inserted.get(name, 0) + len(rows)
        if self._changed:
            await self._target.update(table, self._changed)
            self._tally.updated[name] = self._tally.updated.get(name, 0) + len(self._changed)
        self._new, self._changed, self._bytes = [], [], 0
