"""What the operator decides: who may have an account, and invitations to open one."""

import secrets
import sqlite3

from didmpc.mediator.store.records import TICKET_BYTES, AccountRow, Evicted, Totals
from didmpc.mediator.store.sqlite.mail import delete_mail
from didmpc.mediator.store.sqlite.part import Part, account_id
from didmpc.protocols.did import canonical

EVICTION_BATCH = 500


class RuleStore(Part):
    """The tables `rule` and `ticket`, and what an operator asks of accounts."""

    _denied: frozenset[str] | None = None
    _rules_version = 0

    async def set_rule(self, did: str, allowed: bool | None) -> None:
        party = canonical(did)

        def job(db: sqlite3.Connection) -> None:
            if allowed is None:
                db.execute("DELETE FROM rule WHERE did = ?", (party,))
            else:
                db.execute("INSERT OR REPLACE INTO rule(did, allowed) VALUES (?, ?)", (party, int(allowed)))

        await self._database.write(job)
        self._rules_version += 1
        self._denied = None

    async def rules(self, after: str, limit: int) -> list[tuple[str, bool]]:
        find = "SELECT did, allowed FROM rule WHERE did > ? ORDER BY did LIMIT ?"
        rows = await self._database.read(lambda db: db.execute(find, (after, limit)).fetchall())
        return [(str(did), bool(allowed)) for did, allowed in rows]

    async def accounts(self, after: int, limit: int) -> list[AccountRow]:
        find = (
            "SELECT account.aid, account.did, created, count(mid), coalesce(sum(n), 0), account.bytes"
            " FROM account LEFT JOIN box USING (aid) WHERE account.aid > ?"
            " GROUP BY account.aid ORDER BY account.aid LIMIT ?"
        )
        rows = await self._database.read(lambda db: db.execute(find, (after, limit)).fetchall())
        return [AccountRow(*row) for row in rows]

    async def totals(self) -> Totals:
        find = (
            "SELECT (SELECT count(*) FROM account), count(*), coalesce(sum(n), 0), coalesce(sum(bytes), 0)"
            " FROM box"
        )
        return Totals(*await self._database.read(lambda db: db.execute(find).fetchone()))

    async def evict(self, did: str) -> Evicted | None:
        party = canonical(did)
        deleted = 0
        while await self._database.write(lambda db: _disown_batch(db, party)) == EVICTION_BATCH:
            pass
        while (batch := await self._database.write(lambda db: _delete_batch(db, party))) == EVICTION_BATCH:
            deleted += batch  # others write between the batches

        def job(db: sqlite3.Connection) -> Evicted | None:
            aid = account_id(db, party)
            if aid is None:
                return None
            channels = tuple(cid for (cid,) in db.execute("SELECT cid FROM channel WHERE aid = ?", (aid,)))
            (late,) = db.execute("SELECT coalesce(sum(n), 0) FROM box WHERE aid = ?", (aid,)).fetchone()
            while _disown_batch(db, party) == EVICTION_BATCH:
                pass  # what it did meanwhile
            db.execute("DELETE FROM account WHERE aid = ?", (aid,))
            return Evicted(party, deleted + batch + late, channels)

        return await self._database.write(job)

    async def issue_ticket(self, uses: int, expires: float) -> str:
        name = secrets.token_urlsafe(TICKET_BYTES)
        insert = "INSERT INTO ticket(id, uses, exp) VALUES (?, ?, ?)"
        await self._database.write(lambda db: db.execute(insert, (name, uses, expires)))
        return name

    async def probe(self) -> None:
        def job(db: sqlite3.Connection) -> None:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            db.execute(f"PRAGMA user_version={version}")  # the same again, but through the log to the disk

        await self._database.write(job)

    async def is_denied(self, *dids: str) -> bool:
        while (denied := self._denied) is None:
            version = self._rules_version
            read = await self._database.read(_denied)
            if version == self._rules_version:
                self._denied = read
        return any(canonical(did) in denied for did in dids)


def _denied(db: sqlite3.Connection) -> frozenset[str]:
    return frozenset(did for (did,) in db.execute("SELECT did FROM rule WHERE NOT allowed"))


def rule_of(db: sqlite3.Connection, did: str) -> bool | None:
    """Whether a DID is allowed, or denied; None where nothing was said about it."""
    row = db.execute("SELECT allowed FROM rule WHERE did = ?", (canonical(did),)).fetchone()
    return None if row is None else bool(row[0])


def use_ticket(db: sqlite3.Connection, ticket: str, now: float) -> bool:
    """Use an invitation once; whether that could be done."""
    used = db.execute(
        "UPDATE ticket SET uses = uses - 1 WHERE id = ? AND uses > 0 AND exp > ?", (ticket, now)
    )
    return used.rowcount > 0


def _disown_batch(db: sqlite3.Connection, party: str) -> int:
    """Let envelopes that acted be remembered whether the account is there or not."""
    aid = account_id(db, party)
    disowned = db.execute(
        "UPDATE seen SET aid = NULL WHERE h IN (SELECT h FROM seen WHERE aid = ? LIMIT ?)",
        (aid, EVICTION_BATCH),
    ).rowcount
    db.execute("UPDATE account SET acts = acts - ? WHERE aid = ?", (disowned, aid))
    return disowned


def _delete_batch(db: sqlite3.Connection, party: str) -> int:
    rows = db.execute(
        "SELECT seq FROM msg WHERE mid IN"
        " (SELECT mid FROM box JOIN account USING (aid) WHERE account.did = ?) LIMIT ?",
        (party, EVICTION_BATCH),
    ).fetchall()
    for (seq,) in rows:
        delete_mail(db, "seq = ?", (seq,))
    return len(rows)
