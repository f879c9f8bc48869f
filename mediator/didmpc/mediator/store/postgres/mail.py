"""Mailboxes and the mail in them. What waits on a node is put, and is deleted, in one round trip each."""

import asyncio
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import DiskFull, MailboxFull, NoAccount, SessionsFull, TooBig, UnknownNext
from didmpc.mediator.store.errors import StoreFull
from didmpc.mediator.store.interface import NO_ROOM_BEYOND
from didmpc.mediator.store.postgres.connection import Connection, Postgres
from didmpc.mediator.store.postgres.group import Group
from didmpc.mediator.store.postgres.part import Part
from didmpc.mediator.store.records import EXPIRY_BATCH, STALE_SECONDS, Kept, Listing, Mail, Queue, Room
from didmpc.protocols.did import canonical

LARGEST = (1 << 63) - 1
_ENQUEUE = "SELECT * FROM enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_ACKNOWLEDGE = "SELECT acknowledge($1, $2, $3, $4)"
_MINE = "aid = $1 AND ($2::text IS NULL OR did = $2) AND n > 0"
# From the counters; only what is over or not due yet is looked for, and it has indexes of its own.
_QUEUE = f"""
WITH mine AS MATERIALIZED (SELECT mid, n, bytes FROM box WHERE {_MINE}),
over AS MATERIALIZED (SELECT mid, size FROM msg WHERE exp <= $3),
hidden AS (
    SELECT count(*) AS n, coalesce(sum(size), 0) AS bytes FROM (
        SELECT over.size FROM mine JOIN over USING (mid)
        UNION ALL SELECT msg.size FROM mine JOIN msg USING (mid)
            WHERE msg.due > $3 AND msg.due > 0 AND msg.exp > $3
    ) AS each
),
ends AS (
    SELECT
        (SELECT at FROM msg WHERE msg.mid = mine.mid AND due <= $3 AND exp > $3 ORDER BY seq LIMIT 1)
            AS first,
        (SELECT at FROM msg WHERE msg.mid = mine.mid AND due <= $3 AND exp > $3 ORDER BY seq DESC LIMIT 1)
            AS last
    FROM mine
)
SELECT ((SELECT coalesce(sum(n), 0) FROM mine) - hidden.n)::bigint AS count,
    ((SELECT coalesce(sum(bytes), 0) FROM mine) - hidden.bytes)::bigint AS bytes,
    (SELECT min(first) FROM ends) AS oldest, (SELECT max(last) FROM ends) AS newest
FROM hidden
"""  # noqa: S608
_OLDEST = f"""
SELECT each.seq, each.size FROM box CROSS JOIN LATERAL (
    SELECT msg.seq, msg.size FROM msg
    WHERE msg.mid = box.mid AND msg.due <= $3 AND msg.exp > $3 AND {{}} ORDER BY msg.seq LIMIT $5
) AS each WHERE {_MINE} ORDER BY each.seq LIMIT $5
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Put:
    did: str
    envelopes: Sequence[tuple[bytes, bytes]]
    """With the hash of each, which comes first."""
    expires: float
    now: float
    due: float
    packets: bool
    most: tuple[int, int, int]
    """Messages and bytes in the mailbox, bytes in the account."""


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    account: str
    seqs: Sequence[int]
    until: float


class MailStore(Part):
    def __init__(self, postgres: Postgres, folder: Path, limits: Limits) -> None:
        super().__init__(postgres, folder, limits)
        self._puts: Group[_Put, Kept] = Group(
            self._put_all,
            size=lambda put: (len(put.envelopes), sum(len(body) for _, body in put.envelopes)),
            keys=lambda put: ((put.did, digest) for digest, _ in put.envelopes),
        )
        self._acknowledgements: Group[_Acknowledged, None] = Group(
            self._acknowledge_all, size=lambda each: (len(each.seqs), 0)
        )

    async def finish(self) -> None:
        """Take no more mail, and wait for what was handed in."""
        await asyncio.gather(self._puts.close(), self._acknowledgements.close())

    async def mailbox(self, recipient: str) -> int | None:
        did = canonical(recipient)
        found = await self._postgres.read(lambda db: db.fetchval("SELECT mid FROM box WHERE did = $1", did))
        return None if found is None else int(found)

    # --- in

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
        limits = self._limits
        for envelope in envelopes:
            if len(envelope) > limits.forward_bytes:
                raise TooBig(limits.forward_bytes)
        most = (
            (limits.session_messages, limits.session_bytes, limits.account_session_bytes)
            if packets
            else (limits.mailbox_messages, limits.mailbox_bytes, limits.account_bytes)
        )
        hashed = {hashlib.sha256(envelope).digest(): envelope for envelope in envelopes}
        put = _Put(
            canonical(recipient),
            tuple(hashed.items()),
            expires,
            now,
            due if due > now else 0.0,
            packets,
            (most[0] + beyond.messages, most[1] + beyond.bytes, most[2] + beyond.bytes),
        )
        if not put.envelopes:
            return Kept(await self._owner(put.did), ())
        try:
            return await self._puts.add(put)
        except StoreFull:
            raise DiskFull from None

    async def _owner(self, did: str) -> str:
        find = "SELECT account.did FROM box JOIN account USING (aid) WHERE box.did = $1"
        found = await self._postgres.read(lambda db: db.fetchval(find, did))
        if found is None:
            raise UnknownNext
        return str(found)

    async def _put_all(self, puts: Sequence[_Put]) -> list[Kept | Exception]:
        began = time.monotonic()
        items = [(number, put, *one) for number, put in enumerate(puts, 1) for one in put.envelopes]
        answer = await self._postgres.statement(
            _ENQUEUE,
            [number for number, *_ in items],
            [put.did for _, put, *_ in items],
            [digest for *_, digest, _ in items],
            [body for *_, body in items],
            [len(body) for *_, body in items],
            [put.now for _, put, *_ in items],
            [put.expires for _, put, *_ in items],
            [put.due for _, put, *_ in items],
            [put.packets for _, put, *_ in items],
            *([put.most[which] for _, put, *_ in items] for which in range(3)),
        )
        self._observer(len(puts), time.monotonic() - began)
        results: list[Kept | Exception] = [UnknownNext() for _ in puts]
        for row in answer.rows:
            put = puts[row["request"] - 1]
            if row["refused"]:
                results[row["request"] - 1] = SessionsFull() if put.packets else MailboxFull()
                continue
            # What was put by an attempt whose answer was lost is new too.
            mail = zip(put.envelopes, row["ids"], row["are_new"], strict=True)
            results[row["request"] - 1] = Kept(
                row["owner"],
                tuple(
                    (seq, len(body))
                    for (_, body), seq, is_new in mail
                    if is_new or (answer.is_repeated and seq is not None)
                ),
            )
        return results

    # --- out

    async def acknowledge(self, account: str, seqs: Sequence[int], now: float) -> None:
        until = now + self._limits.acknowledged_seconds
        known = [seq for seq in seqs if 0 < seq <= LARGEST]  # others were never given
        await self._acknowledgements.add(_Acknowledged(canonical(account), known, until))

    async def _acknowledge_all(self, group: Sequence[_Acknowledged]) -> list[Exception | None]:
        began = time.monotonic()
        items = [(each, seq) for each in group for seq in each.seqs]
        answer = await self._postgres.statement(
            _ACKNOWLEDGE,
            list({each.account for each in group}),
            [each.account for each, _ in items],
            [seq for _, seq in items],
            [each.until for each, _ in items],
        )
        self._observer(len(group), time.monotonic() - began)
        found = {row[0] for row in answer.rows}
        return [None if each.account in found else NoAccount() for each in group]

    async def expire(self, now: float) -> int:
        answer = await self._postgres.statement("SELECT expire($1, $2, $3)", now, STALE_SECONDS, EXPIRY_BATCH)
        return int(answer.rows[0][0])

    # --- what waits

    async def queue(self, account: str, recipient: str | None, now: float) -> Queue:
        (row,) = await self._of_account(_QUEUE, account, recipient, now)
        if not row["count"]:
            return Queue(0, 0, None, None)
        return Queue(row["count"], row["bytes"], row["oldest"], row["newest"])

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
        most = messages + len(without)
        if or_due_after == math.inf:
            rows = await self._of_account(
                _OLDEST.format("msg.seq > $4"), account, recipient, now, after, most
            )
        else:
            since = "(msg.seq > $4 OR msg.due > $6)"
            rows = await self._of_account(
                _OLDEST.format(since), account, recipient, now, after, most, or_due_after
            )
        chosen: list[int] = []
        total = seen = 0
        for row in rows:
            if row["seq"] not in without:
                if len(chosen) == messages or (chosen and total + row["size"] > bytes):
                    break
                chosen.append(row["seq"])
                total += row["size"]
            seen += 1
        is_all = seen == len(rows) < most
        if not chosen:
            return Listing((), is_all)
        find = "SELECT seq, body, mid, exp, packet FROM msg WHERE seq = ANY($1) ORDER BY seq"
        bodies = await self._postgres.read(lambda db: db.fetch(find, chosen))
        return Listing(tuple(Mail(*row) for row in bodies), is_all)

    async def newest(self, account: str) -> int:
        rows = await self._of_account(
            f"SELECT (SELECT max(seq) FROM msg WHERE msg.mid = box.mid) AS seq FROM box WHERE {_MINE}",  # noqa: S608
            account,
            None,
        )
        return max((int(row["seq"]) for row in rows if row["seq"] is not None), default=0)

    async def next_due(self, account: str, now: float) -> float:
        rows = await self._of_account(
            "SELECT (SELECT min(due) FROM msg WHERE msg.mid = box.mid AND due > $3 AND due > 0) AS due"  # noqa: S608
            f" FROM box WHERE {_MINE}",
            account,
            None,
            now,
        )
        return min((float(row["due"]) for row in rows if row["due"] is not None), default=math.inf)

    async def queued(self) -> int:
        count = "SELECT coalesce(sum(n), 0)::bigint FROM box"
        return int(await self._postgres.read(lambda db: db.fetchval(count)))

    async def _of_account(
        self, sql: str, account: str, recipient: str | None, *values: object
    ) -> list[Mapping[str, Any]]:
        """Rows for an account, and for one DID of it if that is given. Another's is none of them."""
        party = canonical(account)
        did = None if recipient is None else canonical(recipient)

        async def job(db: Connection) -> list[Mapping[str, Any]]:
            aid = await db.fetchval("SELECT aid FROM account WHERE did = $1", party)
            if aid is None:
                raise NoAccount
            return list(await db.fetch(sql, aid, did, *values))

        return await self._postgres.read(job)
