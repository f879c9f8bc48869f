"""Accounts and their key lists. Parties are stored by their canonical DID, with the long form beside it."""

from collections.abc import Mapping, Sequence

import asyncpg

from didmpc.mediator.refusals import AccountExists, NoAccount, Replayed, TooMany
from didmpc.mediator.store.interface import NOTHING_PROVEN
from didmpc.mediator.store.postgres.connection import Connection
from didmpc.mediator.store.postgres.part import Part, collided, locked_account
from didmpc.mediator.store.records import STALE_SECONDS, Admission
from didmpc.protocols.did import canonical
from didmpc.protocols.messages.mediation import Result, Update, Updated

_NEAR = 1000
"""Accounts that nodes may be opening at this moment, at most: before so few are left nobody counts."""


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
        party = canonical(did)

        async def job(db: Connection) -> bool:
            allowed, known = await db.fetchrow(
                "SELECT (SELECT allowed FROM rule WHERE did = $1),"
                " (SELECT long_did FROM account WHERE did = $1)",
                party,
            )
            if allowed is False:
                return False
            if known is not None:
                if known == party != did:
                    # Where only the short form was known until now, it is known what that resolves to.
                    await db.execute("UPDATE account SET long_did = $1 WHERE did = $2", did, party)
                return True
            if not allowed and (
                admission == "allow-list"
                or (admission == "invitation" and not (ticket and await _use_ticket(db, ticket, now)))
            ):
                return False
            if await _reached(db, self._limits.accounts):
                raise TooMany("This mediator takes no more accounts.")
            aid = await db.fetchval(
                "INSERT INTO account(did, long_did, created) VALUES ($1, $2, $3)"
                " ON CONFLICT DO NOTHING RETURNING aid",
                *(party, did, now),
            )
            if aid is None:
                raise collided()
            if envelope is not None:
                await self._act_once(db, aid, envelope, now, created)
            return True

        return await self._grow(job)

    async def is_enrolled(self, did: str) -> bool:
        find = "SELECT EXISTS (SELECT FROM account WHERE did = $1)"
        party = canonical(did)
        return bool(await self._postgres.read(lambda db: db.fetchval(find, party)))

    async def act_once(self, account: str, envelope: bytes, now: float, created: int | None = None) -> None:
        async def job(db: Connection) -> None:
            await self._act_once(db, await locked_account(db, account), envelope, now, created)

        await self._postgres.write(job)

    async def long_form(self, short_did: str) -> str | None:
        find = (
            "SELECT long_did FROM account WHERE did = $1 AND long_did <> $1"
            " UNION ALL SELECT long_did FROM box WHERE did = $1 AND long_did <> $1 LIMIT 1"
        )
        found = await self._postgres.read(lambda db: db.fetchval(find, short_did))
        return None if found is None else str(found)

    async def move_account(
        self, old: str, new: str, statement: bytes, now: float, stated: float | None
    ) -> bool:
        former, party = canonical(old), canonical(new)

        async def job(db: Connection) -> bool:
            row = await db.fetchrow("SELECT aid, created FROM account WHERE did = $1 FOR UPDATE", former)
            if row is None:
                return False
            # Said before the account was opened, it was about an earlier one.
            if stated is not None and stated < row["created"] - STALE_SECONDS:
                raise Replayed
            await self._act_once(db, row["aid"], statement, now, None)
            if await db.fetchval("SELECT EXISTS (SELECT FROM account WHERE did = $1)", party):
                raise AccountExists
            change = "UPDATE account SET did = $1, long_did = $2 WHERE aid = $3"
            try:
                await db.execute(change, party, new, row["aid"])
            except asyncpg.UniqueViolationError:
                raise collided() from None
            return True

        if not await self.is_enrolled(old):
            return False  # a from_prior is repeated in every message: most come after the move
        return await self._postgres.write(job)

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
        party = canonical(account)
        dids = [canonical(update.recipient_did) for update in updates]

        async def job(db: Connection) -> list[Updated]:
            rows = await db.fetch(
                "SELECT aid, did FROM account WHERE did = $1"
                " OR aid IN (SELECT aid FROM box WHERE did = ANY($2)) ORDER BY aid FOR NO KEY UPDATE",
                *(party, dids),
            )
            aid = next((row["aid"] for row in rows if row["did"] == party), None)
            if aid is None:
                raise NoAccount
            locked = {row["aid"] for row in rows}
            await self._act_once(db, aid, envelope, now, created)
            results: list[Updated] = []
            for did, update in zip(dids, updates, strict=True):
                result = await self._update(db, aid, did, update, proven.get(did, 0), locked)
                results.append(Updated(update.recipient_did, update.action, result))
            return results

        return await self._grow(job)

    async def _update(
        self, db: Connection, aid: int, did: str, update: Update, claimed: int, locked: set[int]
    ) -> Result:
        box = await db.fetchrow("SELECT * FROM box WHERE did = $1", did)
        if box is not None and box["aid"] not in locked:
            raise collided()
        if update.action == "remove":
            if box is None or box["aid"] != aid:
                return "no_change"  # also where another account has it
            await db.execute("DELETE FROM box WHERE mid = $1", box["mid"])
            await _add_to_account(db, aid, -box["bytes"], -box["packet_bytes"])
            return "success"
        if box is not None and box["aid"] == aid:
            long_did = update.recipient_did if box["long_did"] == box["did"] else box["long_did"]
            if (max(box["proven"], claimed), long_did) != (box["proven"], box["long_did"]):
                await db.execute(
                    "UPDATE box SET proven = greatest(proven, $1), long_did = $2 WHERE mid = $3",
                    *(claimed, long_did, box["mid"]),
                )
            return "no_change"
        if box is not None and claimed <= box["proven"]:
            return "client_error"
        count = await db.fetchval("SELECT count(*) FROM box WHERE aid = $1", aid)
        if count >= self._limits.keys_per_account:
            return "client_error"
        if box is None:
            mid = await db.fetchval(
                "INSERT INTO box(aid, did, long_did, proven) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT DO NOTHING RETURNING mid",
                *(aid, did, update.recipient_did, claimed),
            )
            if mid is None:
                raise collided()
            return "success"
        # It is handed over; the totals of both accounts stay exact.
        await db.execute(
            "UPDATE box SET aid = $1, long_did = $2, proven = $3 WHERE mid = $4",
            *(aid, update.recipient_did, claimed, box["mid"]),
        )
        await _add_to_account(db, box["aid"], -box["bytes"], -box["packet_bytes"])
        await _add_to_account(db, aid, box["bytes"], box["packet_bytes"])
        return "success"

    async def keylist(self, account: str) -> list[str]:
        find = (
            "SELECT box.long_did FROM account LEFT JOIN box USING (aid)"
            " WHERE account.did = $1 ORDER BY box.mid"
        )
        party = canonical(account)
        rows = await self._postgres.read(lambda db: db.fetch(find, party))
        if not rows:
            raise NoAccount
        return [str(row["long_did"]) for row in rows if row["long_did"] is not None]


async def _add_to_account(db: Connection, aid: int, size: int, packets: int) -> None:
    await db.execute(
        "UPDATE account SET bytes = bytes + $1, packet_bytes = packet_bytes + $2 WHERE aid = $3",
        *(size, packets, aid),
    )


async def _reached(db: Connection, accounts: int) -> bool:
    """Whether there are so many accounts. Counting walks through all of them, so not before it could be."""
    highest = await db.fetchval("SELECT max(aid) FROM account")
    if (highest or 0) + _NEAR < accounts:
        return False
    await db.execute("SELECT pg_advisory_xact_lock(hashtext('didmpc.accounts'))")  # one opens after the other
    return bool(await db.fetchval("SELECT count(*) FROM account") >= accounts)


async def _use_ticket(db: Connection, ticket: str, now: float) -> bool:
    """Use an invitation once; whether that could be done."""
    used = "UPDATE ticket SET uses = uses - 1 WHERE id = $1 AND uses > 0 AND exp > $2 RETURNING true"
    return bool(await db.fetchval(used, ticket, now))
