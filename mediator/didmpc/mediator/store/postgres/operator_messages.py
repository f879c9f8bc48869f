"""What people wrote to the operator (basicmessage/2.0)."""

from collections.abc import Sequence

from didmpc.mediator.refusals import TooMany
from didmpc.mediator.store.postgres.connection import Connection
from didmpc.mediator.store.postgres.part import Part
from didmpc.mediator.store.records import OperatorMessage
from didmpc.protocols.did import canonical


class OperatorMessageStore(Part):
    async def keep_operator_message(self, did: str, text: str, now: float) -> None:
        name = canonical(did)
        kept = text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # which PostgreSQL keeps in no text

        async def job(db: Connection) -> None:
            await db.execute("SELECT pg_advisory_xact_lock(hashtext('didmpc.operator_message'))")
            count, own, known = await db.fetchrow(
                "SELECT (SELECT count(*) FROM operator_message),"
                " (SELECT count(*) FROM operator_message WHERE did = $1),"
                " EXISTS (SELECT FROM account WHERE did = $1)",
                name,
            )
            room = self._limits.operator_messages if known else (self._limits.operator_messages + 1) // 2
            if own >= self._limits.operator_messages_per_did or count >= room:
                raise TooMany("The operator has too many messages to read.", fix="Write in another way.")
            insert = "INSERT INTO operator_message(at, did, text) VALUES ($1, $2, $3)"
            await db.execute(insert, now, name, kept)

        await self._grow(job)

    async def operator_messages(self, limit: int = 100) -> list[OperatorMessage]:
        find = "SELECT id, at, did, text FROM operator_message ORDER BY id LIMIT $1"
        rows = await self._postgres.read(lambda db: db.fetch(find, limit))
        return [OperatorMessage(*row) for row in rows]

    async def remove_operator_messages(self, ids: Sequence[int]) -> None:
        await self._postgres.statement("DELETE FROM operator_message WHERE id = ANY($1)", list(ids))
