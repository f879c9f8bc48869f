"""What a store must do to be migrated from or to."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from didmpc.mediator.migration.tables import Table
from didmpc.mediator.store.postgres.whole import COPYING, DONE, LEFT

__all__ = ["COPYING", "DONE", "LEFT", "Key", "Note", "Row", "Side", "View"]

Key = tuple[Any, ...]
Row = tuple[Any, ...]
"""The columns of a table; flags as bool, else int, float, str, bytes or None."""


@dataclass(frozen=True, slots=True)
class Note:
    """What a target remembers of its migration, and a source of having been left."""

    source: str
    """Stands for the mediator that is moved."""
    state: str


class View(Protocol):
    """One committed state of a store."""

    def rows(self, table: Table, *, hashed: bool = False) -> AsyncIterator[Row]:
        """All rows in the order of their keys; `hashed`: with the SHA-256 of what is big as last column.

        Rows of the mail that are hashed come mailbox by mailbox.
        """

    async def big(self, table: Table, keys: Sequence[Key]) -> Mapping[Key, bytes]:
        """What is big of these rows."""

    async def count(self, table: Table) -> int: ...

    async def highest(self, table: Table) -> int:
        """The highest key ever given out, as far as is known."""


class Side(Protocol):
    """A store, read by nobody else as far as is known."""

    @property
    def name(self) -> str:
        """For people; without passwords."""

    def view(self) -> AbstractAsyncContextManager[View]: ...

    async def note(self) -> Note | None: ...

    async def set_note(self, note: Note) -> None: ...

    async def delete(self, table: Table, keys: Sequence[Key]) -> None: ...

    async def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Rows with what is big as last column, if anything is. Durable when it returns, as all changes."""

    async def update(self, table: Table, rows: Sequence[Row]) -> None:
        """All columns but what is big."""

    async def set_highest(self, table: Table, key: int) -> None:
        """No key up to this one is given out again."""

    async def close(self) -> None: ...
