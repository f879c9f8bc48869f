"""How a node talks to PostgreSQL: what it tries again, what it reports, and whom it finds."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from postgres import Database, Server

from didmpc.mediator.limits import Limits
from didmpc.mediator.store import StoreFailed, StoreUnsure
from didmpc.mediator.store.postgres import PostgresStore
from didmpc.mediator.store.postgres import connection as subject
from didmpc.mediator.store.postgres.connection import ConnectFailed, Connection, Postgres

PATIENCE = 120


class Line:
    """A line to the server that can be cut, or that can lose an answer."""

    def __init__(self, server: Server) -> None:
        self._to = server.port
        self._writers: list[asyncio.StreamWriter] = []
        self.lose_answer_to: bytes | None = None
        self.is_down = False

    async def __aenter__(self) -> "Line":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_down:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, back]
        lost = asyncio.Event()

        async def onward() -> None:
            while data := await reader.read(1 << 16):
                if self.lose_answer_to is not None and self.lose_answer_to in data:
                    self.lose_answer_to = None
                    lost.set()
                back.write(data)
            back.close()

        async def backward() -> None:
            while data := await there.read(1 << 16):
                if lost.is_set():
                    writer.transport.abort()
                    return
                writer.write(data)
            writer.close()

        with contextlib.suppress(OSError):
            await asyncio.gather(onward(), backward())


@pytest.fixture
async def line(postgres_server: Server) -> AsyncIterator[Line]:
    async with Line(postgres_server) as line:
        yield line


@pytest.fixture
async def node(database: Database, line: Line) -> AsyncIterator[Postgres]:
    url = database.dsn.replace(f":{database.server.port}/", f":{line.port}/")
    node = await Postgres.open(url)
    await node.write(lambda db: db.execute("CREATE TABLE t(x int PRIMARY KEY)"))
    yield node
    await node.close()


async def numbers(node: Postgres) -> list[int]:
    return [row["x"] for row in await node.read(lambda db: db.fetch("SELECT x FROM t ORDER BY x"))]


async def test_a_transaction_that_collides_is_run_again(node: Postgres) -> None:
    runs = 0

    async def job(db: Connection) -> None:
        nonlocal runs
        runs += 1
        await db.execute("INSERT INTO t VALUES ($1)", runs)
        if runs == 1:
            await db.execute("DO $$ BEGIN RAISE EXCEPTION 'collided' USING ERRCODE = '40001'; END $$")

    await node.write(job)
    assert await numbers(node) == [2]


async def test_a_job_that_raises_takes_its_changes_back(node: Postgres) -> None:
    async def job(db: Connection) -> None:
        await db.execute("INSERT INTO t VALUES (1)")
        raise KeyError

    with pytest.raises(KeyError):
        await node.write(job)
    with pytest.raises(StoreFailed, match="does not exist"):
        await node.read(lambda db: db.fetch("SELECT * FROM nowhere"))
    assert await numbers(node) == []


async def test_a_line_that_was_cut_before_the_commit_is_found_again(node: Postgres, line: Line) -> None:
    runs = 0

    async def job(db: Connection) -> None:
        nonlocal runs
        runs += 1
        await db.execute("INSERT INTO t VALUES ($1)", runs)
        if runs == 1:
            line.cut()
            await db.execute("SELECT 1")

    line.cut()
    assert await numbers(node) == []
    await node.write(job)
    assert await numbers(node) == [2]


async def test_what_may_be_done_once_only_is_not_done_again_where_its_commit_was_lost(
    node: Postgres, line: Line
) -> None:
    line.lose_answer_to = b"COMMIT"
    with pytest.raises(StoreUnsure):
        await node.write(lambda db: db.execute("INSERT INTO t VALUES (1)"))
    assert await numbers(node) == [1]


async def test_what_may_be_done_twice_is(node: Postgres, line: Line) -> None:
    put = "INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING RETURNING x"
    await node.statement(put, 0)  # so that the next one is prepared, and goes with one message
    line.lose_answer_to = struct.pack(">HII", 1, 4, 7)  # its one argument, 7
    answer = await node.statement(put, 7)
    assert (answer.rows, answer.is_repeated) == ([], True)
    assert await numbers(node) == [0, 7]


async def test_a_commit_that_no_standby_confirmed_is_not_reported_as_done(node: Postgres) -> None:
    # So PostgreSQL reports that it was told not to wait for the standby any longer.
    async def job(db: Connection) -> None:
        await db.execute("INSERT INTO t VALUES (1)")
        await db.execute("DO $$ BEGIN RAISE WARNING 'canceling wait for synchronous replication'; END $$")

    with pytest.raises(StoreUnsure, match="no standby"):
        await node.write(job)


async def test_while_there_is_no_server_it_fails_in_words_and_then_recovers(
    node: Postgres, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "PATIENCE", 0.3)
    line.is_down = True
    line.cut()
    with pytest.raises(StoreFailed) as failed:
        await node.write(lambda db: db.execute("INSERT INTO t VALUES (1)"))
    assert f"PostgreSQL cannot be reached: 127.0.0.1:{line.port}" in failed.value.why
    line.is_down = False
    monkeypatch.undo()
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(StoreFailed):
                await node.write(lambda db: db.execute("INSERT INTO t VALUES (2)"))
                break
    assert await numbers(node) == [2]


async def test_reads_go_on_while_writes_wait(node: Postgres, database: Database) -> None:
    locker = await asyncpg.connect(database.dsn)
    await locker.execute("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE")
    put = [
        asyncio.create_task(node.statement("INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING", number))
        for number in range(10)
    ]
    assert await numbers(node) == []
    assert not any(task.done() for task in put)
    await locker.close()
    await asyncio.gather(*put)
    assert await numbers(node) == list(range(10))


async def test_who_gives_up_leaves_no_half_of_it(node: Postgres, database: Database) -> None:
    locker = await asyncpg.connect(database.dsn)
    await locker.execute("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE")
    put = asyncio.create_task(node.statement("INSERT INTO t VALUES (1)"))
    async with asyncio.timeout(PATIENCE):
        while not await waiting(database):
            await asyncio.sleep(0.01)
    put.cancel()
    await asyncio.gather(put, return_exceptions=True)
    await locker.close()
    await node.close()
    check = await asyncpg.connect(database.dsn)
    assert await check.fetchval("SELECT count(*) FROM t") == 1
    await check.close()


async def waiting(database: Database) -> bool:
    check = await asyncpg.connect(database.dsn)
    try:
        return bool(await check.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    finally:
        await check.close()


async def test_of_several_servers_it_finds_the_one_that_may_be_written_to(database: Database) -> None:
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        closed.bind(("127.0.0.1", 0))
        others = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in (silent, closed))
        url = database.dsn.replace("@", f"@{others},")
        node = await Postgres.open(url)
        assert await node.read(lambda db: db.fetchval("SELECT 1")) == 1
        await node.close()


async def test_a_standby_is_told_from_a_primary(database: Database, postgres_server: Server) -> None:
    await postgres_server.admin(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with pytest.raises(ConnectFailed, match="it is a standby"):
        await Postgres.open(database.dsn)


async def test_a_server_that_was_restarted_is_used_once_a_commit_since_then_is_confirmed(
    database: Database, tmp_path: Path
) -> None:
    store = await PostgresStore.open(database.dsn, tmp_path, Limits())
    await store.close()
    standby = await asyncpg.connect(database.dsn)  # stands for one that does not confirm
    await standby.execute("TRUNCATE confirmed")  # as recovery does
    await standby.execute("BEGIN; LOCK TABLE confirmed")
    node = await Postgres.open(database.dsn)
    reads = [asyncio.create_task(node.read(lambda db: db.fetchval("SELECT 1"))) for _ in range(2)]
    writes = [
        asyncio.create_task(node.write(lambda db: db.fetchval("SELECT 1"))),
        asyncio.create_task(node.statement("SELECT 1")),
    ]
    assert await node.peek(lambda db: db.fetchval("SELECT 1")) == 1  # as heartbeats do
    async with asyncio.timeout(PATIENCE):
        while not await waiting(database):
            await asyncio.sleep(0.01)
    assert not any(task.done() for task in reads + writes)
    await standby.close()
    await asyncio.gather(*reads, *writes)
    await node.close()
    node = await Postgres.open(database.dsn)
    assert await node.read(lambda db: db.fetchval("SELECT since = pg_postmaster_start_time() FROM confirmed"))
    await node.close()


@pytest.mark.parametrize("found, used", [("off", "on"), ("remote_write", "remote_write"), ("on", "on")])
async def test_commits_wait_for_the_disk_at_least(
    database: Database, postgres_server: Server, found: str, used: str
) -> None:
    await postgres_server.admin(f"ALTER DATABASE {database.name} SET synchronous_commit = {found}")
    node = await Postgres.open(database.dsn)

    async def show(db: Connection) -> Any:
        return await db.fetchval("SHOW synchronous_commit")

    assert await node.read(show) == used
    await node.close()
