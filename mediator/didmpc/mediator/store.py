"""What the mediator keeps: accounts, their mailboxes and mail, relay channels.

Parties are stored by their canonical DID, so the long and the short form of a did:peer:4 are one. The
long form is kept beside it: without it the short form of an account could not be answered after a restart.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from didmpc.mediator.database import Database
from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import DiskFull, MailboxFull, NoAccount, Replayed, TooBig, TooMany, UnknownNext
from didmpc.protocols.did import canonical
from didmpc.protocols.mediation import Result, Update, Updated

EXPIRY_BATCH = 500

_SCHEMA = """
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

# What all mailboxes of an account hold, exact through whatever changes or deletes a mailbox.
_TOTALS = """
ALTER TABLE account ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE account SET bytes = (SELECT coalesce(sum(box.bytes), 0) FROM box WHERE box.aid = account.aid);
CREATE TRIGGER box_changed AFTER UPDATE OF bytes ON box BEGIN
    UPDATE account SET bytes = bytes + new.bytes - old.bytes WHERE aid = new.aid;
END;
CREATE TRIGGER box_deleted AFTER DELETE ON box BEGIN
    UPDATE account SET bytes = bytes - old.bytes WHERE aid = old.aid;
END;
"""


@dataclass(frozen=True, slots=True)
class Mail:
    """One envelope in a mailbox, exactly as it was forwarded."""

    seq: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Queue:
    """How much waits."""

    count: int
    bytes: int
    oldest: float | None
    newest: float | None


@dataclass(frozen=True, slots=True)
class ChannelEnd:
    """The end of a channel that a capability stands for."""

    channel: int
    side: int
    expires: float
    rebind_key: bytes
    account: int
    """Of whom the channel is."""


