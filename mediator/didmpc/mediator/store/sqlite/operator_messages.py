"""What people wrote to the operator (basicmessage/2.0)."""

import sqlite3
from collections.abc import Sequence

from didmpc.mediator.refusals import TooMany
from didmpc.mediator.store.records import OperatorMessage
from didmpc.mediator.store.sqlite.part import Part, account_id
from didmpc.protocols.did import canonical


class OperatorMessageStore(Part):
    """The table `operator_message`, which the operator reads and empties."""

    async def keep_operator_message(self, did: str, text: str, now: float) -> None:
        self._check_room(self._limits.free_disk_bytes)
        name = canonical(did)

        def job(db: sqlite3.Connection) -> None:
            count, own = db.execute(
                "SELECT count(*), coalesce(sum(did = ?), 0) FROM operator_message", (name,)
            ).fetchone()
            room = self._limits.operator_messages
            if account_id(db, name) is None:
                room = (room + 1) // 2
            if own >= self._limits.operator_messages_per_did or count >= room:
                raise TooMany("The operator has too many messages to read.", fix="Write in another way.")
            db.execute("INSERT INTO operator_message(at, did, text) VALUES (?, ?, ?)", (now, name, text))

        await self._grow(job)

    async def operator_messages(self, limit: int = 100) -> list[OperatorMessage]:
        find = "SELECT id, at, did, text FROM operator_message ORDER BY id LIMIT ?"
        rows = await self._database.read(lambda db: db.execute(find, (limit,)).fetchall())
        return [OperatorMessage(*row) for row in rows]

    async def remove_operator_messages(self, ids: Sequence[int]) -> None:
        def job(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM operator_message WHERE id = ?", [(id,) for id in ids])

        await self._database.write(job)
