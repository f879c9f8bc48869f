"""The store in one file, for one mediator. Each module has what is kept together."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from didmpc.mediator.limits import Limits
from didmpc.mediator.store.records import EXPIRY_BATCH, Description
from didmpc.mediator.store.sqlite.accounts import AccountStore
from didmpc.mediator.store.sqlite.ballast import Ballast
from didmpc.mediator.store.sqlite.channels import ChannelStore
from didmpc.mediator.store.sqlite.database import Database
from didmpc.mediator.store.sqlite.links import LinkStore
from didmpc.mediator.store.sqlite.mail import MailStore, delete_mail
from didmpc.mediator.store.sqlite.operator_messages import OperatorMessageStore
from didmpc.mediator.store.sqlite.outgoing import OutgoingStore
from didmpc.mediator.store.sqlite.rules import RuleStore
from didmpc.mediator.store.sqlite.schema import STEPS

FILE = "mediator.sqlite3"
BALLAST = "mediator.ballast"


class SqliteStore(
    AccountStore, MailStore, ChannelStore, LinkStore, RuleStore, OperatorMessageStore, OutgoingStore
):
    """All of it; each method is one transaction, and has happened for good when it returns."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        ballast = Ballast(folder / BALLAST, limits.ballast_bytes)
        super().__init__(Database(folder / FILE, STEPS, ballast), ballast, folder, limits)
        ballast.hold(limits.free_disk_bytes)

    def describe(self) -> Description:
        return Description(f"SQLite {sqlite3.sqlite_version}")

    def observe_commits(self, observer: Callable[[int, float], None]) -> None:
        self._database.on_commit = observer

    async def close(self) -> None:
        await self._database.close()

    # --- while it is moved to another store

    async def hold(self, seconds: float) -> int:
        """Take nothing in for so long: every write raises `StoreFailed`. See `Database.hold`."""
        return await self._database.hold(seconds)

    def held(self) -> int | None:
        return self._database.held()

    def release(self) -> None:
        self._database.release()

    async def expire(self, now: float) -> int:
        self._ballast.hold(self._limits.free_disk_bytes)

        def job(db: sqlite3.Connection) -> int:
            rows = db.execute("SELECT seq FROM msg WHERE exp <= ? LIMIT ?", (now, EXPIRY_BATCH)).fetchall()
            for (seq,) in rows:
                delete_mail(db, "seq = ?", (seq,))
            forgotten = db.execute(
                "DELETE FROM seen WHERE h IN (SELECT h FROM seen WHERE exp <= ? LIMIT ?)", (now, EXPIRY_BATCH)
            ).rowcount
            acknowledged = db.execute(
                "DELETE FROM acknowledged WHERE (mid, h) IN"
                " (SELECT mid, h FROM acknowledged WHERE exp <= ? ORDER BY exp LIMIT ?)",
                (now, EXPIRY_BATCH),
            ).rowcount
            db.execute("DELETE FROM channel WHERE exp <= ?", (now,))
            db.execute("DELETE FROM link WHERE exp <= ?", (now,))
            db.execute("DELETE FROM ticket WHERE exp <= ?", (now,))
            db.execute("DELETE FROM outgoing WHERE exp <= ?", (now,))
            return max(len(rows), forgotten, acknowledged)

        return await self._database.write(job)
