"""What all parts of the store share."""

import hashlib
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import asyncpg

from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import DiskFull, NoAccount, Replayed, TooMany
from didmpc.mediator.store.errors import StoreFull
from didmpc.mediator.store.postgres.connection import Connection, Job, Postgres
from didmpc.protocols.did import canonical

T = TypeVar("T")

_FOR_EVER = 1e18


class Part:
    """A part of the store; each method is one transaction, and has happened for good when it returns."""

    def __init__(self, postgres: Postgres, folder: Path, limits: Limits) -> None:
        self._postgres = postgres
        self._folder = folder
        self._limits = limits
        self._observer: Callable[[int, float], None] = lambda operations, seconds: None

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    def check_room_for_mail(self) -> None:
        """Whether the disk has room is for PostgreSQL to say, and it says so when it is asked to write."""

    async def _grow(self, job: Job[T], *, again: bool = False) -> T:
        """Write something that takes space. Raises `DiskFull`."""
        return await _or_full(self._postgres.write(job, again=again))

    async def _act_once(
        self, db: Connection, aid: int, envelope: bytes, now: float, created: int | None
    ) -> None:
        """Raise `Replayed` for what has acted before; the caller has locked the account.

        A message that says when it was made is refused once it is too old, so until then it is remembered.
        One that does not say, or that names a time to come, could be played again for ever. What is
        remembered outlives the account.
        """
        age = self._limits.replay_seconds
        ends = created is not None and created <= now + age
        until = max(now, created or 0.0) + age if ends else _FOR_EVER
        row = await db.fetchrow(
            "WITH acted AS ("
            " INSERT INTO seen(h, exp, aid) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING aid"
            ") UPDATE account SET acts = acts + 1, lasting = lasting + $4 FROM acted"
            " WHERE account.aid = acted.aid RETURNING acts, lasting",
            *(hashlib.sha256(envelope).digest(), until, aid, int(not ends)),
        )
        if row is None:
            raise Replayed
        why = "Each must be remembered, so that nobody can have it act again."
        if not ends and row["lasting"] > self._limits.undated_per_account:
            raise TooMany(
                "You have sent too many requests without a created_time.",
                why=why,
                fix="Put the present time into created_time.",
            )
        if row["acts"] > self._limits.acts_per_account:
            raise TooMany("You have changed your account too often.", why=why, fix="Try again in some days.")


async def _or_full(done: Awaitable[T]) -> T:
    try:
        return await done
    except StoreFull:
        raise DiskFull from None


async def locked_account(db: Connection, did: str) -> int:
    """Nothing else changes what an account has until the transaction ends. Raises `NoAccount`."""
    aid = await db.fetchval("SELECT aid FROM account WHERE did = $1 FOR NO KEY UPDATE", canonical(did))
    if aid is None:
        raise NoAccount
    return int(aid)


def collided() -> Exception:
    """Another node was faster: the transaction is to be run again."""
    error: Exception = asyncpg.SerializationError("another node was faster")
    return error
