"""Accounts and their key lists.

Parties are stored by their canonical DID, so the long and the short form of a did:peer:4 are one. The
long form is kept beside it: without it the short form of an account could not be answered after a restart.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from didmpc.mediator.refusals import AccountExists, Replayed, TooMany
from didmpc.mediator.store.interface import NOTHING_PROVEN
from didmpc.mediator.store.records import STALE_SECONDS, Admission
from didmpc.mediator.store.sqlite.part import Part, account_id, require_account
from didmpc.mediator.store.sqlite.rules import rule_of, use_ticket
from didmpc.protocols.did import canonical
from didmpc.protocols.messages.mediation import Result, Update, Updated


class AccountStore(Part):
    async def enrol(
        self,
        did: str,
        now: float,
        admission: Admission = "open",
        ticket: str | None = None,
        *,
        envelope: bytes | None = None,
        created: int | None = None,
    ) -> bool:
        self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> bool:
            rule = rule_of(db, did)
            if rule is False:
                return False
            if account_id(db, did) is not None:
                # Where only the short form was known until now, it is known what that resolves to.
                db.execute(
                    "UPDATE account SET long_did = ? WHERE did = ? AND long_did = did", (did, canonical(did))
                )
                return True
            if not rule and (
                admission == "allow-list"
                or (admission == "invitation" and not (ticket and use_ticket(db, ticket, now)))
            ):
                return False
            if _reached(db, self._limits.accounts):
                raise TooMany("This mediator takes no more accounts.")
            (aid,) = db.execute(
                "INSERT INTO account(did, long_did, created) VALUES (?, ?, ?) RETURNING aid",
                (canonical(did), did, now),
            ).fetchone()
            if envelope is not None:
                self._act_once(db, aid, envelope, now, created)
            return True

        return await self._grow(job)

    async def is_enrolled(self, did: str) -> bool:
        return await self._database.read(lambda db: account_id(db, did) is not None)

    async def act_once(self, account: str, envelope: bytes, now: float, created: int | None = None) -> None:
        def job(db: sqlite3.Connection) -> None:
            self._act_once(db, require_account(db, account), envelope, now, created)

        await self._database.write(job)

    async def long_form(self, short_did: str) -> str | None:
        def job(db: sqlite3.Connection) -> str | None:
            rows = db.execute(
                "SELECT long_did FROM account WHERE did = ?1"
                " UNION ALL SELECT long_did FROM box WHERE did = ?1",
                (short_did,),
            )
            return next((str(did) for (did,) in rows if did != short_did), None)

        return await self._database.read(job)

    async def move_account(
        self, old: str, new: str, statement: bytes, now: float, stated: float | None
    ) -> bool:
        def job(db: sqlite3.Connection) -> bool:
            row = db.execute("SELECT aid, created FROM account WHERE did = ?", (canonical(old),)).fetchone()
            if row is None:
                return False
            aid, created = row
            # Said before the account was opened, it was about an earlier one.
            if stated is not None and stated < created - STALE_SECONDS:
                raise Replayed
            self._act_once(db, aid, statement, now, None)
            if account_id(db, new) is not None:
                raise AccountExists
            db.execute("UPDATE account SET did = ?, long_did = ? WHERE aid = ?", (canonical(new), new, aid))
            return True

        if not await self.is_enrolled(old):
            return False  # a from_prior is repeated in every message: most come after the move
        return await self._database.write(job)

    # --- key lists

    async def update_keylist(
        self,
        account: str,
        updates: Sequence[Update],
        envelope: bytes,
        now: float,
        created: int | None = None,
        proven: Mapping[str, int] = NOTHING_PROVEN,
    ) -> list[Updated]:
        if any(update.action == "add" for update in updates):
            self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> list[Updated]:
            aid = require_account(db, account)
            self._act_once(db, aid, envelope, now, created)
            return [
                Updated(update.recipient_did, update.action, self._update(db, aid, update, proven))
                for update in updates
            ]

        return await self._database.write(job)

    def _update(self, db: sqlite3.Connection, aid: int, update: Update, proven: Mapping[str, int]) -> Result:
        did = canonical(update.recipient_did)
        claimed = proven.get(did, 0)
        row = db.execute("SELECT mid, aid, proven FROM box WHERE did = ?", (did,)).fetchone()
        if update.action == "remove":
            if row is None or row[1] != aid:
                return "no_change"  # also for the DID of another account: who has which is nobody's business
            db.execute("DELETE FROM box WHERE mid = ?", (row[0],))
            return "success"
        if row is not None and row[1] == aid:
            db.execute(
                "UPDATE box SET proven = max(proven, ?), long_did = iif(long_did = did, ?, long_did)"
                " WHERE mid = ?",
                (claimed, update.recipient_did, row[0]),
            )
            return "no_change"
        if row is not None and claimed <= row[2]:
            return "client_error"
        (count,) = db.execute("SELECT count(*) FROM box WHERE aid = ?", (aid,)).fetchone()
        if count >= self._limits.keys_per_account:
            return "client_error"
        if row is None:
            db.execute(
                "INSERT INTO box(aid, did, long_did, proven) VALUES (?, ?, ?, ?)",
                (aid, did, update.recipient_did, claimed),
            )
        else:
            _hand_over(db, row[0], row[1], aid, update.recipient_did, claimed)
        return "success"

    async def keylist(self, account: str) -> list[str]:
        def job(db: sqlite3.Connection) -> list[str]:
            aid = require_account(db, account)
            rows = db.execute("SELECT long_did FROM box WHERE aid = ? ORDER BY mid", (aid,))
            return [did for (did,) in rows]

        return await self._database.read(job)


def _hand_over(db: sqlite3.Connection, mid: int, holder: int, aid: int, did: str, proven: int) -> None:
    """Give a mailbox to another account; the totals of both stay exact."""
    held, packets = db.execute("SELECT bytes, packet_bytes FROM box WHERE mid = ?", (mid,)).fetchone()
    db.execute("UPDATE box SET aid = ?, long_did = ?, proven = ? WHERE mid = ?", (aid, did, proven, mid))
    for account, sign in ((holder, -1), (aid, 1)):
        db.execute(
            "UPDATE account SET bytes = bytes + ?, packet_bytes = packet_bytes + ? WHERE aid = ?",
            (sign * held, sign * packets, account),
        )


def _reached(db: sqlite3.Connection, accounts: int) -> bool:
    """Whether there are so many accounts. Counting walks through all of them, so not before it could be."""
    (highest,) = db.execute("SELECT max(aid) FROM account").fetchone()
    if highest is None or highest < accounts:
        return accounts <= 0
    (count,) = db.execute("SELECT count(*) FROM account").fetchone()
    return bool(count >= accounts)
