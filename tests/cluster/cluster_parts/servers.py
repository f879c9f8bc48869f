"""PostgreSQL with streaming standbys, as real servers on this machine or on test hosts of their own.

Any one of the servers may be killed, stopped, promoted and made a standby again. Every one of them knows all
names in `synchronous_standby_names`: whichever is the primary, a commit waits for one of the others.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import asyncpg
from postgres import ADMIN, OWNER, Binaries

DATABASE = OWNER
WITHIN = 60.0
POLL = 0.05

_SETTINGS = """
unix_socket_directories = ''
max_connections = 120
shared_buffers = '32MB'
wal_level = replica
hot_standby = on
max_wal_senders = 10
max_replication_slots = 10
max_slot_wal_keep_size = '1GB'
wal_keep_size = '128MB'
synchronous_commit = on
wal_retrieve_retry_interval = '200ms'
wal_receiver_timeout = '5s'
wal_sender_timeout = '5s'
log_min_messages = warning
"""


class ServersError(Exception):
    """A server did not do what was asked of it; its last words are in the message."""


@dataclass(slots=True)
class Server:
    """One PostgreSQL server: its data, its address, and the process while it runs."""

    name: str
    data: Path
    host: str
    port: int
    prefix: tuple[str, ...] = ()
    """What to run its commands under: `ip netns exec NAME`."""
    under: tuple[str, ...] = ()
    """What the server itself is run under, such as what gives it a clock that is wrong."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.data.with_name(f"{self.name}.log")

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Servers:
    """A primary and its standbys. Use with `async with`; at its end no process is left."""

    binaries: Binaries
    folder: Path
    """To be made where their user gets, as in a `workplace`."""
    count: int = 3
    hosts: Sequence[tuple[str, tuple[str, ...]]] = ()
    """Address and command prefix of each; none = all on the loopback address."""
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    all: list[Server] = field(default_factory=list)
    primary: Server = field(init=False)

    async def __aenter__(self) -> Self:
        self.folder.mkdir()
        self.folder.chmod(0o711)
        self.binaries.own(self.folder)
        self.passwords.touch(0o600)
        self.passwords.write_text(f"*:*:*:{OWNER}:{self.password}\n")
        try:
            await self._create()
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    # --- what clients need

    @property
    def dsn(self) -> str:
        """All servers; a client looks for the one that may be written to. Without the password."""
        hosts = ",".join(f"{server.host}:{server.port}" for server in self.all)
        return f"postgresql://{OWNER}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    @property
    def passwords(self) -> Path:
        """A file for libpq, PGPASSFILE, which only its owner reads."""
        return self.folder / "pgpass"

    @property
    def dsn_with_password(self) -> str:
        """For a file that only its owner reads."""
        return self.dsn.replace(f"//{OWNER}@", f"//{OWNER}:{quote(self.password)}@")

    async def connect(self, server: Server, database: str = DATABASE) -> "asyncpg.Connection[Any]":
        """As the administrator. Raises OSError, TimeoutError, asyncpg.PostgresError."""
        return await asyncpg.connect(
            host=server.host,
            port=server.port,
            user=ADMIN,
            password=self.password,
            database=database,
            ssl=False,
            timeout=10,
        )

    async def ask(self, server: Server, statement: str, *values: Any, database: str = DATABASE) -> Any:
        """The one value that a statement gives."""
        connection = await self.connect(server, database)
        try:
            return await connection.fetchval(statement, *values, timeout=WITHIN)
        finally:
            await connection.close()

    @property
    def standbys(self) -> list[Server]:
        return [server for server in self.all if server is not self.primary]

    # --- faults

    def kill(self, server: Server) -> None:
        """kill -9 of all its processes at once: none of them gets to say a word."""
        self._signal(server, signal.SIGKILL)
        assert server.process is not None
        server.process.wait()
        self._wait_for_orphans(server)

    def stop_hard(self, server: Server) -> None:
        """SIGQUIT to the postmaster: "immediate shutdown", which recovers at the next start."""
        self._end(server, signal.SIGQUIT)

    def suspend(self, server: Server) -> None:
        """All its processes stop where they are, as on a machine that hangs."""
        self._signal(server, signal.SIGSTOP)

    def resume(self, server: Server) -> None:
        self._signal(server, signal.SIGCONT)

    async def start(self, server: Server) -> None:
        """Start it on the data that it has, as what it was."""
        self._launch(server)
        await self._wait(server, lambda: self._answers(server), "start")

    async def promote(self, server: Server | None = None, *, fenced: bool = False) -> Server:
        """Make a standby the primary: the one that has received most, unless named; the others follow it.

        The old primary must be gone, or `fenced`: nobody reaches it, and it ends before anybody does.
        """
        assert fenced or not self.primary.is_running, "the old primary still runs"
        alive = [each for each in self.standbys if each.is_running]
        for each in alive:
            await self._wait(each, lambda each=each: self._has_replayed(each), "all WAL to be replayed by")
        if server is None:
            replayed = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint"
            reached = {each.name: await self.ask(each, replayed) for each in alive}
            server = max(alive, key=lambda each: reached[each.name])
        await asyncio.to_thread(self._run, server, "pg_ctl", "promote", "-w", "-D", server.data)
        self.primary = server
        await self._make_slots()
        for each in alive:
            if each is not server:
                self._follow(each)
                await self.configure(each)
        return server

    async def rejoin(self, server: Server) -> None:
        """Make a server that lies down a standby of the primary there is, from a fresh base backup.

        What it had and nobody else has is gone with its data: that was never acknowledged to anyone.
        """
        assert not server.is_running and server is not self.primary
        shutil.rmtree(server.data, ignore_errors=True)
        await asyncio.to_thread(self._copy, server)
        await self.start(server)

    async def caught_up(self, servers: Collection[Server] | None = None) -> None:
        """Until these standbys stream from the primary and have all that it has written."""
        wanted = {each.name for each in (self.standbys if servers is None else servers)}
        query = (
            "SELECT coalesce(array_agg(application_name), '{}') FROM pg_stat_replication"
            " WHERE state = 'streaming' AND flush_lsn >= pg_current_wal_flush_lsn()"
        )

        async def caught_up() -> bool:
            return wanted <= set(await self.ask(self.primary, query))

        await self._wait(self.primary, caught_up, f"{sorted(wanted)} to stream from")

    def stop(self) -> None:
        """End all of it. Safe to call twice."""
        for server in self.all:
            if server.process is not None:
                self._signal(server, signal.SIGKILL)
                server.process.wait()
                self._wait_for_orphans(server)
        self.all.clear()

    # --- inner

    async def _create(self) -> None:
        places = self.hosts or [("127.0.0.1", ())] * self.count
        for number, (host, prefix) in enumerate(places, 1):
            # In a network of its own any port is free; where all share one, the kernel chooses.
            port = 5432 if prefix else _free_port(host)
            self.all.append(Server(f"db{number}", self.folder / f"db{number}", host, port, tuple(prefix)))
        self.primary = first = self.all[0]
        given = self.folder / "password"
        given.touch(0o600)
        given.write_text(self.password)
        self.binaries.own(given)
        options = ("--auth=scram-sha-256", f"--pwfile={given}", "--no-sync", "--locale=C", "--encoding=UTF8")
        await asyncio.to_thread(self._run, first, "initdb", "-D", first.data, "-U", ADMIN, *options)
        given.unlink()
        with (first.data / "postgresql.conf").open("a") as configuration:
            configuration.write(_SETTINGS)
        with (first.data / "pg_hba.conf").open("a") as access:
            access.write("host all all samenet scram-sha-256\nhost replication all samenet scram-sha-256\n")
        self._address(first)
        self._launch(first)
        await self._wait(first, lambda: self._answers(first), "start")
        admin = await self.connect(first, ADMIN)
        await admin.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{self.password}'")
        await admin.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        await admin.close()
        await self._make_slots()
        for standby in self.standbys:
            await asyncio.to_thread(self._copy, standby)
            await self.start(standby)
        await self.caught_up()
        if self.standbys:
            # Only now: before there is a standby nobody could commit.
            names = ", ".join(server.name for server in self.all)
            for server in self.all:
                await self.configure(server, synchronous_standby_names=f"ANY 1 ({names})")

    async def configure(self, server: Server, **settings: str) -> None:
        """Give it other settings while it runs."""
        self._write(server, **settings)
        await self.ask(server, "SELECT pg_reload_conf()")

    @staticmethod
    def _write(server: Server, **settings: str) -> None:
        """The last line for a setting counts."""
        with (server.data / "postgresql.auto.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _address(self, server: Server) -> None:
        """What differs from server to server."""
        self._write(server, listen_addresses=server.host, port=str(server.port))

    def _copy(self, server: Server) -> None:
        """A base backup of the primary, to be its standby."""
        primary = self.primary
        self._run(
            server,
            "pg_basebackup",
            *("-h", primary.host, "-p", str(primary.port), "-U", ADMIN, "-D", server.data),
            *("--checkpoint=fast", "--wal-method=stream", "--no-sync"),
            secret=self.password,
        )
        self._address(server)
        self._follow(server)
        standby = server.data / "standby.signal"
        standby.touch()
        self.binaries.own(standby)

    def _follow(self, server: Server) -> None:
        """Have a standby stream from the primary there is."""
        primary = self.primary
        secret = self.folder / f"{server.name}.pgpass"
        secret.touch(0o600)
        secret.write_text(f"*:*:*:{ADMIN}:{self.password}\n")
        self.binaries.own(secret)
        connection = (
            f"host={primary.host} port={primary.port} user={ADMIN} passfile={secret}"
            f" application_name={server.name} connect_timeout=3"
        )
        self._write(server, primary_conninfo=connection, primary_slot_name=server.name)

    async def _make_slots(self) -> None:
        """A slot for each of the others: what it has not received stays where it can be had."""
        for standby in self.standbys:
            await self.ask(
                self.primary,
                "SELECT pg_create_physical_replication_slot($1, true)"
                " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)",
                standby.name,
            )

    def _command(self, server: Server, name: str) -> list[str]:
        """One of PostgreSQL's programs, in the network of a server and as the user who may run it."""
        user = self.binaries.user
        drop = [] if user is None else ["setpriv", f"--reuid={user}", "--clear-groups", "--"]
        under = server.under if name == "postgres" else ()
        return [*server.prefix, *drop, *under, str(self.binaries.folder / name)]

    def _run(self, server: Server, name: str, *arguments: str | Path, secret: str = "") -> None:
        """Raises ServersError. A password goes through the environment."""
        done = subprocess.run(
            [*self._command(server, name), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "PGPASSWORD": secret},
        )
        if done.returncode != 0:
            raise ServersError(f"{name}: {done.stderr.strip() or done.stdout.strip()}")

    def _launch(self, server: Server) -> None:
        assert not server.is_running
        (server.data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        with server.log.open("ab") as log:
            server.process = subprocess.Popen(
                [*self._command(server, "postgres"), "-D", str(server.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                start_new_session=True,
            )

    async def _answers(self, server: Server) -> bool:
        if not server.is_running:
            raise ServersError(f"{server.name} ended: {_tail(server.log)}")
        try:
            await self.ask(server, "SELECT 1", database=ADMIN)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    async def _has_replayed(self, server: Server) -> bool:
        """Whether it waits for more than it has, which without a primary never comes."""
        waits = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'"
        return await self.ask(server, waits) in ("RecoveryRetrieveRetryInterval", "RecoveryWalStream")

    async def _wait(self, server: Server, condition: Any, what: str) -> None:
        until = time.monotonic() + WITHIN
        while not await condition():
            if time.monotonic() > until:
                raise ServersError(f"waited {WITHIN:g} s for {what} {server.name}: {_tail(server.log)}")
            await asyncio.sleep(POLL)

    def _end(self, server: Server, number: signal.Signals) -> None:
        assert server.process is not None
        server.process.send_signal(number)
        server.process.wait(WITHIN)
        self._wait_for_orphans(server)

    def _signal(self, server: Server, number: signal.Signals) -> None:
        for pid in self._processes(server):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    @staticmethod
    def _processes(server: Server) -> list[int]:
        """The postmaster first. Each backend has its data folder as its working directory."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == server.data:
                    found.append(int(entry.name))
        return sorted(found)

    def _wait_for_orphans(self, server: Server) -> None:
        until = time.monotonic() + WITHIN
        while self._processes(server):
            if time.monotonic() > until:
                raise ServersError(f"processes of {server.name} do not end")
            time.sleep(POLL)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:] if log.exists() else "no log"
