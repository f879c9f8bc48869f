"""What the operator decides: who may have an account, and invitations to open one."""

import sqlite3

from didmpc.mediator.store.part import Part
from didmpc.protocols.did import canonical


class RuleStore(Part):
    """The tables `rule` and `ticket`."""

    async def is_denied(self, *dids: str) -> bool:
        """Whether the operator wants nothing of one of these DIDs."""
        return await self._database.read(lambda db: any(rule_of(db, did) is False for did in dids))


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
