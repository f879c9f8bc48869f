"""What one side has and the other has not, in one go through both in the order of their keys."""

from collections.abc import AsyncIterator
from enum import Enum, auto

from didmpc.mediator.migration.side import Row
from didmpc.mediator.migration.tables import Table


class Differs(Enum):
    MISSING = auto()
    """In the target."""
    SURPLUS = auto()
    """In the target: the source has no such row, or another one with this key."""
    CHANGED = auto()


async def differences(
    table: Table, source: AsyncIterator[Row], target: AsyncIterator[Row]
) -> AsyncIterator[tuple[Differs, Row]]:
    """The source's row; the target's where it is surplus. A row that became another one is told twice."""
    width = len(table.key)
    others = [table.columns.index(name) for name in table.unique]
    left, right = await anext(source, None), await anext(target, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[:width] < right[:width]):
            assert left is not None
            yield Differs.MISSING, left
            left = await anext(source, None)
        elif left is None or right[:width] < left[:width]:
            yield Differs.SURPLUS, right
            right = await anext(target, None)
        else:
            if left != right:
                if any(left[number] != right[number] for number in others):
                    yield Differs.SURPLUS, right
                    yield Differs.MISSING, left
                else:
                    yield Differs.CHANGED, left
            left, right = await anext(source, None), await anext(target, None)
