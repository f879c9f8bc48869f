"""What all parts of the store share."""

import hashlib
import shutil
import sqlite3
from pathlib import Path

from didmpc.mediator.database import Database
from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import DiskFull, NoAccount, Replayed
from didmpc.protocols.did import canonical


class Part:
    """A part of the store; each method is one transaction, and has happened for good when it returns."""

    def __init__(self, database: Database, folder: Path, limits: Limits) -> None:
        self._database = database
        self._folder = folder
        self._limits = limits

    def _act_once(self, db: sqlite3.Connection, envelope: bytes, now: float) -> None:
        digest = hashlib.sha256(envelope).digest()
        try:
            db.execute("INSERT INTO seen(h, exp) VALUES (?, ?)", (digest, now + self._limits.replay_seconds))
        except sqlite3.IntegrityError:
            raise Replayed from None

    def _check_room(self, needed: int) -> None:
        if shutil.disk_usage(self._folder).free < needed:
            raise DiskFull


def account_id(db: sqlite3.Connection, did: str) -> int | None:
    row = db.execute("SELECT aid FROM account WHERE did = ?", (canonical(did),)).fetchone()
    return None if row is None else int(row[0])


def require_account(db: sqlite3.Connection, did: str) -> int:
    aid = account_id(db, did)
    if aid is None:
        raise NoAccount
    return aid
