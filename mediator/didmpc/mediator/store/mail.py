"""Mailboxes and the mail in them."""

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from didmpc.mediator.refusals import MailboxFull, TooBig, UnknownNext
from didmpc.mediator.store.part import Part, require_account
from didmpc.protocols.did import canonical

EXPIRY_BATCH = 500


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


class MailStore(Part):
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
            aid = require_account(db, account)
            for seq in seqs:
                delete_mail(db, "seq = ? AND mid IN (SELECT mid FROM box WHERE aid = ?)", (seq, aid))

        await self._database.write(job)

    async def queued(self) -> int:
        """Messages in all mailboxes."""

        def job(db: sqlite3.Connection) -> int:
            (count,) = db.execute("SELECT coalesce(sum(n), 0) FROM box").fetchone()
            return int(count)

        return await self._database.read(job)


def _whose(db: sqlite3.Connection, account: str, recipient: str | None) -> tuple[str, tuple[object, ...]]:
    """The condition for mail of an account, or of one DID of it. Another's DID has no mail here."""
    aid = require_account(db, account)
    if recipient is None:
        return "mid IN (SELECT mid FROM box WHERE aid = ?)", (aid,)
    return "mid IN (SELECT mid FROM box WHERE aid = ? AND did = ?)", (aid, canonical(recipient))


def delete_mail(db: sqlite3.Connection, where: str, values: tuple[object, ...]) -> None:
    row = db.execute(f"DELETE FROM msg WHERE {where} RETURNING mid, size", values).fetchone()  # noqa: S608
    if row is not None:
        db.execute("UPDATE box SET n = n - 1, bytes = bytes - ? WHERE mid = ?", (row[1], row[0]))
