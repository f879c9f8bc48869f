"""What people wrote to the operator (basicmessage/2.0)."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from didmpc.mediator.refusals import TooMany
from didmpc.mediator.store.part import Part, account_id
from didmpc.protocols.did import canonical


@dataclass(frozen=True, slots=True)
class OperatorMessage:
    """Words of a stranger: to be shown with care."""

    id: int
    at: float
    did: str
    """Who wrote it, proven by its envelope."""
    text: str


class OperatorMessageStore(Part):
    """The table `operator_message`, which the operator reads and empties."""

    async def keep_operator_message(self, did: str, text: str, now: float) -> None:
        """Raises `TooMany` where the operator has not read what is there.

        Half of the room is for those who have an account: anybody else can have any number of DIDs.
        """
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
        """The oldest that wait."""
        find = "SELECT id, at, did, text FROM operator_message ORDER BY id LIMIT ?"
        rows = await self._database.read(lambda db: db.execute(find, (limit,)).fetchall())
        return [OperatorMessage(*row) for row in rows]

    async def remove_operator_messages(self, ids: Sequence[int]) -> None:
        def job(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM operator_message WHERE id = ?", [(id,) for id in ids])

        await self._database.write(job)
