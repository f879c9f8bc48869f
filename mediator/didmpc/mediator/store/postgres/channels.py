"""Relay channels with the capabilities for their ends, and short links to invitations."""

from collections.abc import Sequence

from didmpc.mediator.refusals import TooMany
from didmpc.mediator.store.postgres.connection import Connection
from didmpc.mediator.store.postgres.part import Part, locked_account
from didmpc.mediator.store.records import ChannelEnd


class ChannelStore(Part):
    async def create_channels(
        self,
        account: str,
        channels: Sequence[tuple[str, bytes, bytes]],
        expires: float,
        envelope: bytes,
        now: float,
        created: int | None = None,
        rate: int = 0,
    ) -> None:
        async def job(db: Connection) -> None:
            aid = await locked_account(db, account)
            await self._act_once(db, aid, envelope, now, created)
            count = await db.fetchval("SELECT count(*) FROM channel WHERE aid = $1", aid)
            if count + len(channels) > self._limits.channels_per_account:
                raise TooMany(
                    "You have too many relay channels.", fix="Revoke those that are not used any more."
                )
            for name, near, far in channels:
                await db.execute(
                    "WITH made AS ("
                    " INSERT INTO channel(aid, name, exp, rate) VALUES ($1, $2, $3, $4) RETURNING cid"
                    ") INSERT INTO capability(h, cid, side)"
                    " SELECT $5::bytea, cid, 0 FROM made UNION ALL SELECT $6::bytea, cid, 1 FROM made",
                    *(aid, name, expires, rate, near, far),
                )

        await self._grow(job)

    async def revoke_channels(self, account: str, names: Sequence[str]) -> list[int]:
        async def job(db: Connection) -> list[int]:
            aid = await locked_account(db, account)
            rows = await db.fetch(
                "DELETE FROM channel WHERE aid = $1 AND name = ANY($2) RETURNING name, cid", aid, list(names)
            )
            found = {row["name"]: row["cid"] for row in rows}
            return [found[name] for name in dict.fromkeys(names) if name in found]

        return await self._postgres.write(job)

    async def bind(self, capability: bytes, rebind_key: bytes) -> ChannelEnd | None:
        find = (
            "SELECT cid, side, exp, rebind, aid, rate FROM capability JOIN channel USING (cid)"
            " WHERE capability.h = $1"
        )
        row = await self._postgres.read(lambda db: db.fetchrow(find, capability))
        if row is not None and row["rebind"] is None:
            first = "UPDATE capability SET rebind = $2 WHERE h = $1 AND rebind IS NULL"
            await self._postgres.statement(first, capability, rebind_key)
            row = await self._postgres.read(lambda db: db.fetchrow(find, capability))
        return None if row is None else ChannelEnd(*row)

    async def keep_link(
        self,
        account: str,
        name: str,
        oob: str,
        expires: float,
        envelope: bytes,
        now: float,
        created: int | None = None,
    ) -> None:
        async def job(db: Connection) -> None:
            aid = await locked_account(db, account)
            await self._act_once(db, aid, envelope, now, created)
            await db.execute("DELETE FROM link WHERE aid = $1 AND exp <= $2", aid, now)
            count = await db.fetchval("SELECT count(*) FROM link WHERE aid = $1", aid)
            if count >= self._limits.links_per_account:
                raise TooMany("You have too many short links.", fix="Pass on the long link.")
            await db.execute(
                "INSERT INTO link(name, aid, oob, exp) VALUES ($1, $2, $3, $4)", name, aid, oob, expires
            )

        await self._grow(job)

    async def link(self, name: str, now: float) -> str | None:
        find = "SELECT oob FROM link WHERE name = $1 AND exp > $2"
        found = await self._postgres.read(lambda db: db.fetchval(find, name, now))
        return None if found is None else str(found)
