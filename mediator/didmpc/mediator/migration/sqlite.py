"""A store in a file, as a side of a migration. The caller sees to it that nobody else writes to a target."""

import contextlib
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from didmpc.mediator.migration.side import Key, Note, Row
from didmpc.mediator.migration.tables import MAIL, TABLES, Table
from didmpc.mediator.store.sqlite.database import make
from didmpc.mediator.store.sqlite.schema import STEPS
from didmpc.protocols.errors import LocalMisuse

KEYS_AT_ONCE = 500
_NOTE = """
CREATE TABLE IF NOT EXISTS migration(id INTEGER PRIMARY KEY, source TEXT NOT NULL, state TEXT NOT NULL) STRICT
"""


class SqliteView:
    """One state, read in a transaction of its own."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    async def rows(self, table: Table, *, hashed: bool = False) -> AsyncIterator[Row]:
        flags = [number for number, name in enumerate(table.columns) if name in table.flags]
        columns = ", ".join((*table.columns, *((table.big,) if hashed and table.big else ())))
        order = "mid, seq" if hashed and table is MAIL else ", ".join(table.key)
        for row in self._db.execute(f"SELECT {columns} FROM {table.name} ORDER BY {order}"):  # noqa: S608
            values = list(row)
            for number in flags:
                values[number] = bool(values[number])
            if hashed and table.big:
                values[-1] = hashlib.sha256(values[-1]).digest()
            yield tuple(map(_text, values))

    async def big(self, table: Table, keys: Sequence[Key]) -> Mapping[Key, bytes]:
        (key,) = table.key
        found: dict[Key, bytes] = {}
        for begin in range(0, len(keys), KEYS_AT_ONCE):
            some = [value for (value,) in keys[begin : begin + KEYS_AT_ONCE]]
            find = f"SELECT {key}, {table.big} FROM {table.name} WHERE {key} IN ({_marks(some)})"  # noqa: S608
            found.update(((number,), body) for number, body in self._db.execute(find, some))
        return found

    async def count(self, table: Table) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])  # noqa: S608

    async def highest(self, table: Table) -> int:
        (key,) = table.key
        find = (
            f"SELECT max(coalesce((SELECT max({key}) FROM {table.name}), 0),"  # noqa: S608
            " coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0))"
        )
        return int(self._db.execute(find, (table.name,)).fetchone()[0])


class SqliteSide:
    """A file. Raises `LocalMisuse` where it cannot be used."""

    def __init__(self, path: Path, *, writes: bool = False) -> None:
        """`writes`: make the file and its tables where there are none; else it is never written to."""
        self._path = path
        self._writes = writes
        if not writes and not path.is_file():
            raise LocalMisuse(
                f"There is no store {path}.", fix="Name the file mediator.sqlite3 in a mediator's home."
            )
        try:
            if writes:
                make(path, STEPS)
            with contextlib.closing(self._connect()) as db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as problem:
            raise LocalMisuse(
                f"{path} cannot be read.", why=f"{problem}.", fix="Name a mediator's mediator.sqlite3."
            ) from None
        if version != len(STEPS):
            raise LocalMisuse(
                f"{path} is of another version of didmpc.",
                why=f"It has version {version}, and this program writes version {len(STEPS)}.",
                fix=f"Open it once with this version:  didmpc mediator status --home {path.parent}"
                if 0 < version < len(STEPS)
                else "Name a mediator's mediator.sqlite3, and use the version of didmpc that wrote it.",
            )
        self._writer = self._connect() if writes else None

    @property
    def name(self) -> str:
        return f"sqlite://{self._path}"

    def _connect(self) -> sqlite3.Connection:
        mode = "rw" if self._writes else "ro"
        db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        db.execute("PRAGMA busy_timeout=10000")
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("PRAGMA synchronous=FULL")
        return db

    async def holds_nothing(self) -> bool:
        with contextlib.closing(self._connect()) as db:
            return not any(
                db.execute(f"SELECT EXISTS (SELECT 1 FROM {table.name})").fetchone()[0]  # noqa: S608
                for table in TABLES
            )

    @contextlib.asynccontextmanager
    async def view(self) -> AsyncIterator[SqliteView]:
        with contextlib.closing(self._connect()) as db:
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM rule").fetchone()  # one state from here on
            yield SqliteView(db)

    async def note(self) -> Note | None:
        with contextlib.closing(self._connect()) as db:
            try:
                row = db.execute("SELECT source, state FROM migration WHERE id = 1").fetchone()
            except sqlite3.OperationalError:
                return None
        return None if row is None else Note(*row)

    async def set_note(self, note: Note) -> None:
        db = self._writing
        db.execute(_NOTE)
        db.execute(
            "INSERT OR REPLACE INTO migration(id, source, state) VALUES (1, ?, ?)", (note.source, note.state)
        )

    async def delete(self, table: Table, keys: Sequence[Key]) -> None:
        where = " AND ".join(f"{name} = ?" for name in table.key)
        self._many(f"DELETE FROM {table.name} WHERE {where}", keys)  # noqa: S608

    async def insert(self, table: Table, rows: Sequence[Row]) -> None:
        columns = (*table.columns, *((table.big,) if table.big else ()))
        insert = f"INSERT INTO {table.name}({', '.join(columns)}) VALUES ({_marks(columns)})"  # noqa: S608
        self._many(insert, rows)

    async def update(self, table: Table, rows: Sequence[Row]) -> None:
        sets = ", ".join(f"{name} = ?" for name in table.rest)
        where = " AND ".join(f"{name} = ?" for name in table.key)
        width = len(table.key)
        self._many(
            f"UPDATE {table.name} SET {sets} WHERE {where}",  # noqa: S608
            [(*row[width:], *row[:width]) for row in rows],
        )

    async def set_highest(self, table: Table, key: int) -> None:
        if not table.sequence:
            return
        db = self._writing
        known = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchone()
        if known is None:
            db.execute("INSERT INTO sqlite_sequence(name, seq) VALUES (?, ?)", (table.name, key))
        elif known[0] < key:
            db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (key, table.name))

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    @property
    def _writing(self) -> sqlite3.Connection:
        assert self._writer is not None
        return self._writer

    def _many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        db = self._writing
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany(statement, rows)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _text(value: Any) -> Any:
    """PostgreSQL keeps no NUL in a text; only what a stranger wrote to the operator can have one."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
