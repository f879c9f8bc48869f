"""A database as a side of a migration."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from didmpc.mediator.migration.side import Key, Note, Row
from didmpc.mediator.migration.tables import MAIL, TABLES, Table
from didmpc.mediator.store.postgres.connection import words
from didmpc.mediator.store.postgres.description import described
from didmpc.mediator.store.postgres.whole import MIGRATION
from didmpc.protocols.errors import DidmpcError, LocalMisuse

CONNECT_SECONDS = 10.0
PREFETCH = 500
ANSWER_SECONDS = 120.0
"""For one statement of a few thousand rows; a commit that no standby confirms would wait for ever."""
PREPARE_SECONDS = 30.0
COUNT_SECONDS = 1800.0
"""For one that looks at a whole table."""
_SESSION = {
    "application_name": "didmpc mediator migrate",
    "client_encoding": "UTF8",
    "synchronous_commit": "on",
    "jit": "off",
}
_FAILED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises; the last one where a connection is lost at an odd moment."""


class DatabaseFailed(DidmpcError):
    """PostgreSQL did not do what was asked; what was confirmed before stays."""

    def __init__(self, problem: BaseException) -> None:
        super().__init__(
            "The database failed in the middle of the migration.",
            why=f"{_why(problem)}.",
            fix="Give the same command again when it is back: it goes on where it was.",
        )


def _why(problem: BaseException) -> str:
    if isinstance(problem, TimeoutError):
        return "It did not answer in time; commits may wait for a standby that is not there"
    said = words(problem)
    return said[:1].upper() + said[1:]


@contextlib.contextmanager
def _told() -> Any:
    try:
        yield
    except _FAILED as problem:
        raise DatabaseFailed(problem) from None


