"""What takes the load: a mediator alone on SQLite, or nodes on one PostgreSQL, started by public commands."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from didmpc.bench.cluster import Cluster, ClusterError
from didmpc.bench.mediator.host import LIMITS_OFF, MediatorFailed, resident
from didmpc.bench.nodes import cpu
from didmpc.bench.nodes.database import Database
from didmpc.mediator.host.home import KEYS_FILE


@dataclass(frozen=True, slots=True)
class Place:
    """Nodes of one mediator, or it alone."""

    did: str
    urls: tuple[str, ...]
    """Of each node, for HTTP."""
    pids: tuple[int, ...]
    database: Database | None

    @property
    def cpus(self) -> list[float]:
        """Seconds of CPU of each node."""
        return [cpu.running(pid) for pid in self.pids]

    @property
    def cpu(self) -> float:
        return sum(self.cpus)

    @property
    def database_cpu(self) -> float:
        found = self.database.cpu if self.database is not None else None
        return 0.0 if found is None else found

    def resident(self, node: int = 0) -> int:
        return resident(self.pids[node])


@contextmanager
def alone(directory: Path) -> Iterator[Place]:
    with _started(directory / "alone", 1, None) as place:
        yield place


@contextmanager
def nodes(directory: Path, count: int, database: Database) -> Iterator[Place]:
    with _started(directory / f"nodes-{count}", count, database) as place:
        yield place


@contextmanager
def _started(directory: Path, count: int, database: Database | None) -> Iterator[Place]:
    directory.mkdir()
    ports = _free_ports(count)
    store = ("--store", database.url) if database is not None else ()
    # All of them say the address of the first: clients that go by the DID alone find that one.
    flags = (*LIMITS_OFF, "--log-level", "error", "--public-url", f"http://127.0.0.1:{ports[0]}", *store)
    variables = database.environment if database is not None else {}
    with Cluster(directory, names=(), mediator_count=0, variables=variables) as cluster:
        try:
            for number, port in enumerate(ports):
                home = directory / f"node-{number + 1}"
                if number:
                    home.mkdir(mode=0o700)
                    shutil.copy(directory / "node-1" / KEYS_FILE, home / KEYS_FILE)
                cluster.start_mediator(home.name, *flags, port=port, home=home).ready()
        except ClusterError as problem:
            raise MediatorFailed(
                "What is to be measured did not start.", why=str(problem).strip().rpartition("\n")[2]
            ) from None
        yield Place(
            cluster.mediators[0].did,
            tuple(f"http://127.0.0.1:{port}" for port in ports),
            tuple(each.process.pid for each in cluster.mediators),
            database,
        )


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()
