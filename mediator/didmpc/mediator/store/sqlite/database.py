"""SQLite behind two threads: one writes with group commit, one reads.

A transaction per operation costs one fsync each; here everything that came in while the last commit was
being made shares the next one. A job that raises takes back its own changes alone. `write` returns after
the commit: what it reports as done survives a kill and a power cut (WAL, synchronous=FULL).

On a full disk only what frees space is still done, if need be at the cost of the ballast.

There is only one writing connection, in one process: SQLite before 3.51.3 can lose data when two
connections of a WAL database write or checkpoint at the same time.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from didmpc.local.private_files import give_to_owner
from didmpc.mediator.store.errors import StoreFailed, StoreFull
from didmpc.mediator.store.sqlite.ballast import Ballast
from didmpc.protocols.errors import DidmpcError

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

MAX_GROUP = 512
"""Most jobs in one commit."""

_PRAGMAS = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
PRAGMA cache_size=-65536;
PRAGMA wal_autocheckpoint=4000;
PRAGMA journal_size_limit=67108864;
PRAGMA foreign_keys=ON;
PRAGMA temp_store=MEMORY;
PRAGMA busy_timeout=5000;
PRAGMA secure_delete=FAST;
"""
# secure_delete: wipe deleted mail where its page is written anyway. Some builds of SQLite write every freed
# page otherwise, so that deleting a large message takes as much space and time as putting it.
_READER_PRAGMAS = "PRAGMA query_only=ON; PRAGMA wal_autocheckpoint=0; PRAGMA busy_timeout=5000;"


_NO_SPACE = frozenset(
    {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_TRUNCATE}
)


