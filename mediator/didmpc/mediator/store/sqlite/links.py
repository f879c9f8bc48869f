"""Short links to invitations."""

import sqlite3

from didmpc.mediator.refusals import TooMany
from didmpc.mediator.store.sqlite.part import Part, require_account


class LinkStore(Part):
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
        self._check_room(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> None:
            aid = require_account(db, account)
            self._act_once(db, aid, envelope, now, created)
            db.execute("DELETE FROM link WHERE aid = ? AND exp <= ?", (aid, now))
            (count,) = db.execute("SELECT count(*) FROM link WHERE aid = ?", (aid,)).fetchone()
            if count >= self._limits.links_per_account:
                raise TooMany("You have too many short links.", fix="Pass on the long link.")
            db.execute("INSERT INTO link(name, aid, oob, exp) VALUES (?, ?, ?, ?)", (name, aid, oob, expires))

        await self._grow(job)

    async def link(self, name: str, now: float) -> str | None:
        find = "SELECT oob FROM link WHERE name = ? AND exp > ?"
        row = await self._database.read(lambda db: db.execute(find, (name, now)).fetchone())
        return None if row is None else str(row[0])
