"""Accounts and their key lists.

Parties are stored by their canonical DID, so the long and the short form of a did:peer:4 are one. The
long form is kept beside it: without it the short form of an account could not be answered after a restart.
"""

import sqlite3
from collections.abc import Sequence

from didmpc.mediator.refusals import TooMany
from didmpc.mediator.store.part import Part, account_id, require_account
from didmpc.protocols.did import canonical
from didmpc.protocols.mediation import Result, Update, Updated


class AccountStore(Part):
    async def enrol(self, did: str, now: float) -> None:
        """Open an account for a DID; one that is there stays as it is."""
        self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> None:
            if account_id(db, did) is not None:
                return
            (count,) = db.execute("SELECT count(*) FROM account").fetchone()
            if count >= self._limits.accounts:
                raise TooMany("This mediator takes no more accounts.")
            db.execute(
                "INSERT INTO account(did, long_did, created) VALUES (?, ?, ?)", (canonical(did), did, now)
            )

        await self._database.write(job)

    async def is_enrolled(self, did: str) -> bool:
        return await self._database.read(lambda db: account_id(db, did) is not None)

    async def act_once(self, account: str, envelope: bytes, now: float) -> None:
        """Note that an envelope of this account was acted on. Raises `Replayed` the second time."""

        def job(db: sqlite3.Connection) -> None:
            require_account(db, account)
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
            aid = require_account(db, account)
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
            aid = require_account(db, account)
            rows = db.execute("SELECT long_did FROM box WHERE aid = ? ORDER BY mid", (aid,))
            return [did for (did,) in rows]

        return await self._database.read(job)
