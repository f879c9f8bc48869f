"""What all parts of the store share."""

import hashlib
import shutil
import sqlite3
from pathlib import Path

from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import DiskFull, NoAccount, Replayed, TooMany
from didmpc.mediator.store.errors import StoreFull
from didmpc.mediator.store.sqlite.ballast import Ballast
from didmpc.mediator.store.sqlite.database import Database, Job, T
from didmpc.protocols.did import canonical

_FOR_EVER = 1e18


class Part:
    """A part of the store; each method is one transaction, and has happened for good when it returns."""

    def __init__(self, database: Database, ballast: Ballast, folder: Path, limits: Limits) -> None:
        self._database = database
        self._ballast = ballast
        self._folder = folder
        self._limits = limits

    def _act_once(
        self, db: sqlite3.Connection, aid: int, envelope: bytes, now: float, created: int | None
    ) -> None:
        """Raise `Replayed` for what has acted before.

        A message that says when it was made is refused once it is too old, so until then it is remembered.
        One that does not say, or that names a time to come, could be played again for ever. What is
        remembered outlives the account.
        """
        age = self._limits.replay_seconds
        ends = created is not None and created <= now + age
        until = max(now, created or 0.0) + age if ends else _FOR_EVER
        try:
            db.execute(
                "INSERT INTO seen(h, exp, aid) VALUES (?, ?, ?)",
                (hashlib.sha256(envelope).digest(), until, aid),
            )
        except sqlite3.IntegrityError:
            raise Replayed from None
        db.execute("UPDATE account SET acts = acts + 1, lasting = lasting + ? WHERE aid = ?", (not ends, aid))
        acts, lasting = db.execute("SELECT acts, lasting FROM account WHERE aid = ?", (aid,)).fetchone()
        why = "Each must be remembered, so that nobody can have it act again."
        if not ends and lasting > self._limits.undated_per_account:
            raise TooMany(
                "You have sent too many requests without a created_time.",
                why=why,
                fix="Put the present time into created_time.",
            )
        if acts > self._limits.acts_per_account:
            raise TooMany("You have changed your account too often.", why=why, fix="Try again in some days.")

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    def check_room_for_mail(self) -> None:
        self._check_room(self._limits.free_disk_bytes)
        self._check_room(self._limits.free_disk_for_mail_bytes, self._database.reusable_bytes)

    def _check_room(self, needed: int, reusable: int = 0) -> None:
        """Raise `DiskFull` before the disk is full, and while no ballast is left for emptying mailboxes."""
        free = shutil.disk_usage(self._folder).free
        if free + reusable < needed or not self._ballast.hold(self._limits.free_disk_bytes):
            raise DiskFull

    async def _grow(self, job: Job[T]) -> T:
        """Write something that takes space. Raises `DiskFull`."""
        try:
            return await self._database.write(job, grows=True)
        except StoreFull:
            raise DiskFull from None


def account_id(db: sqlite3.Connection, did: str) -> int | None:
    row = db.execute("SELECT aid FROM account WHERE did = ?", (canonical(did),)).fetchone()
    return None if row is None else int(row[0])


def require_account(db: sqlite3.Connection, did: str) -> int:
    aid = account_id(db, did)
    if aid is None:
        raise NoAccount
    return aid
