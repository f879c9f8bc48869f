"""PostgreSQL as one node sees it: few connections, to whichever server is the primary now.

Reads and writes have connections of their own: where no standby confirms, writes wait, and reads go on.
Nobody waits longer than `PATIENCE`. A write that PostgreSQL has not confirmed by then keeps its connection
until it is known what became of it, so that a cluster without standbys is not filled with waiting sessions.

A server that was restarted shows what it had begun to commit, also what no standby has and nobody was
promised. So it is used once a commit since then was confirmed: that confirms all before it. Only a `peek`
does not wait for that.

What is tried again, while there is patience: whatever certainly was not done (serialization failures,
deadlocks, connections lost before COMMIT, a primary that became a standby), and what may be done twice.
All else is `StoreFailed`. A commit with a warning counts as not confirmed: PostgreSQL says so when somebody
cut short its wait for a standby.
"""

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from didmpc.mediator.store.errors import StoreFailed, StoreFull, StoreRejected, StoreUnsure

log = logging.getLogger(__name__)

warnings.filterwarnings("ignore", "password file .*", UserWarning)  # `opening` says it in words

T = TypeVar("T")
Connection: TypeAlias = Any
"""An `asyncpg.Connection`; that package has no types."""
Job = Callable[[Connection], Awaitable[T]]

READS = 4
WRITES = 4
"""Connections of a node."""
PATIENCE = 10.0
"""Longest that anyone waits for an answer, all attempts together."""
CONNECT_SECONDS = 4.0
"""For one server; all that the URL names are asked at once."""
LOOK_SECONDS = 5.0
"""After so long without an answer it is asked, by another connection, whether this one is still there."""
DOWN_SECONDS = 0.25
"""After a connection failed, the others do not try for so long."""

_SESSION = {
    "application_name": "didmpc mediator",
    # What a node left behind that is gone; a batch of another node may wait for its locks.
    "client_connection_check_interval": "5s",
    "idle_in_transaction_session_timeout": "15s",
    "jit": "off",
    "enable_seqscan": "off",  # plans are made before the tables have grown
}
_SILENCE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 14_000}
"""Seconds, but for the last one."""
_WHO = (
    "SELECT pid, backend_start, current_setting('synchronous_commit'), to_regclass('confirmed') IS NULL"
    " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)
_IS_CONFIRMED = "SELECT EXISTS (SELECT FROM confirmed WHERE since = pg_postmaster_start_time())"
_COMMIT = "SELECT pg_logical_emit_message(true, 'didmpc', 'all before this')"
_CONFIRMED = (
    "INSERT INTO confirmed(since) SELECT pg_postmaster_start_time()"
    " WHERE set_config('synchronous_commit', 'off', true) = 'off'"
    " ON CONFLICT (only_one) DO UPDATE SET since = excluded.since"
)
_IS_THERE = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2)"

_NO_STANDBY = "PostgreSQL has committed it, but no standby has."

_LOST = (
    OSError,  # with TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # the primary is none any more
)
_COLLIDED = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,
)


class ConnectFailed(Exception):
    """No server of the URL can be written to; `errors` has the reason of each."""

    def __init__(self, errors: Sequence[tuple[str, Exception]]) -> None:
        said = [(where, words(error)) for where, error in errors]
        super().__init__("; ".join(f"{where}: {why}" for where, why in said))
        self.errors = [error for _, error in errors]


class _Again(Exception):
    """It was not done, or may be done twice."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a statement, and whether it may have been done before this answer."""

    rows: list[asyncpg.Record]
    is_repeated: bool


@dataclass(eq=False, slots=True)
class _Link:
    """One connection; `pid` and `began` name its other end."""

    connection: Connection
    pid: int
    began: datetime
    is_confirmed: bool
    """Whether what it shows is on a standby."""
    is_busy: bool = False
    is_warned: bool = False

    async def confirm(self) -> None:
        """Wait until what it shows is on a standby. Raises `_Again`."""
        if self.is_confirmed:
            return
        if not await self.connection.fetchval(_IS_CONFIRMED):
            await self.connection.execute(_COMMIT)
            if self.is_warned:
                raise _Again(_NO_STANDBY)
            await self.connection.execute(_CONFIRMED)
        self.is_confirmed = True

    def note(self, _: object, message: Any) -> None:
        self.is_warned |= getattr(message, "severity_en", "") == "WARNING"


_LinkJob = Callable[[_Link], Awaitable[T]]


