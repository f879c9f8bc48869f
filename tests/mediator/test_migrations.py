"""Stores that older versions of didmpc wrote are read by this one, with all that is in them.

The SQL here is what those versions ran; it is kept apart from the product's, which may be rewritten.
"""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import Replayed
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.messages.mediation import Update

VERSION_1 = """
CREATE TABLE account(
    aid INTEGER PRIMARY KEY,
    did TEXT NOT NULL UNIQUE,
    long_did TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;
-- A key list entry is a mailbox; n and bytes are what its messages add up to.
CREATE TABLE box(
    mid INTEGER PRIMARY KEY,
    aid INTEGER NOT NULL REFERENCES account(aid) ON DELETE CASCADE,
    did TEXT NOT NULL UNIQUE,
    long_did TEXT NOT NULL,
    n INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX box_of_account ON box(aid);
-- AUTOINCREMENT: the id of an acknowledged message never comes back for another one.
CREATE TABLE msg(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    mid INTEGER NOT NULL REFERENCES box(mid) ON DELETE CASCADE,
    at REAL NOT NULL,
    exp REAL NOT NULL,
    size INTEGER NOT NULL,
    h BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX msg_of_box ON msg(mid, seq);
CREATE INDEX msg_by_expiry ON msg(exp);
CREATE UNIQUE INDEX msg_once ON msg(mid, h);
-- Envelopes that changed an account, so that nobody can have them act again.
CREATE TABLE seen(h BLOB PRIMARY KEY, exp REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX seen_by_expiry ON seen(exp);
CREATE TABLE channel(
    cid INTEGER PRIMARY KEY AUTOINCREMENT,
    aid INTEGER NOT NULL REFERENCES account(aid) ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE,
    exp REAL NOT NULL
) STRICT;
CREATE INDEX channel_of_account ON channel(aid);
CREATE INDEX channel_by_expiry ON channel(exp);
-- Only hashes of capabilities; rebind is the public key of whoever bound it first.
CREATE TABLE capability(
    h BLOB PRIMARY KEY,
    cid INTEGER NOT NULL REFERENCES channel(cid) ON DELETE CASCADE,
    side INTEGER NOT NULL,
    rebind BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX capability_of_channel ON capability(cid);
-- Short links to invitations.
CREATE TABLE link(
    name TEXT PRIMARY KEY,
    aid INTEGER NOT NULL REFERENCES account(aid) ON DELETE CASCADE,
    oob TEXT NOT NULL,
    exp REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX link_of_account ON link(aid);
CREATE INDEX link_by_expiry ON link(exp);
"""

VERSION_2 = """
ALTER TABLE account ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE account SET bytes = (SELECT coalesce(sum(box.bytes), 0) FROM box WHERE box.aid = account.aid);
CREATE TRIGGER box_changed AFTER UPDATE OF bytes ON box BEGIN
    UPDATE account SET bytes = bytes + new.bytes - old.bytes WHERE aid = new.aid;
END;
CREATE TRIGGER box_deleted AFTER DELETE ON box BEGIN
    UPDATE account SET bytes = bytes - old.bytes WHERE aid = old.aid;
END;
"""

NOW, LATER = 1_000.0, 2_000.0
ALICE, BOB, FIRST, SECOND = (f"did:example:{name}" for name in ("alice", "bob", "first", "second"))


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def write_old(folder: Path, version: int) -> None:
    """A store as version 1 or 2 left it: two accounts, mail, a channel, a link, a used envelope."""
    with sqlite3.connect(folder / "mediator.sqlite3", isolation_level=None) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(VERSION_1)
        db.execute("INSERT INTO account VALUES (1, ?, ?, 1), (2, ?, ?, 1)", (ALICE, ALICE, BOB, BOB))
        db.execute(
            "INSERT INTO box VALUES (1, 1, ?, ?, 2, 9), (2, 2, ?, ?, 1, 5)", (FIRST, FIRST, SECOND, SECOND)
        )
        for seq, mid, body in ((1, 1, b"first"), (2, 2, b"bob's"), (3, 1, b"next")):
            row = (seq, mid, NOW, LATER, len(body), digest(body), body)
            db.execute("INSERT INTO msg VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO seen VALUES (?, ?)", (digest(b"used"), LATER))
        db.execute("INSERT INTO channel VALUES (1, 1, 'c1', ?)", (LATER,))
        db.execute("INSERT INTO capability VALUES (?, 1, 0, ?)", (digest(b"near"), b"k" * 32))
        db.execute("INSERT INTO link VALUES ('name', 1, 'invitation', ?)", (LATER,))
        if version == 2:
            db.executescript(VERSION_2)
        db.execute(f"PRAGMA user_version={version}")
    db.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_everything_in_an_older_store_is_there_after_the_update(tmp_path: Path, version: int) -> None:
    write_old(tmp_path, version)
    store = SqliteStore(tmp_path, Limits())
    mail = (await store.oldest(ALICE, None, NOW, messages=9, bytes=10**6)).mail
    assert [(item.seq, item.body) for item in mail] == [(1, b"first"), (3, b"next")]
    queue = await store.queue(ALICE, None, NOW)
    assert (queue.count, queue.bytes, queue.oldest) == (2, 9, NOW)
    assert await store.keylist(BOB) == [SECOND]
    assert await store.link("name", NOW) == "invitation"
    end = await store.bind(digest(b"near"), b"x" * 32)
    assert end is not None and end.rebind_key == b"k" * 32
    with pytest.raises(Replayed):
        await store.act_once(ALICE, b"used", NOW)
    # It is at work, too: the same envelope is no second entry, and the totals follow what is deleted.
    await store.enqueue(FIRST, [b"first", b"new"], LATER, NOW)
    await store.acknowledge(ALICE, [1], NOW)
    await store.update_keylist(BOB, [Update(SECOND, "remove")], b"removal", NOW)
    await store.close()
    with sqlite3.connect(tmp_path / "mediator.sqlite3") as db:
        assert db.execute("SELECT aid, bytes FROM account ORDER BY aid").fetchall() == [(1, 7), (2, 0)]
        assert db.execute("SELECT n, bytes FROM box").fetchall() == [(2, 7)]
        assert db.execute("SELECT body FROM msg ORDER BY seq").fetchall() == [(b"next",), (b"new",)]
    db.close()


async def test_an_update_that_fails_halfway_leaves_the_older_store_as_it_was(tmp_path: Path) -> None:
    write_old(tmp_path, 2)
    path = tmp_path / "mediator.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE operator_message(whose TEXT)")  # in the way of the last statement
    with pytest.raises(sqlite3.OperationalError):
        SqliteStore(tmp_path, Limits())
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert "due" not in [row[1] for row in db.execute("PRAGMA table_info(msg)")]
        db.execute("DROP TABLE operator_message")
    db.close()
    store = SqliteStore(tmp_path, Limits())
    assert (await store.queue(ALICE, None, NOW)).count == 2
    await store.close()


async def test_a_store_of_a_later_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    await SqliteStore(tmp_path, Limits()).close()
    path = tmp_path / "mediator.sqlite3"
    with sqlite3.connect(path) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(DidmpcError) as refused:
        SqliteStore(tmp_path, Limits())
    assert "another version of didmpc" in refused.value.what
    assert "99" in (refused.value.why or "") and str(version) in (refused.value.why or "")
    assert "version of didmpc that wrote it" in (refused.value.fix or "")
    assert path.read_bytes() == before