class Store:
    """All of it; each method is one transaction, and has happened for good when it returns."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._limits = limits
        self._folder = folder
        self._database = Database(folder / "mediator.sqlite3", (_SCHEMA, _TOTALS))

    async def close(self) -> None:
        await self._database.close()

    # --- accounts

    async def enrol(self, did: str, now: float) -> None:
        """Open an account for a DID; one that is there stays as it is."""
        self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> None:
            if _account(db, did) is not None:
                return
            (count,) = db.execute("SELECT count(*) FROM account").fetchone()
            if count >= self._limits.accounts:
                raise TooMany("This mediator takes no more accounts.")
            db.execute(
                "INSERT INTO account(did, long_did, created) VALUES (?, ?, ?)", (canonical(did), did, now)
            )

        await self._database.write(job)

    async def is_enrolled(self, did: str) -> bool:
        return await self._database.read(lambda db: _account(db, did) is not None)

    async def act_once(self, account: str, envelope: bytes, now: float) -> None:
        """Note that an envelope of this account was acted on. Raises `Replayed` the second time."""

        def job(db: sqlite3.Connection) -> None:
            _require_account(db, account)
            self._act_once(db, envelope, now)

        await self._database.write(job)

    async def long_form(self, short_did: str) -> str | None:
        """The long form of an account's did:peer:4."""

        def job(db: sqlite3.Connection) -> str | None:
            row = db.execute("SELECT long_did FROM account WHERE did = ?", (short_did,)).fetchone()
            return None if row is None or row[0] == short_did else row[0]

        return await self._database.read(job)

    # --- key lists

    async def update_keylist(
        self, account: str, updates: Sequence[Update], envelope: bytes, now: float
    ) -> list[Updated]:
        """Bindings are exclusive, first come: the DID of another account is a `client_error`."""
        if any(update.action == "add" for update in updates):
            self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> list[Updated]:
            aid = _require_account(db, account)
            self._act_once(db, envelope, now)
            return [
                Updated(update.recipient_did, update.action, self._update(db, aid, update))
                for update in updates
            ]

        return await self._database.write(job)

    def _update(self, db: sqlite3.Connection, aid: int, update: Update) -> Result:
        did = canonical(update.recipient_did)
        row = db.execute("SELECT mid, aid FROM box WHERE did = ?", (did,)).fetchone()
        if update.action == "remove":
            if row is None or row[1] != aid:
                return "no_change"  # also for the DID of another account: who has which is nobody's business
            db.execute("DELETE FROM box WHERE mid = ?", (row[0],))
            return "success"
        if row is not None:
            return "no_change" if row[1] == aid else "client_error"
        (count,) = db.execute("SELECT count(*) FROM box WHERE aid = ?", (aid,)).fetchone()
        if count >= self._limits.keys_per_account:
            return "client_error"
        db.execute("INSERT INTO box(aid, did, long_did) VALUES (?, ?, ?)", (aid, did, update.recipient_did))
        return "success"

    async def keylist(self, account: str) -> list[str]:
        """The registered DIDs, oldest first, as they were written when they were added."""

        def job(db: sqlite3.Connection) -> list[str]:
            aid = _require_account(db, account)
            rows = db.execute("SELECT long_did FROM box WHERE aid = ? ORDER BY mid", (aid,))
            return [did for (did,) in rows]

        return await self._database.read(job)

    # --- mail

    async def enqueue(self, recipient: str, envelopes: Sequence[bytes], expires: float, now: float) -> str:
        """Keep envelopes for a registered DID, all or none; returns whose mailbox it is.

        The same envelope again is no second entry: a sender that lost our answer may send it again.
        """
        self._check_room(self._limits.free_disk_for_mail_bytes)
        for envelope in envelopes:
            if len(envelope) > self._limits.forward_bytes:
                raise TooBig(self._limits.forward_bytes)
        hashed = [(hashlib.sha256(envelope).digest(), envelope) for envelope in envelopes]
        did = canonical(recipient)

        def job(db: sqlite3.Connection) -> str:
            row = db.execute(
                "SELECT box.mid, account.did FROM box JOIN account USING (aid) WHERE box.did = ?", (did,)
            ).fetchone()
            if row is None:
                raise UnknownNext
            mid, account = row
            for digest, envelope in hashed:
                self._insert(db, mid, digest, envelope, expires, now)
            return str(account)

        return await self._database.write(job)

    def _insert(
        self, db: sqlite3.Connection, mid: int, digest: bytes, body: bytes, expires: float, now: float
    ) -> None:
        inserted = db.execute(
            "INSERT INTO msg(mid, at, exp, size, h, body) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT(mid, h) DO NOTHING",
            (mid, now, expires, len(body), digest, body),
        )
        if not inserted.rowcount:
            return
        within = db.execute(
            "UPDATE box SET n = n + 1, bytes = bytes + ?1 WHERE mid = ?2 AND n < ?3 AND bytes + ?1 <= ?4"
            " AND (SELECT account.bytes FROM account WHERE account.aid = box.aid) + ?1 <= ?5",
            (
                *(len(body), mid, self._limits.mailbox_messages, self._limits.mailbox_bytes),
                self._limits.account_bytes,
            ),
        )
        if not within.rowcount:
            raise MailboxFull

    async def queue(self, account: str, recipient: str | None, now: float) -> Queue:
        """How much waits for an account, or for one DID of it."""

        def job(db: sqlite3.Connection) -> Queue:
            where, values = _whose(db, account, recipient)
            row = db.execute(
                f"SELECT count(*), coalesce(sum(size), 0), min(at), max(at) FROM msg"  # noqa: S608
                f" WHERE {where} AND exp > ?",
                (*values, now),
            ).fetchone()
            return Queue(*row)

        return await self._database.read(job)

    async def oldest(
        self,
        account: str,
        recipient: str | None,
        now: float,
        *,
        messages: int,
        bytes: int,
        without: frozenset[int] = frozenset(),
    ) -> list[Mail]:
        """The oldest mail, within both bounds; a first message larger than `bytes` comes alone."""

        def job(db: sqlite3.Connection) -> list[Mail]:
            where, values = _whose(db, account, recipient)
            rows = db.execute(
                f"SELECT seq, size FROM msg WHERE {where} AND exp > ? ORDER BY seq LIMIT ?",  # noqa: S608
                (*values, now, messages + len(without)),
            )
            chosen: list[int] = []
            total = 0
            for seq, size in rows:
                if seq in without:
                    continue
                if len(chosen) == messages or (chosen and total + size > bytes):
                    break
                chosen.append(seq)
                total += size
            return [
                Mail(seq, db.execute("SELECT body FROM msg WHERE seq = ?", (seq,)).fetchone()[0])
                for seq in chosen
            ]

        return await self._database.read(job)

    async def acknowledge(self, account: str, seqs: Sequence[int]) -> None:
        """Delete mail of this account; what is not there, or is another's, is passed over."""

        def job(db: sqlite3.Connection) -> None:
            aid = _require_account(db, account)
            for seq in seqs:
                _delete(db, "seq = ? AND mid IN (SELECT mid FROM box WHERE aid = ?)", (seq, aid))

        await self._database.write(job)

    async def expire(self, now: float) -> int:
        """Delete what is over; to be called again as long as it returns a whole batch."""

        def job(db: sqlite3.Connection) -> int:
            rows = db.execute("SELECT seq FROM msg WHERE exp <= ? LIMIT ?", (now, EXPIRY_BATCH)).fetchall()
            for (seq,) in rows:
                _delete(db, "seq = ?", (seq,))
            db.execute("DELETE FROM seen WHERE exp <= ?", (now,))
            db.execute("DELETE FROM channel WHERE exp <= ?", (now,))
            db.execute("DELETE FROM link WHERE exp <= ?", (now,))
            return len(rows)

        return await self._database.write(job)

    async def queued(self) -> int:
        """Messages in all mailboxes."""

        def job(db: sqlite3.Connection) -> int:
            (count,) = db.execute("SELECT coalesce(sum(n), 0) FROM box").fetchone()
            return int(count)

        return await self._database.read(job)

    # --- relay channels

    async def create_channels(
        self,
        account: str,
        channels: Sequence[tuple[str, bytes, bytes]],
        expires: float,
        envelope: bytes,
        now: float,
    ) -> None:
        """Keep channels: name, and the hashes of the near and the far capability."""
        self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> None:
            aid = _require_account(db, account)
            self._act_once(db, envelope, now)
            (count,) = db.execute("SELECT count(*) FROM channel WHERE aid = ?", (aid,)).fetchone()
            if count + len(channels) > self._limits.channels_per_account:
                raise TooMany(
                    "You have too many relay channels.", fix="Revoke those that are not used any more."
                )
            for name, *ends in channels:
                cid = db.execute(
                    "INSERT INTO channel(aid, name, exp) VALUES (?, ?, ?)", (aid, name, expires)
                ).lastrowid
                for side, digest in enumerate(ends):
                    db.execute("INSERT INTO capability(h, cid, side) VALUES (?, ?, ?)", (digest, cid, side))

        await self._database.write(job)

    async def revoke_channels(self, account: str, names: Sequence[str]) -> list[int]:
        """Delete channels of this account; returns which they were."""

        def job(db: sqlite3.Connection) -> list[int]:
            aid = _require_account(db, account)
            revoked: list[int] = []
            for name in names:
                row = db.execute("SELECT cid FROM channel WHERE name = ? AND aid = ?", (name, aid)).fetchone()
                if row is not None:
                    db.execute("DELETE FROM channel WHERE cid = ?", row)
                    revoked.append(row[0])
            return revoked

        return await self._database.write(job)

    async def bind(self, capability: bytes, rebind_key: bytes) -> ChannelEnd | None:
        """The end of a capability (its hash), or None. The first bind writes down its rebind key.

        Whether the key of a later one fits, and whether the channel has expired, is the caller's to check.
        """
        find = (
            "SELECT cid, side, exp, rebind, aid FROM capability JOIN channel USING (cid)"
            " WHERE capability.h = ?"
        )
        row = await self._database.read(lambda db: db.execute(find, (capability,)).fetchone())
        if row is not None and row[3] is None:

            def job(db: sqlite3.Connection) -> tuple[int, int, float, bytes, int] | None:
                db.execute(
                    "UPDATE capability SET rebind = ? WHERE h = ? AND rebind IS NULL",
                    (rebind_key, capability),
                )
                found: tuple[int, int, float, bytes, int] | None = db.execute(find, (capability,)).fetchone()
                return found

            row = await self._database.write(job)
        return None if row is None else ChannelEnd(*row)

    # --- short links

    async def keep_link(
        self, account: str, name: str, oob: str, expires: float, envelope: bytes, now: float
    ) -> None:
        """Keep what a short link of this account leads to."""
        self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> None:
            aid = _require_account(db, account)
            self._act_once(db, envelope, now)
            db.execute("DELETE FROM link WHERE aid = ? AND exp <= ?", (aid, now))
            (count,) = db.execute("SELECT count(*) FROM link WHERE aid = ?", (aid,)).fetchone()
            if count >= self._limits.links_per_account:
                raise TooMany("You have too many short links.", fix="Pass on the long link.")
            db.execute("INSERT INTO link(name, aid, oob, exp) VALUES (?, ?, ?, ?)", (name, aid, oob, expires))

        await self._database.write(job)

    async def link(self, name: str, now: float) -> str | None:
        """What a short link leads to, while it lasts."""
        find = "SELECT oob FROM link WHERE name = ? AND exp > ?"
        row = await self._database.read(lambda db: db.execute(find, (name, now)).fetchone())
        return None if row is None else str(row[0])

    # --- inner

    def _act_once(self, db: sqlite3.Connection, envelope: bytes, now: float) -> None:
        digest = hashlib.sha256(envelope).digest()
        try:
            db.execute("INSERT INTO seen(h, exp) VALUES (?, ?)", (digest, now + self._limits.replay_seconds))
        except sqlite3.IntegrityError:
            raise Replayed from None

    def _check_room(self, needed: int) -> None:
        if shutil.disk_usage(self._folder).free < needed:
            raise DiskFull


def _account(db: sqlite3.Connection, did: str) -> int | None:
    row = db.execute("SELECT aid FROM account WHERE did = ?", (canonical(did),)).fetchone()
    return None if row is None else int(row[0])


def _require_account(db: sqlite3.Connection, did: str) -> int:
    aid = _account(db, did)
    if aid is None:
        raise NoAccount
    return aid


def _whose(db: sqlite3.Connection, account: str, recipient: str | None) -> tuple[str, tuple[object, ...]]:
    """The condition for mail of an account, or of one DID of it. Another's DID has no mail here."""
    aid = _require_account(db, account)
    if recipient is None:
        return "mid IN (SELECT mid FROM box WHERE aid = ?)", (aid,)
    return "mid IN (SELECT mid FROM box WHERE aid = ? AND did = ?)", (aid, canonical(recipient))


def _delete(db: sqlite3.Connection, where: str, values: tuple[object, ...]) -> None:
    row = db.execute(f"DELETE FROM msg WHERE {where} RETURNING mid, size", values).fetchone()  # noqa: S608
    if row is not None:
        db.execute("UPDATE box SET n = n - 1, bytes = bytes - ? WHERE mid = ?", (row[1], row[0]))
