"""The store in one file: group commit, a full disk, and what is in the file."""

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import DiskFull
from didmpc.mediator.store import Store, StoreFailed
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.mediator.store.sqlite.database import Database
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.mediation import Update

NOW, LATER = 1_000_000.0, 2_000_000.0
ALICE = Identity.peer4().did


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path, Limits())
    await store.enrol(ALICE, NOW)
    yield store
    await store.close()


async def registered(store: Store) -> str:
    did = Identity.peer4().did
    await store.update_keylist(ALICE, [Update(did, "add")], did.encode(), NOW)
    return did


async def all_mail(store: Store) -> list[bytes]:
    listing = await store.oldest(ALICE, None, NOW, messages=1000, bytes=10**9)
    return [item.body for item in listing.mail]


async def test_capabilities_themselves_are_nowhere_on_disk(store: SqliteStore, tmp_path: Path) -> None:
    secret = b"a capability of thirty-two bytes"
    hashed = hashlib.sha256(secret).digest()
    await store.create_channels(ALICE, [("c1", hashed, hashlib.sha256(hashed).digest())], LATER, b"e", NOW)
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert any(hashed in content for content in files)
    assert not any(secret in content for content in files)


async def test_on_a_full_disk_mailboxes_can_still_be_emptied(tmp_path: Path, store: SqliteStore) -> None:
    did = await registered(store)
    await store.enqueue(did, [b"x"], LATER, NOW)
    await store.close()
    full = SqliteStore(tmp_path, Limits(free_disk_bytes=1 << 62, free_disk_for_mail_bytes=1 << 62))
    with pytest.raises(DiskFull):
        await full.enqueue(did, [b"y"], LATER, NOW)
    with pytest.raises(DiskFull):
        await registered(full)
    (mail,) = (await full.oldest(ALICE, None, NOW, messages=9, bytes=10**6)).mail
    await full.acknowledge(ALICE, [mail.seq], NOW)  # emptying it still works
    await full.close()


async def test_mail_alone_stops_while_there_is_still_room_for_the_rest(
    tmp_path: Path, store: SqliteStore
) -> None:
    did = await registered(store)
    await store.close()
    short = SqliteStore(tmp_path, Limits(free_disk_for_mail_bytes=1 << 62))
    with pytest.raises(DiskFull):
        await short.enqueue(did, [b"y"], LATER, NOW)
    await short.enrol(Identity.peer4().did, NOW)
    await registered(short)
    await short.create_channels(ALICE, [("c1", b"n" * 32, b"f" * 32)], LATER, b"envelope", NOW)
    await short.close()


async def test_files_are_for_their_owner_only(store: SqliteStore, tmp_path: Path) -> None:
    await registered(store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}


async def test_writes_that_come_together_share_commits_and_one_that_fails_is_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", ["CREATE TABLE t(x INTEGER PRIMARY KEY) STRICT;"])
    commits: list[str] = []
    database._writer.set_trace_callback(lambda sql: commits.append(sql) if sql.startswith("COMMIT") else None)

    async def write(x: int) -> None:
        def job(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO t VALUES (?)", (x,))
            if x % 10 == 3:
                raise ValueError(x)

        await database.write(job)

    results = await asyncio.gather(*(write(x) for x in range(200)), return_exceptions=True)
    assert [str(r) for r in results if r is not None] == [str(x) for x in range(3, 200, 10)]
    (count,) = await database.read(lambda db: db.execute("SELECT count(*) FROM t").fetchone())
    assert count == 180
    assert len(commits) < 100
    with pytest.raises(StoreFailed):
        await database.read(lambda db: db.execute("SELECT * FROM nowhere"))
    await database.close()
    with pytest.raises(StoreFailed):
        await write(1000)


async def test_nothing_is_reported_as_done_before_its_commit_is_on_disk(store: SqliteStore) -> None:
    did = await registered(store)
    database = store._database
    (mode,) = database._writer.execute("PRAGMA journal_mode").fetchone()
    (level,) = database._writer.execute("PRAGMA synchronous").fetchone()
    assert (mode, level) == ("wal", 2)  # FULL: the log is synced in each commit
    at_commit, may_commit = threading.Event(), threading.Event()

    def hold(sql: str) -> None:
        if sql.startswith("COMMIT"):
            at_commit.set()
            may_commit.wait(10)

    database._writer.set_trace_callback(hold)
    putting = asyncio.create_task(store.enqueue(did, [b"one"], LATER, NOW))
    assert await asyncio.to_thread(at_commit.wait, 10)
    assert await all_mail(store) == []
    assert not putting.done()
    may_commit.set()
    await putting
    assert await all_mail(store) == [b"one"]
    (mail,) = (await store.oldest(ALICE, None, NOW, messages=1, bytes=100)).mail
    at_commit.clear()
    may_commit.clear()
    acknowledging = asyncio.create_task(store.acknowledge(ALICE, [mail.seq], NOW))
    assert await asyncio.to_thread(at_commit.wait, 10)
    assert not acknowledging.done()
    may_commit.set()
    await acknowledging


async def test_readers_cannot_write(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", ["CREATE TABLE t(x);"])
    with pytest.raises(StoreFailed):
        await database.read(lambda db: db.execute("INSERT INTO t VALUES (1)"))
    await database.close()


async def test_closing_finishes_what_was_handed_in(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", ["CREATE TABLE t(x);"])

    def insert(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (1)")

    writes = [asyncio.ensure_future(database.write(insert)) for _ in range(50)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*writes)
    with sqlite3.connect(tmp_path / "db") as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (50,)