class Postgres:
    """The connections of one node. `open` it, and `close` it."""

    def __init__(self, url: str, *, reads: int = READS, writes: int = WRITES) -> None:
        self._urls = _one_by_one(url)
        self._reads = asyncio.Semaphore(reads)
        self._writes = asyncio.Semaphore(writes)
        self._peeks = asyncio.Semaphore(1)
        self._idle: list[_Link] = []
        self._under_way: set[asyncio.Task[Any]] = set()
        self._given_up: set[asyncio.Task[Any]] = set()  # of these: nobody waits for them any more
        self._closed = False
        self._down_since: float | None = None
        self._not_before = 0.0
        self._why = ""

    @classmethod
    async def open(cls, url: str, **options: int) -> Self:
        """Raises `ConnectFailed`."""
        postgres = cls(url, **options)
        postgres._idle.append(await postgres._connected())
        return postgres

    async def close(self, *, within: float = PATIENCE) -> None:
        """Wait for what is under way, for so many seconds."""
        self._closed = True
        if waited_for := self._under_way - self._given_up:
            await asyncio.wait(waited_for, timeout=within)
        left = set(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        closing = [link.connection.close(timeout=1) for link in self._idle]
        self._idle.clear()
        await asyncio.gather(*closing, return_exceptions=True)

    async def read(self, job: Job[T]) -> T:
        """Run queries, each on what is committed when it begins."""

        async def read(link: _Link) -> T:
            await link.confirm()
            return await job(link.connection)

        return await self._persist(self._reads, read, again=True)

    async def peek(self, job: Job[T]) -> T:
        """The same of what the primary shows, whether or not a standby has it."""
        return await self._persist(self._peeks, lambda link: job(link.connection), again=True)

    async def write(self, job: Job[T], *, again: bool = False) -> T:
        """Run a job in a transaction, and return after its commit.

        `again`: doing it twice is as good as once. Otherwise, where it is not known whether the commit
        took place, it raises `StoreUnsure`. A job may be run more than once in any case, so it does nothing
        but talk to its connection.
        """

        async def transact(link: _Link) -> T:
            await link.confirm()
            connection = link.connection
            transaction = connection.transaction()
            await transaction.start()
            try:
                result = await job(connection)
            except BaseException:
                with contextlib.suppress(Exception):
                    await transaction.rollback()
                raise
            try:
                await transaction.commit()
            except Exception as error:
                if again or not _is_lost(error, connection):
                    raise
                raise StoreUnsure(words(error)) from None
            return result

        return await self._persist(self._writes, transact, again=again)

    async def statement(self, sql: str, *arguments: object) -> Answer:
        """One statement and one round trip, committed when it returns. Twice must be as good as once."""
        attempts = 0

        async def execute(link: _Link) -> list[asyncpg.Record]:
            nonlocal attempts
            await link.confirm()
            attempts += 1
            return list(await link.connection.fetch(sql, *arguments))

        rows = await self._persist(self._writes, execute, again=True)
        return Answer(rows, attempts > 1)

    # --- with patience

    async def _persist(self, lane: asyncio.Semaphore, job: _LinkJob[T], *, again: bool) -> T:
        loop = asyncio.get_running_loop()
        # Who comes when it has been down for long is not kept waiting as well.
        ends = (self._down_since or loop.time()) + PATIENCE
        pause = 0.05
        while True:
            if self._closed:
                raise StoreFailed("The mediator is stopping.")
            try:
                return await self._once(lane, job, max(ends, loop.time() + CONNECT_SECONDS), again=again)
            except _Again as why:
                if loop.time() + pause >= ends:
                    raise StoreFailed(str(why)) from None
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, 1.0)

    async def _once(self, lane: asyncio.Semaphore, job: _LinkJob[T], ends: float, *, again: bool) -> T:
        try:
            async with asyncio.timeout_at(ends):
                await lane.acquire()
        except TimeoutError:
            raise StoreFailed(self._why or "PostgreSQL does not answer.") from None
        task = asyncio.create_task(self._done(lane, job, again=again))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        # Also when who asked has gone: what was begun comes to its end.
        await asyncio.wait({task}, timeout=ends - asyncio.get_running_loop().time())
        if not task.done():
            self._given_up.add(task)
            raise StoreUnsure("PostgreSQL has not confirmed it in time; perhaps no standby does.")
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        self._given_up.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    async def _done(self, lane: asyncio.Semaphore, job: _LinkJob[T], *, again: bool) -> T:
        try:
            link = await self._taken()
            look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_after, link)
            try:
                return await self._on(link, job, again=again)
            finally:
                look.cancel()
                link.is_busy = False
                if link.connection.is_closed() or link.connection.is_in_transaction():
                    link.connection.terminate()
                else:
                    self._idle.append(link)
        finally:
            lane.release()

    async def _on(self, link: _Link, job: _LinkJob[T], *, again: bool) -> T:
        link.is_busy, link.is_warned = True, False
        try:
            result = await job(link)
        except asyncpg.DiskFullError as error:
            raise StoreFull(words(error)) from None
        except _COLLIDED as error:
            raise _Again(words(error)) from None
        except Exception as error:
            if _is_lost(error, link.connection):
                link.connection.terminate()
                raise _Again(words(error)) from None
            if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | UnicodeError):
                raise StoreRejected(words(error)) from None
            raise
        except BaseException:
            link.connection.terminate()
            raise
        if link.is_warned:
            raise _Again(_NO_STANDBY) if again else StoreUnsure(_NO_STANDBY)
        return result

    # --- connections

    async def _taken(self) -> _Link:
        while self._idle:
            link = self._idle.pop()
            if not link.connection.is_closed():
                return link
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before:
            raise _Again(self._why)
        try:
            link = await self._connected()
        except ConnectFailed as error:
            if self._down_since is None:
                self._down_since = loop.time()
                log.error("PostgreSQL cannot be reached: %s", error)
            self._not_before = loop.time() + DOWN_SECONDS
            self._why = f"PostgreSQL cannot be reached: {error}."
            raise _Again(self._why) from None
        if self._down_since is not None:
            log.warning("PostgreSQL can be reached again, after %.1f s", loop.time() - self._down_since)
        self._down_since = None
        return link

    async def _connected(self) -> _Link:
        """A connection to the server that may be written to. Raises `ConnectFailed`."""
        dials = [asyncio.create_task(_connect(url)) for url in self._urls]
        chosen: _Link | None = None
        try:
            for dial in asyncio.as_completed(dials):
                with contextlib.suppress(Exception):
                    chosen = await dial
                    return chosen
        finally:
            for each in dials:
                each.cancel()
            for link in await asyncio.gather(*dials, return_exceptions=True):
                if isinstance(link, _Link) and link is not chosen:
                    link.connection.terminate()
        failed = [(url, dial.exception()) for url, dial in zip(self._urls, dials, strict=True)]
        raise ConnectFailed([(_where(url), error) for url, error in failed if isinstance(error, Exception)])

    def _look_after(self, link: _Link) -> None:
        task = asyncio.create_task(self._await_news(link))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    async def _await_news(self, link: _Link) -> None:
        """Give a connection up once the primary knows nothing of it: then it is another one's, or dead."""
        while link.is_busy and not link.connection.is_closed():
            with contextlib.suppress(ConnectFailed, *_LOST, asyncpg.PostgresError):
                other = await self._connected()
                try:
                    there = await other.connection.fetchval(_IS_THERE, link.pid, link.began)
                finally:
                    other.connection.terminate()
                if not there and link.is_busy:
                    link.connection.terminate()
                    return
            await asyncio.sleep(LOOK_SECONDS)


