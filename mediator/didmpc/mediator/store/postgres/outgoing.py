"""Envelopes on their way to other mediators and agents, until they have arrived or are over.

A parcel that a node was given is leased to it, by the clock of PostgreSQL: no other node sends it meanwhile.
"""

from collections.abc import Collection, Sequence

from didmpc.mediator.refusals import TooBig, TooMuchOutgoing
from didmpc.mediator.store.postgres.connection import Connection
from didmpc.mediator.store.postgres.part import Part
from didmpc.mediator.store.records import Parcel

LEASE_MARGIN = 30.0
"""Beyond the time that an attempt may take."""
LOOK_SECONDS = 15.0
"""After so long a node looks for parcels of nodes that are no more."""
_CLOCK = "extract(epoch FROM clock_timestamp())::float8"


class OutgoingStore(Part):
    async def put_outgoing(
        self, parcels: Sequence[Parcel], *, due: float, expires: float, now: float
    ) -> None:
        if any(len(parcel.body) > self._limits.outgoing_message_bytes for parcel in parcels):
            raise TooBig(self._limits.outgoing_message_bytes)
        columns = (
            [parcel.uri for parcel in parcels],
            [parcel.host for parcel in parcels],
            [len(parcel.body) for parcel in parcels],
            [parcel.digest for parcel in parcels],
            [parcel.body for parcel in parcels],
        )

        async def job(db: Connection) -> None:
            await db.execute("SELECT pg_advisory_xact_lock(hashtext('didmpc.outgoing'))")  # for exact bounds
            await db.execute("DELETE FROM outgoing WHERE h = ANY($1) AND exp <= $2", columns[3], now)
            await db.execute(
                "INSERT INTO outgoing(uri, host, due, exp, size, h, body)"
                " SELECT uri, host, $1::float8, $2::float8, size, h, body"
                " FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bytea[], $7::bytea[])"
                " AS given(uri, host, size, h, body) ON CONFLICT (h) DO NOTHING",
                *(due, expires, *columns),
            )
            limits = self._limits
            total = "SELECT count(*), coalesce(sum(size), 0)::bigint FROM outgoing"
            messages, size = await db.fetchrow(total)
            if messages > limits.outgoing_messages or size > limits.outgoing_bytes:
                raise TooMuchOutgoing
            for host in sorted(set(columns[1])):
                messages, size = await db.fetchrow(f"{total} WHERE host = $1", host)
                if messages > limits.outgoing_messages_per_host or size > limits.outgoing_bytes_per_host:
                    raise TooMuchOutgoing

        await self._grow(job, again=True)

    async def due_outgoing(
        self, now: float, most: int, *, but: Collection[int] = (), but_hosts: Collection[str] = ()
    ) -> list[Parcel]:
        due = (
            f"SELECT oid FROM outgoing WHERE due <= $1 AND exp > $1 AND lease_until <= {_CLOCK}"  # noqa: S608
            " AND oid <> ALL($2) AND host <> ALL($3) ORDER BY due, oid LIMIT $4"
        )
        values = (now, list(but), list(but_hosts), most)
        if not await self._postgres.read(lambda db: db.fetch(f"{due[:-2]}1", *values[:3])):
            return []  # most of the time: without a write
        answer = await self._postgres.statement(
            f"UPDATE outgoing SET lease_until = {_CLOCK} + $5"  # noqa: S608
            f" WHERE oid IN ({due} FOR UPDATE SKIP LOCKED) RETURNING uri, host, body, h, oid, tries, due",
            *(*values, self._limits.outgoing_seconds + LEASE_MARGIN),
        )
        rows = sorted(answer.rows, key=lambda row: (row["due"], row["oid"]))
        return [Parcel(*tuple(row)[:-1]) for row in rows]

    async def give_back_outgoing(self, ids: Collection[int]) -> None:
        await self._postgres.statement("UPDATE outgoing SET lease_until = 0 WHERE oid = ANY($1)", list(ids))

    async def next_outgoing(self, now: float) -> float | None:
        # What another node has leased is due when that lease ends, if it is still there; and what another
        # node was given, it may never have begun with.
        find = (
            "SELECT least($1::float8 + $2::float8, (SELECT min(due) FROM outgoing WHERE due > $1),"  # noqa: S608
            f" (SELECT $1 + min(lease_until) - {_CLOCK} FROM outgoing"
            f" WHERE due <= $1 AND lease_until > {_CLOCK}))"
        )
        return float(await self._postgres.read(lambda db: db.fetchval(find, now, LOOK_SECONDS)))

    async def end_outgoing(self, id: int) -> None:
        await self._postgres.statement("DELETE FROM outgoing WHERE oid = $1", id)

    async def postpone_outgoing(self, id: int, due: float) -> None:
        again = "UPDATE outgoing SET due = $1, tries = tries + 1, lease_until = 0 WHERE oid = $2"
        await self._postgres.statement(again, due, id)

    async def postpone_host(self, host: str, due: float) -> None:
        # In the order of ids, and those that are being sent come when they are.
        later = (
            "UPDATE outgoing SET due = $1 WHERE oid IN"
            " (SELECT oid FROM outgoing WHERE host = $2 AND due < $1 ORDER BY oid FOR UPDATE)"
        )
        await self._postgres.statement(later, due, host)

    async def outgoing(self) -> int:
        return int(await self._postgres.read(lambda db: db.fetchval("SELECT count(*) FROM outgoing")))
