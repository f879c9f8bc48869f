"""Envelopes on their way to other mediators and agents, until they have arrived or are over."""

import sqlite3
from collections.abc import Collection, Sequence

from didmpc.mediator.refusals import TooBig, TooMuchOutgoing
from didmpc.mediator.store.records import Parcel
from didmpc.mediator.store.sqlite.part import Part


class OutgoingStore(Part):
    async def put_outgoing(
        self, parcels: Sequence[Parcel], *, due: float, expires: float, now: float
    ) -> None:
        self.check_room_for_mail()
        if any(len(parcel.body) > self._limits.outgoing_message_bytes for parcel in parcels):
            raise TooBig(self._limits.outgoing_message_bytes)

        def job(db: sqlite3.Connection) -> None:
            for parcel in parcels:
                db.execute("DELETE FROM outgoing WHERE h = ? AND exp <= ?", (parcel.digest, now))
                db.execute(
                    "INSERT INTO outgoing(uri, host, due, exp, size, h, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT(h) DO NOTHING",
                    (
                        *(parcel.uri, parcel.host, due, expires),
                        *(len(parcel.body), parcel.digest, parcel.body),
                    ),
                )
            for host in {parcel.host for parcel in parcels}:
                self._check_outgoing(db, host)

        await self._grow(job)

    def _check_outgoing(self, db: sqlite3.Connection, host: str) -> None:
        limits = self._limits
        in_all = "SELECT count(*), coalesce(sum(size), 0) FROM outgoing"
        messages, size = db.execute(in_all).fetchone()
        if messages > limits.outgoing_messages or size > limits.outgoing_bytes:
            raise TooMuchOutgoing
        messages, size = db.execute(f"{in_all} WHERE host = ?", (host,)).fetchone()
        if messages > limits.outgoing_messages_per_host or size > limits.outgoing_bytes_per_host:
            raise TooMuchOutgoing

    async def due_outgoing(
        self, now: float, most: int, *, but: Collection[int] = (), but_hosts: Collection[str] = ()
    ) -> list[Parcel]:
        def job(db: sqlite3.Connection) -> list[Parcel]:
            rows = db.execute(
                "SELECT uri, host, body, h, oid, tries FROM outgoing WHERE due <= ? AND exp > ?"  # noqa: S608
                f" AND oid NOT IN ({_marks(but)}) AND host NOT IN ({_marks(but_hosts)})"
                " ORDER BY due, oid LIMIT ?",
                (now, now, *but, *but_hosts, most),
            )
            return [Parcel(*row) for row in rows]

        return await self._database.read(job)

    async def give_back_outgoing(self, ids: Collection[int]) -> None:
        """Nobody else sends from this store."""

    async def next_outgoing(self, now: float) -> float | None:
        find = "SELECT min(due) FROM outgoing WHERE due > ?"
        row = await self._database.read(lambda db: db.execute(find, (now,)).fetchone())
        return None if row is None or row[0] is None else float(row[0])

    async def end_outgoing(self, id: int) -> None:
        await self._database.write(
            lambda db: db.execute("DELETE FROM outgoing WHERE oid = ?", (id,)) and None
        )

    async def postpone_outgoing(self, id: int, due: float) -> None:
        again = "UPDATE outgoing SET due = ?, tries = tries + 1 WHERE oid = ?"
        await self._database.write(lambda db: db.execute(again, (due, id)) and None)

    async def postpone_host(self, host: str, due: float) -> None:
        later = "UPDATE outgoing SET due = ?1 WHERE host = ?2 AND due < ?1"
        await self._database.write(lambda db: db.execute(later, (due, host)) and None)

    async def outgoing(self) -> int:
        count = "SELECT count(*) FROM outgoing"
        return int((await self._database.read(lambda db: db.execute(count).fetchone()))[0])


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