class PostgresView:
    """One state, read in a transaction of its own."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def rows(self, table: Table, *, hashed: bool = False) -> AsyncIterator[Row]:
        columns = ", ".join((*table.columns, *((f"sha256({table.big})",) if hashed and table.big else ())))
        order = "mid, seq" if hashed and table is MAIL else await self._order(table)
        with _told():
            async for record in self._connection.cursor(
                f"SELECT {columns} FROM {table.name} ORDER BY {order}",  # noqa: S608
                prefetch=PREFETCH,
                timeout=COUNT_SECONDS,
            ):
                yield tuple(record)

    async def _order(self, table: Table) -> str:
        """In the order of bytes, whatever language the database sorts by."""
        types = await _types(self._connection, table)
        return ", ".join(f'{name} COLLATE "C"' if types[name] == "text" else name for name in table.key)

    async def big(self, table: Table, keys: Sequence[Key]) -> Mapping[Key, bytes]:
        (key,) = table.key
        find = f"SELECT {key}, {table.big} FROM {table.name} WHERE {key} = ANY($1)"  # noqa: S608
        with _told():
            rows = await self._connection.fetch(find, [value for (value,) in keys])
        return {(number,): body for number, body in rows}

    async def count(self, table: Table) -> int:
        with _told():
            count = f"SELECT count(*) FROM {table.name}"  # noqa: S608
            return int(await self._connection.fetchval(count, timeout=COUNT_SECONDS))

    async def highest(self, table: Table) -> int:
        (key,) = table.key
        with _told():
            name = await self._connection.fetchval("SELECT pg_get_serial_sequence($1, $2)", table.name, key)
            found = await self._connection.fetchrow(f"SELECT last_value, is_called FROM {name}")  # noqa: S608
        return int(found["last_value"]) if found["is_called"] else int(found["last_value"]) - 1


class PostgresSide:
    """The primary that a URL names. Raises `LocalMisuse` where it cannot be used."""

    def __init__(self, url: str, writer: asyncpg.Connection) -> None:
        self._url = url
        self._writer = writer
        self.name = without_password(url)

    @classmethod
    async def open(
        cls, url: str, *, prepare: Callable[[asyncpg.Connection], Awaitable[None]] | None = None
    ) -> Self:
        """`prepare` makes the tables where there are none, in a transaction."""
        try:
            connection = await _connect(url)
            await described(connection, url=url)
            if prepare is not None:
                async with asyncio.timeout(PREPARE_SECONDS), connection.transaction():
                    await prepare(connection)
            return cls(url, connection)
        except (*_FAILED, ValueError, OverflowError) as problem:
            raise LocalMisuse(
                f"{without_password(url)} cannot be used.",
                why=f"{_why(problem)}.",
                fix="Start it, and a standby that synchronous_standby_names names, or correct that."
                if isinstance(problem, TimeoutError)
                else "The URL is postgresql://USER@HOST/DATABASE; the password comes from the file that"
                " PGPASSFILE names (chmod 600), or from PGPASSWORD.",
            ) from None

    async def lacks(self) -> list[str]:
        """Tables and columns that a store must have and this database has not."""
        missing: list[str] = []
        for table in TABLES:
            types = await _types(self._writer, table)
            wanted = (*table.columns, *((table.big,) if table.big else ()))
            missing += [f"{table.name}.{name}" for name in wanted if name not in types]
        return missing

    async def holds_nothing(self) -> bool:
        for table in TABLES:
            with _told():
                if await self._writer.fetchval(f"SELECT EXISTS (SELECT FROM {table.name})"):  # noqa: S608
                    return False
        return True

    @contextlib.asynccontextmanager
    async def view(self) -> AsyncIterator[PostgresView]:
        with _told():
            connection = await _connect(self._url)
        try:
            with _told():
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield PostgresView(connection)
        finally:
            connection.terminate()

    async def note(self) -> Note | None:
        with _told():
            if await self._writer.fetchval("SELECT to_regclass('migration')") is None:
                return None
            row = await self._writer.fetchrow("SELECT source, state FROM migration WHERE id = 1")
        return None if row is None else Note(*row)

    async def set_note(self, note: Note) -> None:
        with _told():
            await self._writer.execute(MIGRATION)
            await self._writer.execute(
                "INSERT INTO migration(id, source, state) VALUES (1, $1, $2)"
                " ON CONFLICT (id) DO UPDATE SET source = excluded.source, state = excluded.state",
                note.source,
                note.state,
            )

    async def nodes(self) -> list[str]:
        """The URLs of nodes whose lease has not ended."""
        return [str(url) for url in await self._column("node", "url", "lease_until > clock_timestamp()")]

    async def keys(self) -> str | None:
        """What stands for the keys of its mediator, where a node has been started on it."""
        found = await self._column("mediator", "keys")
        return str(found[0]) if found else None

    async def _column(self, table: str, column: str, where: str = "true") -> list[Any]:
        with _told():
            if await self._writer.fetchval("SELECT to_regclass($1)", table) is None:
                return []
            rows = await self._writer.fetch(f"SELECT {column} FROM {table} WHERE {where}")  # noqa: S608
        return [row[0] for row in rows]

    async def delete(self, table: Table, keys: Sequence[Key]) -> None:
        where = " AND ".join(f"{name} = ${number}" for number, name in enumerate(table.key, 1))
        with _told():
            if len(table.key) == 1:
                (name,) = table.key
                await self._writer.execute(
                    f"DELETE FROM {table.name} WHERE {name} = ANY($1)",  # noqa: S608
                    [value for (value,) in keys],
                )
            else:
                await self._writer.executemany(f"DELETE FROM {table.name} WHERE {where}", keys)  # noqa: S608

    async def insert(self, table: Table, rows: Sequence[Row]) -> None:
        columns = (*table.columns, *((table.big,) if table.big else ()))
        with _told():
            await self._writer.copy_records_to_table(table.name, records=rows, columns=columns)

    async def update(self, table: Table, rows: Sequence[Row]) -> None:
        width = len(table.key)
        where = " AND ".join(f"{name} = ${number}" for number, name in enumerate(table.key, 1))
        sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(table.rest, width + 1))
        with _told():
            await self._writer.executemany(
                f"UPDATE {table.name} SET {sets} WHERE {where}",  # noqa: S608
                rows,
            )

    async def set_highest(self, table: Table, key: int) -> None:
        (name,) = table.key
        with _told():
            sequence = await self._writer.fetchval("SELECT pg_get_serial_sequence($1, $2)", table.name, name)
            if key > 0:
                await self._writer.execute(
                    f"SELECT setval('{sequence}', greatest($1, last_value)) FROM {sequence}",  # noqa: S608
                    key,
                )

    async def close(self) -> None:
        with contextlib.suppress(*_FAILED):
            await self._writer.close(timeout=CONNECT_SECONDS)


async def _connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        url,
        timeout=CONNECT_SECONDS,
        command_timeout=ANSWER_SECONDS,
        target_session_attrs="read-write",
        server_settings=_SESSION,
    )


async def _types(connection: asyncpg.Connection, table: Table) -> dict[str, str]:
    """The columns of a table, each with its type."""
    with _told():
        rows = await connection.fetch(
            "SELECT attname, atttypid::regtype::text AS type FROM pg_attribute"
            " WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
            table.name,
        )
    return {str(row["attname"]): str(row["type"]) for row in rows}


def without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + hosts))
