"""Both stores, for tests of what each must do."""

import sqlite3
from pathlib import Path
from typing import Protocol

import asyncpg
import pytest
from postgres import Database

from didmpc.mediator.limits import Limits
from didmpc.mediator.store import Store
from didmpc.mediator.store.postgres import PostgresStore
from didmpc.mediator.store.sqlite import FILE, SqliteStore

_KEPT = "SELECT coalesce(sum(n), 0), coalesce(sum(bytes), 0), coalesce(sum(packets), 0),"
_KEPT += " coalesce(sum(packet_bytes), 0) FROM box"
_REAL = "SELECT count(*), coalesce(sum(size), 0), count(CASE WHEN packet{0} THEN 1 END),"
_REAL += " coalesce(sum(CASE WHEN packet{0} THEN size END), 0) FROM msg"
_ACCOUNTS = (
    "SELECT coalesce(sum(bytes), 0), coalesce(sum(packet_bytes), 0), coalesce(sum(acts), 0) FROM account"
)
_SEEN = "SELECT count(*) FROM seen WHERE aid IS NOT NULL"


class Place(Protocol):
    """Where a store keeps what it keeps; it can be opened more than once."""

    async def open(self, limits: Limits) -> Store: ...

    async def sums(self) -> list[tuple[int, ...]]: ...


class File:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self, limits: Limits) -> Store:
        return SqliteStore(self._folder, limits)

    async def sums(self) -> list[tuple[int, ...]]:
        with sqlite3.connect(self._folder / FILE) as db:
            return [db.execute(sql.format("")).fetchone() for sql in (_KEPT, _REAL, _ACCOUNTS, _SEEN)]


class InPostgres:
    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    async def open(self, limits: Limits) -> PostgresStore:
        return await PostgresStore.open(self._database.dsn, self._folder, limits)

    async def sums(self) -> list[tuple[int, ...]]:
        db = await asyncpg.connect(self._database.dsn)
        try:
            found = [await db.fetchrow(sql.format("")) for sql in (_KEPT, _REAL, _ACCOUNTS, _SEEN)]
            return [tuple(int(value) for value in row) for row in found]
        finally:
            await db.close()


async def counters(place: Place) -> tuple[int, int]:
    """Messages and bytes that are kept; all that is counted adds up to what is there."""
    kept, real, (size, packet_size, acts), (seen,) = await place.sums()
    assert kept == real
    assert (size, packet_size) == (real[1], real[3])
    assert acts == seen
    return int(real[0]), int(real[1])


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return File(tmp_path)
    return InPostgres(request.getfixturevalue("database"), tmp_path)
