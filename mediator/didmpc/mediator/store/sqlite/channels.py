"""Relay channels and the capabilities for their ends."""

import sqlite3
from collections.abc import Sequence

from didmpc.mediator.refusals import TooMany
from didmpc.mediator.store.records import ChannelEnd
from didmpc.mediator.store.sqlite.part import Part, require_account


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
        self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> None:
            aid = require_account(db, account)
            self._act_once(db, aid, envelope, now, created)
            (count,) = db.execute("SELECT count(*) FROM channel WHERE aid = ?", (aid,)).fetchone()
            if count + len(channels) > self._limits.channels_per_account:
                raise TooMany(
                    "You have too many relay channels.", fix="Revoke those that are not used any more."
                )
            for name, *ends in channels:
                cid = db.execute(
                    "INSERT INTO channel(aid, name, exp, rate) VALUES (?, ?, ?, ?)",
                    (aid, name, expires, rate),
                ).lastrowid
                for side, digest in enumerate(ends):
                    db.execute("INSERT INTO capability(h, cid, side) VALUES (?, ?, ?)", (digest, cid, side))

        await self._grow(job)

    async def revoke_channels(self, account: str, names: Sequence[str]) -> list[int]:
        def job(db: sqlite3.Connection) -> list[int]:
            aid = require_account(db, account)
            revoked: list[int] = []
            for name in names:
                row = db.execute("SELECT cid FROM channel WHERE name = ? AND aid = ?", (name, aid)).fetchone()
                if row is not None:
                    db.execute("DELETE FROM channel WHERE cid = ?", row)
                    revoked.append(row[0])
            return revoked

        return await self._database.write(job)

    async def bind(self, capability: bytes, rebind_key: bytes) -> ChannelEnd | None:
        find = (
            "SELECT cid, side, exp, rebind, aid, rate FROM capability JOIN channel USING (cid)"
            " WHERE capability.h = ?"
        )
        row = await self._database.read(lambda db: db.execute(find, (capability,)).fetchone())
        if row is not None and row[3] is None:

            def job(db: sqlite3.Connection) -> tuple[int, int, float, bytes, int, int] | None:
                db.execute(
                    "UPDATE capability SET rebind = ? WHERE h = ? AND rebind IS NULL",
                    (rebind_key, capability),
                )
                found: tuple[int, int, float, bytes, int, int] | None = db.execute(
                    find, (capability,)
                ).fetchone()
                return found

            row = await self._database.write(job)
        return None if row is None else ChannelEnd(*row)
