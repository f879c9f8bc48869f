"""What the operator decides: who may have an account, and invitations to open one."""

import asyncio
import secrets

from didmpc.mediator.store.postgres.connection import Connection
from didmpc.mediator.store.postgres.part import Part
from didmpc.mediator.store.records import TICKET_BYTES, AccountRow, Evicted, Totals
from didmpc.protocols.did import canonical

EVICTION_BATCH = 500
RULES_SECONDS = 2.0
"""After so long a node hears what the operator has said to another one."""


class RuleStore(Part):
    """The tables `rule` and `ticket`, and what an operator asks of accounts."""

    _denied: frozenset[str] = frozenset()
    _denied_until = 0.0
    _rules_version = 0

    async def set_rule(self, did: str, allowed: bool | None) -> None:
        party = canonical(did)
        if allowed is None:
            await self._postgres.statement("DELETE FROM rule WHERE did = $1", party)
        else:
            await self._postgres.statement(
                "INSERT INTO rule(did, allowed) VALUES ($1, $2)"
                " ON CONFLICT (did) DO UPDATE SET allowed = excluded.allowed",
                *(party, allowed),
            )
        self._rules_version += 1
        self._denied_until = 0.0

    async def rules(self, after: str, limit: int) -> list[tuple[str, bool]]:
        find = "SELECT did, allowed FROM rule WHERE did > $1 ORDER BY did LIMIT $2"
        rows = await self._postgres.read(lambda db: db.fetch(find, after.replace("\0", ""), limit))
        return [(str(did), bool(allowed)) for did, allowed in rows]

    async def is_denied(self, *dids: str) -> bool:
        # Asked for every message of a known sender, so it is kept in memory for a moment.
        clock = asyncio.get_running_loop().time
        while clock() >= self._denied_until:
            version = self._rules_version
            rows = await self._postgres.read(lambda db: db.fetch("SELECT did FROM rule WHERE NOT allowed"))
            if version == self._rules_version:
                self._denied = frozenset(str(did) for (did,) in rows)
                self._denied_until = clock() + RULES_SECONDS
        return any(canonical(did) in self._denied for did in dids)

    async def accounts(self, after: int, limit: int) -> list[AccountRow]:
        find = (
            "SELECT a.aid, a.did, a.created, count(mid), coalesce(sum(n), 0)::bigint, a.bytes"
            " FROM (SELECT * FROM account WHERE aid > $1 ORDER BY aid LIMIT $2) AS a"
            " LEFT JOIN box USING (aid) GROUP BY a.aid, a.did, a.created, a.bytes ORDER BY a.aid"
        )
        rows = await self._postgres.read(lambda db: db.fetch(find, after, limit))
        return [AccountRow(*row) for row in rows]

    async def totals(self) -> Totals:
        find = (
            "SELECT (SELECT count(*) FROM account), count(*), coalesce(sum(n), 0)::bigint,"
            " coalesce(sum(bytes), 0)::bigint FROM box"
        )
        return Totals(*await self._postgres.read(lambda db: db.fetchrow(find)))

    async def evict(self, did: str) -> Evicted | None:
        party = canonical(did)
        deleted = 0

        async def some(db: Connection) -> int:
            aid = await db.fetchval("SELECT aid FROM account WHERE did = $1 FOR NO KEY UPDATE", party)
            return int(
                await db.fetchval(
                    "SELECT count(*) FROM forget_mail(ARRAY(SELECT seq FROM msg WHERE mid IN"
                    " (SELECT mid FROM box WHERE aid = $1) LIMIT $2))",
                    *(aid, EVICTION_BATCH),
                )
            )

        async def rest(db: Connection) -> Evicted | None:
            aid = await db.fetchval("SELECT aid FROM account WHERE did = $1 FOR UPDATE", party)
            if aid is None:
                return None
            late = await db.fetchval("SELECT coalesce(sum(n), 0)::bigint FROM box WHERE aid = $1", aid)
            channels = await db.fetch("SELECT cid FROM channel WHERE aid = $1 ORDER BY cid", aid)
            await db.execute("DELETE FROM account WHERE aid = $1", aid)  # `seen` stays, as nobody's
            return Evicted(party, deleted + late, tuple(cid for (cid,) in channels))

        while (batch := await self._postgres.write(some)) == EVICTION_BATCH:
            deleted += batch  # others write between the batches
        deleted += batch
        return await self._postgres.write(rest)

    async def issue_ticket(self, uses: int, expires: float) -> str:
        name = secrets.token_urlsafe(TICKET_BYTES)
        insert = "INSERT INTO ticket(id, uses, exp) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
        await self._postgres.statement(insert, name, uses, expires)
        return name

    async def probe(self) -> None:
        # Through the log to the disk, and to the standbys that commits wait for.
        await self._postgres.statement("SELECT pg_logical_emit_message(true, 'didmpc', 'probe')")