async def _connect(url: str) -> _Link:
    connection = await asyncpg.connect(
        url, timeout=CONNECT_SECONDS, target_session_attrs="read-write", server_settings=_SESSION
    )
    try:
        _notice_loss(connection)
        async with asyncio.timeout(CONNECT_SECONDS):
            pid, began, durable, is_empty = await connection.fetchrow(_WHO)
            if durable == "off":
                await connection.execute("SET synchronous_commit = on")
    except BaseException:
        connection.terminate()
        raise
    # Tables that are made later are made since its start.
    link = _Link(connection, pid, began, is_confirmed=is_empty)
    connection.add_log_listener(link.note)
    return link


def _notice_loss(connection: Connection) -> None:
    """Have the kernel end a connection whose other end has been silent for some seconds."""
    found = connection._transport.get_extra_info("socket")
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _SILENCE.items():
            if hasattr(socket, option):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _is_lost(error: Exception, connection: Connection) -> bool:
    """Whether a connection broke, or is of no use any more."""
    return isinstance(error, _LOST) or (
        isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError) and connection.is_closed()
    )


def _one_by_one(url: str) -> list[str]:
    """The URL of each server: `postgresql://user@a:5432,b:5432/name` names two."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=user + at + host)) for host in hosts.split(",")]


def _where(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or "PostgreSQL"


def words(error: BaseException) -> str:
    """What went wrong, in one line and without passwords."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "it is a standby, which cannot be written to"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    first = (str(error) or type(error).__name__).splitlines()[0]
    return first[:300].rstrip(".")
