"""The store: idempotent, bounded, exact counters, group commit."""

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import DiskFull, MailboxFull, Replayed, TooMany, UnknownNext
from didmpc.mediator.store import EXPIRY_BATCH, Store, StoreFailed
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.mediator.store.sqlite.database import Database
from didmpc.protocols.did import canonical
from didmpc.protocols.identity import Identity
from didmpc.protocols.mediation import Update

NOW, LATER = 1_000_000.0, 2_000_000.0
ALICE, BOB = Identity.peer4().did, Identity.peer4().did


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = SqliteStore(tmp_path, Limits(mailbox_messages=600, mailbox_bytes=10_000))
    for did in (ALICE, BOB):
        await store.enrol(did, NOW)
    yield store
    await store.close()


async def registered(store: Store, account: str = ALICE) -> str:
    did = Identity.peer4().did
    await store.update_keylist(account, [Update(did, "add")], did.encode(), NOW)
    return did


async def all_mail(store: Store, now: float = NOW, account: str = ALICE) -> list[bytes]:
    listing = await store.oldest(account, None, now, messages=1000, bytes=10**9)
    return [item.body for item in listing.mail]


def counters(tmp_path: Path) -> tuple[int, int]:
    with sqlite3.connect(tmp_path / "mediator.sqlite3") as db:
        kept = db.execute("SELECT sum(n), sum(bytes) FROM box").fetchone()
        real = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM msg").fetchone()
        (of_accounts,) = db.execute("SELECT sum(bytes) FROM account").fetchone()
    assert kept == real
    assert of_accounts == real[1]
    return int(kept[0]), int(kept[1])


async def test_counters_stay_exact_through_everything(store: Store, tmp_path: Path) -> None:
    first, second = await registered(store), await registered(store)
    for n in range(20):
        await store.enqueue(first, [b"x" * n], LATER, NOW)
        await store.enqueue(first, [b"x" * n], LATER, NOW)
    await store.enqueue(second, [b"one", b"two", b"one"], NOW + 1, NOW)
    assert counters(tmp_path) == (22, 196)
    mail = (await store.oldest(ALICE, first, NOW, messages=5, bytes=10**6)).mail
    await store.acknowledge(ALICE, [item.seq for item in mail] * 2, NOW)
    await store.acknowledge(BOB, [6, 7, 8], NOW)
    assert counters(tmp_path) == (17, 186)
    assert await store.expire(NOW + 1) == 2
    await store.update_keylist(ALICE, [Update(first, "remove")], b"removal", NOW)
    assert counters(tmp_path) == (0, 0)


async def test_a_mailbox_that_is_full_takes_none_of_several(store: Store, tmp_path: Path) -> None:
    did = await registered(store)
    with pytest.raises(MailboxFull):
        await store.enqueue(did, [b"a" * 4_000, b"b" * 4_000, b"c" * 4_000], LATER, NOW)
    assert counters(tmp_path) == (0, 0)
    await store.enqueue(did, [b"a" * 4_000, b"b" * 4_000], LATER, NOW)


async def test_mail_comes_oldest_first_within_both_bounds(store: Store) -> None:
    did = await registered(store)
    for n in range(5):
        await store.enqueue(did, [bytes([n]) * 100], LATER, NOW)
    three = await store.oldest(ALICE, None, NOW, messages=3, bytes=10**6)
    two = await store.oldest(ALICE, None, NOW, messages=9, bytes=250)
    assert [(len(listing.mail), listing.is_all) for listing in (three, two)] == [(3, False), (2, False)]
    (alone,) = (await store.oldest(ALICE, None, NOW, messages=9, bytes=10)).mail
    assert alone.body == bytes([0]) * 100
    skip = frozenset({alone.seq})
    rest = await store.oldest(ALICE, None, NOW, messages=2, bytes=10**6, without=skip)
    assert ([item.body[0] for item in rest.mail], rest.is_all) == ([1, 2], False)
    after = three.mail[1].seq
    rest = await store.oldest(ALICE, None, NOW, messages=9, bytes=10**6, without=skip, after=after)
    assert ([item.body[0] for item in rest.mail], rest.is_all) == ([2, 3, 4], True)


