"""Mailboxes and the mail in them."""

import hashlib
import math
import sqlite3
from collections.abc import Sequence

from didmpc.mediator.refusals import MailboxFull, SessionsFull, TooBig, UnknownNext
from didmpc.mediator.store.interface import NO_ROOM_BEYOND
from didmpc.mediator.store.records import Kept, Listing, Mail, Queue, Room
from didmpc.mediator.store.sqlite.part import Part, require_account
from didmpc.protocols.did import canonical


class MailStore(Part):
    async def mailbox(self, recipient: str) -> int | None:
        did = canonical(recipient)
        find = "SELECT mid FROM box WHERE did = ?"
        row = await self._database.read(lambda db: db.execute(find, (did,)).fetchone())
        return None if row is None else int(row[0])

    async def enqueue(
        self,
        recipient: str,
        envelopes: Sequence[bytes],
        expires: float,
        now: float,
        *,
        due: float = 0.0,
        beyond: Room = NO_ROOM_BEYOND,
        packets: bool = False,
    ) -> Kept:
        self.check_room_for_mail()
        for envelope in envelopes:
            if len(envelope) > self._limits.forward_bytes:
                raise TooBig(self._limits.forward_bytes)
        hashed = [(hashlib.sha256(envelope).digest(), envelope) for envelope in envelopes]
        did = canonical(recipient)

        def job(db: sqlite3.Connection) -> Kept:
            row = db.execute(
                "SELECT box.mid, account.did FROM box JOIN account USING (aid) WHERE box.did = ?", (did,)
            ).fetchone()
            if row is None:
                raise UnknownNext
            mid, account = row
            mail = [
                (
                    self._insert(db, mid, digest, envelope, expires, now, due, beyond, packets),
                    len(envelope),
                )
                for digest, envelope in hashed
            ]
            return Kept(str(account), tuple((seq, size) for seq, size in mail if seq is not None))

        return await self._grow(job)

    def _insert(
        self,
        db: sqlite3.Connection,
        mid: int,
        digest: bytes,
        body: bytes,
        expires: float,
        now: float,
        due: float,
        beyond: Room,
        packet: bool,
    ) -> int | None:
        size = len(body)
        insert = (
            "INSERT INTO msg(mid, at, exp, size, h, body, due, packet) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8"
            " WHERE NOT EXISTS (SELECT 1 FROM acknowledged WHERE mid = ?1 AND h = ?5 AND exp > ?2)"
            " ON CONFLICT(mid, h) DO NOTHING RETURNING seq"
        )
        values = (mid, now, expires, size, digest, body, due if due > now else 0.0, packet)
        inserted = db.execute(insert, values).fetchone()
        if inserted is None and delete_mail(db, "mid = ? AND h = ? AND exp <= ?", (mid, digest, now)):
            inserted = db.execute(insert, values).fetchone()  # the first one was over, only not yet swept
        if inserted is None:
            return None
        if not (self._count_packet if packet else self._count_mail)(db, mid, size, beyond):
            raise SessionsFull if packet else MailboxFull
        return int(inserted[0])

    def _count_mail(self, db: sqlite3.Connection, mid: int, size: int, beyond: Room) -> bool:
        limits = self._limits
        counted = db.execute(
            "UPDATE box SET n = n + 1, bytes = bytes + ?1"
            " WHERE mid = ?2 AND n - packets < ?3 AND bytes - packet_bytes + ?1 <= ?4"
            " AND (SELECT bytes - packet_bytes FROM account WHERE account.aid = box.aid) + ?1 <= ?5",
            (
                *(size, mid, limits.mailbox_messages + beyond.messages, limits.mailbox_bytes + beyond.bytes),
                limits.account_bytes + beyond.bytes,
            ),
        )
        return counted.rowcount > 0

    def _count_packet(self, db: sqlite3.Connection, mid: int, size: int, beyond: Room) -> bool:
        limits = self._limits
        counted = db.execute(
            "UPDATE box SET n = n + 1, bytes = bytes + ?1, packets = packets + 1,"
            " packet_bytes = packet_bytes + ?1"
            " WHERE mid = ?2 AND packets < ?3 AND packet_bytes + ?1 <= ?4"
            " AND (SELECT packet_bytes FROM account WHERE account.aid = box.aid) + ?1 <= ?5",
            (
                *(size, mid, limits.session_messages + beyond.messages, limits.session_bytes + beyond.bytes),
                limits.account_session_bytes + beyond.bytes,
            ),
        )
        return counted.rowcount > 0

    async def queue(self, account: str, recipient: str | None, now: float) -> Queue:
        def job(db: sqlite3.Connection) -> Queue:
            where, values = _whose(db, account, recipient)
            mine = f"IN (SELECT mid FROM box WHERE {where})"  # noqa: S608
            count, size = db.execute(
                f"SELECT coalesce(sum(n), 0), coalesce(sum(bytes), 0) FROM box WHERE {where}",  # noqa: S608
                values,
            ).fetchone()
            hidden = [
                f"mid {mine} AND due > 0 AND due > :now AND exp > :now",
                f"+mid {mine} AND exp <= :now",  # +: by the index of times, where there are few
            ]
            for condition in hidden if count else ():
                less = db.execute(
                    f"SELECT count(*), coalesce(sum(size), 0) FROM msg WHERE {condition}",  # noqa: S608
                    {**values, "now": now},
                ).fetchone()
                count, size = count - less[0], size - less[1]
            if not count:
                return Queue(0, 0, None, None)
            ends = [
                db.execute(
                    f"SELECT {pick}((SELECT at FROM msg WHERE msg.mid = box.mid AND due <= :now"  # noqa: S608
                    f" AND exp > :now ORDER BY seq {order} LIMIT 1)) FROM box WHERE {where} AND n > 0",
                    {**values, "now": now},
                ).fetchone()[0]
                for pick, order in (("min", ""), ("max", "DESC"))
            ]
            return Queue(count, size, *ends)

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
        after: int = 0,
        or_due_after: float = math.inf,
    ) -> Listing:
        def job(db: sqlite3.Connection) -> Listing:
            where, values = _whose(db, account, recipient)
            since = "seq > :after" if or_due_after == math.inf else "(seq > :after OR due > :due_after)"
            rows = db.execute(
                "SELECT seq, size, mid, exp FROM msg"  # noqa: S608
                f" WHERE mid IN (SELECT mid FROM box WHERE {where}) AND due <= :now AND exp > :now"
                f" AND {since} ORDER BY seq LIMIT :count",
                {
                    **values,
                    "now": now,
                    "after": after,
                    "due_after": or_due_after,
                    "count": messages + len(without),
                },
            ).fetchall()
            chosen: list[tuple[int, int, float]] = []
            total = seen = 0
            for seq, size, mid, expires in rows:
                if seq not in without:
                    if len(chosen) == messages or (chosen and total + size > bytes):
                        break
                    chosen.append((seq, mid, expires))
                    total += size
                seen += 1
            is_all = seen == len(rows) < messages + len(without)
            mail: list[Mail] = []
            for seq, mid, expires in chosen:
                body, packet = db.execute("SELECT body, packet FROM msg WHERE seq = ?", (seq,)).fetchone()
                mail.append(Mail(seq, body, mid, expires, bool(packet)))
            return Listing(tuple(mail), is_all)

        return await self._database.read(job)

    async def newest(self, account: str) -> int:
        # Of all accounts: there is one writer, so ids are given in the order of commits.
        find = "SELECT coalesce(max(seq), 0) FROM msg"
        (seq,) = await self._database.read(lambda db: db.execute(find).fetchone())
        return int(seq)

    async def next_due(self, account: str, now: float) -> float:
        def job(db: sqlite3.Connection) -> float:
            where, values = _whose(db, account, None)
            (due,) = db.execute(
                "SELECT min(due) FROM msg"  # noqa: S608
                f" WHERE mid IN (SELECT mid FROM box WHERE {where}) AND due > :now AND due > 0",
                {**values, "now": now},
            ).fetchone()
            return math.inf if due is None else float(due)

        return await self._database.read(job)

    async def acknowledge(self, account: str, seqs: Sequence[int], now: float) -> None:
        remembered = now + self._limits.acknowledged_seconds

        def job(db: sqlite3.Connection) -> None:
            aid = require_account(db, account)
            for seq in seqs:
                gone = delete_mail(db, "seq = ? AND mid IN (SELECT mid FROM box WHERE aid = ?)", (seq, aid))
                if gone is not None:
                    db.execute(
                        "INSERT INTO acknowledged(mid, h, exp) VALUES (?, ?, ?)"
                        " ON CONFLICT(mid, h) DO UPDATE SET exp = excluded.exp",
                        (*gone, remembered),
                    )

        await self._database.write(job)

    async def queued(self) -> int:
        def job(db: sqlite3.Connection) -> int:
            (count,) = db.execute("SELECT coalesce(sum(n), 0) FROM box").fetchone()
            return int(count)

        return await self._database.read(job)


def _whose(db: sqlite3.Connection, account: str, recipient: str | None) -> tuple[str, dict[str, object]]:
    """The condition for the mailboxes of an account, or for one DID of it. Another's is none of them."""
    aid = require_account(db, account)
    if recipient is None:
        return "aid = :aid", {"aid": aid}
    return "aid = :aid AND did = :did", {"aid": aid, "did": canonical(recipient)}


def delete_mail(db: sqlite3.Connection, where: str, values: tuple[object, ...]) -> tuple[int, bytes] | None:
    """Delete one message; its mailbox and its hash where it was there."""
    row = db.execute(
        f"DELETE FROM msg WHERE {where} RETURNING mid, size, h, packet",  # noqa: S608
        values,
    ).fetchone()
    if row is None:
        return None
    mid, size, digest, packet = row
    db.execute("UPDATE box SET n = n - 1, bytes = bytes - ? WHERE mid = ?", (size, mid))
    if packet:
        db.execute(
            "UPDATE box SET packets = packets - 1, packet_bytes = packet_bytes - ? WHERE mid = ?", (size, mid)
        )
    return mid, digest