@dataclass(slots=True)
class _Pending:
    job: Job[Any]
    grows: bool
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: Exception | None = None

    def finish(self) -> None:
        if self.future.done():
            return  # whoever asked has gone; what was committed stays
        if _is_full(self.error):
            self.future.set_exception(StoreFull(str(self.error)))
        elif isinstance(self.error, sqlite3.Error):
            self.future.set_exception(StoreFailed(str(self.error)))
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Database:
    """Open it once; `close` finishes what was handed in before."""

    def __init__(self, path: Path, steps: Sequence[str], ballast: Ballast | None = None) -> None:
        """`steps` lead from an empty file to the present schema; an older file takes those it lacks."""
        self._ballast = ballast
        self.on_commit: Callable[[int, float], None] = lambda operations, seconds: None
        """Called from the writer's thread after each commit."""
        self.reusable_bytes = 0
        """Space inside the file that was freed and is filled again before the file grows."""
        # Opened here and not in the threads, so that a file that cannot be opened is an error of the caller.
        os.close(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )  # its helper files take after it
        self._writer = _connect(path)
        try:
            try:
                _prepare(self._writer, steps)
            except sqlite3.Error as error:
                if ballast is None or not _is_full(error):
                    raise
                ballast.release()
                _prepare(self._writer, steps)
        except Exception:
            self._writer.close()  # takes back a step that was begun
            raise
        self._page_size: int = self._writer.execute("PRAGMA page_size").fetchone()[0]
        self._reader = _connect(path)
        self._reader.executescript(_READER_PRAGMAS)
        self._jobs: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._closed = False
        self._holds = 0
        self._held_until = 0.0
        self._thread = threading.Thread(target=self._write_loop, name="store writer", daemon=True)
        self._queries: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read_loop, name="store reader", daemon=True)
        self._thread.start()
        self._reading.start()

    async def write(self, job: Job[T], *, grows: bool = False) -> T:
        """Run a job in the next transaction, and return after its commit.

        One that needs more space than it frees raises `StoreFull` on a full disk; others get the ballast.
        """
        if self._closed:
            raise StoreFailed("The mediator is stopping.")
        if time.monotonic() < self._held_until:
            raise StoreFailed("It is being moved to another store.")
        return await self._handed_to(self._jobs, job, grows=grows)

    async def hold(self, seconds: float) -> int:
        """Write nothing for so long, from when it returns. The number is that of the time before if that has
        not ended: nothing was written in between."""
        if time.monotonic() >= self._held_until:
            self._holds += 1
        self._held_until = max(self._held_until, time.monotonic() + seconds)
        await self._handed_to(self._jobs, lambda db: None)  # what was handed in before has been written
        return self._holds

    def held(self) -> int | None:
        """The number of the hold that lasts."""
        return self._holds if time.monotonic() < self._held_until else None

    def release(self) -> None:
        """Write again."""
        self._held_until = 0.0

    async def read(self, job: Job[T]) -> T:
        """Run a query on the last committed state."""
        if self._closed:
            raise StoreFailed("The mediator is stopping.")
        return await self._handed_to(self._queries, job)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._thread.join()
        self._queries.put(None)
        self._reading.join()
        self._reader.close()
        self._writer.close()  # the last one: it checkpoints

    async def _handed_to(
        self, jobs: "queue.SimpleQueue[_Pending | None]", job: Job[T], *, grows: bool = False
    ) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        jobs.put(_Pending(job, grows, future, loop))
        return await future

    # --- the reader's thread

    def _read_loop(self) -> None:
        while (pending := self._queries.get()) is not None:
            if pending.future.cancelled():
                continue  # whoever asked has gone
            try:
                pending.result = pending.job(self._reader)
            except Exception as error:
                pending.error = error
            _tell(pending.loop, [pending])

    # --- the writer's thread

    def _write_loop(self) -> None:
        while (first := self._jobs.get()) is not None:
            group, last = self._group(first)
            self._commit(group)
            for loop in {pending.loop for pending in group}:
                _tell(loop, [pending for pending in group if pending.loop is loop])
            if last:
                return

    def _group(self, first: _Pending) -> tuple[list[_Pending], bool]:
        """What waits already, together with `first`; and whether the end was among it."""
        group = [first]
        while len(group) < MAX_GROUP:
            try:
                pending = self._jobs.get_nowait()
            except queue.Empty:
                break
            if pending is None:
                return group, True
            group.append(pending)
        return group, False

    def _commit(self, group: list[_Pending]) -> None:
        try:
            self._transact(group)
        except Exception as error:
            # None of the group is durable, so none of it was done.
            for pending in group:
                pending.error = error
            freeing = [pending for pending in group if not pending.grows]
            if not (_is_full(error) and freeing):
                return
            if self._ballast is not None:
                self._ballast.release()
            self._checkpoint()
            try:
                self._transact(freeing)
            except Exception as again:
                for pending in freeing:
                    pending.error = again
        if self._ballast is not None and not self._ballast.is_held:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Let the log begin anew in the space that it has, rather than grow."""
        with contextlib.suppress(sqlite3.Error):
            self._writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def _transact(self, group: list[_Pending]) -> None:
        writer = self._writer
        began = time.monotonic()
        try:
            writer.execute("BEGIN IMMEDIATE")
            for pending in group:
                _run(writer, pending)
            (pages,) = writer.execute("PRAGMA freelist_count").fetchone()
            writer.execute("COMMIT")
        except Exception:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise
        self.reusable_bytes = pages * self._page_size
        self.on_commit(len(group), time.monotonic() - began)


def _run(writer: sqlite3.Connection, pending: _Pending) -> None:
    pending.error = None
    writer.execute("SAVEPOINT job")
    try:
        pending.result = pending.job(writer)
    except Exception as error:
        if not writer.in_transaction or _is_full(error):
            raise  # SQLite itself took the whole transaction back, or nobody will get further
        writer.execute("ROLLBACK TO job")
        pending.error = error
    writer.execute("RELEASE job")


def _is_full(error: Exception | None) -> bool:
    """Whether the disk has no more space. The log and its index say so as a failed write."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_FULL or code in _NO_SPACE


def _tell(loop: asyncio.AbstractEventLoop, group: list[_Pending]) -> None:
    def finish() -> None:
        for pending in group:
            pending.finish()

    with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
        loop.call_soon_threadsafe(finish)


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit: transactions are begun and ended in words. Each connection is used by one thread at a time.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)


def make(path: Path, steps: Sequence[str]) -> None:
    """The file with its tables, where it is not there yet. Nobody else has it open."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(descriptor, path.parent)
    finally:
        os.close(descriptor)  # before SQLite locks it: closing later would let go of its locks
    with contextlib.closing(_connect(path)) as writer:
        _prepare(writer, steps)


def _prepare(writer: sqlite3.Connection, steps: Sequence[str]) -> None:
    writer.executescript(_PRAGMAS)
    (found,) = writer.execute("PRAGMA user_version").fetchone()
    if found > len(steps):
        raise DidmpcError(
            "The mediator's store is of another version of didmpc.",
            why=f"It has version {found}, this program reads version {len(steps)}.",
            fix="Start it with the version of didmpc that wrote it, or name another home.",
        )
    for version, step in enumerate(steps[found:], found + 1):
        writer.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version={version}; COMMIT;")