async def test_an_id_never_comes_back_for_another_message(store: Store) -> None:
    did = await registered(store)
    await store.enqueue(did, [b"one"], LATER, NOW)
    (one,) = (await store.oldest(ALICE, None, NOW, messages=1, bytes=10**6)).mail
    await store.acknowledge(ALICE, [one.seq], NOW)
    await store.enqueue(did, [b"two"], LATER, NOW)
    await store.acknowledge(ALICE, [one.seq], NOW)
    assert await all_mail(store) == [b"two"]


async def test_expired_mail_is_hidden_at_once_and_deleted_in_batches(store: Store) -> None:
    did = await registered(store)
    bodies = [f"{n}".encode() for n in range(EXPIRY_BATCH + 10)]
    await asyncio.gather(*(store.enqueue(did, [body], NOW + 5, NOW) for body in bodies))
    assert await all_mail(store, NOW + 5) == []
    assert (await store.queue(ALICE, None, NOW + 5)).count == 0
    assert [await store.expire(NOW + 5), await store.expire(NOW + 5)] == [EXPIRY_BATCH, 10]
    assert await store.queued() == 0


async def test_acknowledged_mail_is_forgotten_in_batches_too(store: Store, tmp_path: Path) -> None:
    did = await registered(store)
    bodies = [f"{n}".encode() for n in range(EXPIRY_BATCH + 10)]
    kept = await asyncio.gather(*(store.enqueue(did, [body], LATER, NOW) for body in bodies))
    await store.acknowledge(ALICE, [seq for each in kept for seq, _ in each.mail], NOW)
    later = NOW + Limits().acknowledged_seconds
    assert [await store.expire(later - 1) for _ in range(2)] == [0, 0]
    assert [await store.expire(later) for _ in range(3)] == [EXPIRY_BATCH, 10, 0]


async def test_what_changed_an_account_once_does_not_again(store: Store) -> None:
    did = Identity.peer4().did
    await store.update_keylist(ALICE, [Update(did, "add")], b"envelope", NOW)
    with pytest.raises(Replayed):
        await store.update_keylist(ALICE, [Update(did, "remove")], b"envelope", NOW)
    await store.enqueue(did, [b"still here"], LATER, NOW)


async def test_capabilities_are_bound_to_their_first_key_and_stay_so(store: Store, tmp_path: Path) -> None:
    near, far = hashlib.sha256(b"near").digest(), hashlib.sha256(b"far").digest()
    await store.create_channels(ALICE, [("c1", near, far)], LATER, b"envelope", NOW)
    first = await store.bind(near, b"k" * 32)
    await store.close()
    again = SqliteStore(tmp_path, Limits())
    assert await again.bind(near, b"x" * 32) == first
    other = await again.bind(far, b"x" * 32)
    assert first is not None and other is not None
    assert (first.channel, first.side, other.side) == (other.channel, 0, 1)
    assert (first.rebind_key, other.rebind_key) == (b"k" * 32, b"x" * 32)
    assert await again.bind(b"?" * 32, b"x" * 32) is None
    await again.expire(LATER)
    assert await again.bind(near, b"k" * 32) is None
    await again.close()


async def test_capabilities_themselves_are_nowhere_on_disk(store: Store, tmp_path: Path) -> None:
    secret = b"a capability of thirty-two bytes"
    hashed = hashlib.sha256(secret).digest()
    await store.create_channels(ALICE, [("c1", hashed, hashlib.sha256(hashed).digest())], LATER, b"e", NOW)
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert any(hashed in content for content in files)
    assert not any(secret in content for content in files)


async def test_unknown_recipients_and_a_full_disk_are_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UnknownNext):
        await store.enqueue(Identity.peer4().did, [b"x"], LATER, NOW)
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


async def test_mail_alone_stops_while_there_is_still_room_for_the_rest(tmp_path: Path, store: Store) -> None:
    did = await registered(store)
    await store.close()
    short = SqliteStore(tmp_path, Limits(free_disk_for_mail_bytes=1 << 62))
    with pytest.raises(DiskFull):
        await short.enqueue(did, [b"y"], LATER, NOW)
    await short.enrol(Identity.peer4().did, NOW)
    await registered(short)
    await short.create_channels(ALICE, [("c1", b"n" * 32, b"f" * 32)], LATER, b"envelope", NOW)
    await short.close()


async def test_all_mailboxes_of_an_account_are_bounded_together(tmp_path: Path, store: Store) -> None:
    await store.close()
    store = SqliteStore(tmp_path, Limits(account_bytes=10_000))
    first, second, of_bob = await registered(store), await registered(store), await registered(store, BOB)
    await store.enqueue(first, [b"a" * 6_000], LATER, NOW)
    with pytest.raises(MailboxFull):
        await store.enqueue(second, [b"b" * 3_000, b"c" * 2_000], LATER, NOW)
    await store.enqueue(of_bob, [b"d" * 6_000], LATER, NOW)  # not another's
    assert counters(tmp_path) == (2, 12_000)
    await store.update_keylist(ALICE, [Update(first, "remove")], b"removal", NOW)
    await store.enqueue(second, [b"e" * 10_000], LATER, NOW)
    assert counters(tmp_path) == (2, 16_000)
    await store.close()


async def test_a_long_form_that_comes_later_is_kept(store: Store) -> None:
    account, key = Identity.peer4().did, Identity.peer4().did
    for form in (canonical, str):
        await store.enrol(form(account), NOW)
        await store.update_keylist(account, [Update(form(key), "add")], form(key).encode(), NOW)
    for form in (canonical, str):
        await store.enrol(form(account), NOW)
        assert await store.long_form(canonical(account)) == account
        assert await store.long_form(canonical(key)) == key
    assert await store.keylist(account) == [key]


async def test_a_ticket_is_good_until_its_time_and_is_not_used_up_in_vain(store: Store) -> None:
    ticket = await store.issue_ticket(1, NOW + 10)
    assert not await store.enrol(Identity.peer4().did, NOW + 10, "invitation", ticket)
    assert await store.enrol(ALICE, NOW + 9, "invitation", ticket)  # is there
    assert await store.enrol(Identity.peer4().did, NOW + 9, "invitation", ticket)
    assert not await store.enrol(Identity.peer4().did, NOW + 9, "invitation", ticket)


async def test_a_rule_holds_as_soon_as_it_is_set(store: Store) -> None:
    assert not await store.is_denied(ALICE)
    await store.set_rule(ALICE, False)
    assert await store.is_denied("did:key:zOther", ALICE)
    asked = [asyncio.create_task(store.is_denied(ALICE)) for _ in range(3)]
    await store.set_rule(ALICE, True)
    assert not await store.is_denied(ALICE)
    await asyncio.gather(*asked)
    await store.set_rule(ALICE, None)
    assert not await store.is_denied(ALICE)


async def test_files_are_for_their_owner_only(store: Store, tmp_path: Path) -> None:
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


async def test_nothing_is_reported_as_done_before_its_commit_is_on_disk(store: Store) -> None:
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


async def test_so_many_accounts_are_taken_and_one_that_has_gone_makes_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Limits(accounts=2))
    dids = [Identity.peer4().did for _ in range(4)]
    for did in dids[:2]:
        await store.enrol(did, NOW)
    with pytest.raises(TooMany):
        await store.enrol(dids[2], NOW)
    await store.evict(dids[0])
    await store.enrol(dids[2], NOW)  # though the highest number in the table is above the limit by now
    with pytest.raises(TooMany):
        await store.enrol(dids[3], NOW)
    assert [await store.is_enrolled(did) for did in dids] == [False, True, True, False]
    await store.close()
