"""The processes of a measurement: the mediator under test, and the load generators beside it."""

import json
import logging
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from didmpc.bench.cluster import Cluster, ClusterError
from didmpc.protocols.errors import DidmpcError

Result = dict[str, Any]

log = logging.getLogger(__name__)

MOST_FILES = 65_536
LIMITS_OFF = ("--limits", "off")
"""All load comes from one address."""


class LoadFailed(DidmpcError):
    """A load generator ended with an error."""


class Load:
    """A job of a load generator: `ready` when prepared, then `go`, then `result`."""

    def __init__(self, generators: "Generators", name: str, options: Mapping[str, Any]) -> None:
        self._generators = generators
        self._name = name
        self._process = generators.take()
        self._tell(json.dumps({"job": name, **options}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Only one that has given its result is free for another job.
        self._generators.give_back(self._process, free=kind is None)

    @property
    def resident(self) -> int:
        """Bytes of memory that its process occupies."""
        return resident(self._process.pid)

    def ready(self) -> Result:
        """Wait until it is prepared (or, told to hold something, holds it), and what it says then."""
        return self.result()

    def go(self) -> None:
        self._tell("")

    def ask(self, **values: Any) -> Result:
        """Have it do something while it holds what it has prepared."""
        self._tell(json.dumps(values))
        return self.result()

    def result(self) -> Result:
        value: Result = json.loads(self._hear())
        return value

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        return line

    def _fail(self) -> None:
        assert self._process.stderr is not None
        said = self._process.stderr.read().strip()
        log.debug("%s", said)
        raise LoadFailed(f"The load generator {self._name} failed.", why=said.rpartition("\n")[2])


class Generators:
    """The load generators: processes that do one job after another. All end with the block."""

    def __init__(self, module: str = "didmpc.bench.mediator.load") -> None:
        self._module = module
        self.open_files = raise_open_files()
        """How many files each of them may open."""
        self._all: list[subprocess.Popen[str]] = []
        self._free: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._all:
            process.kill()
            process.communicate()

    def load(self, name: str, **options: Any) -> Load:
        return Load(self, name, options)

    def run(self, name: str, **options: Any) -> Result:
        """One job, from beginning to end."""
        with self.load(name, **options) as load:
            return run_all([load])[0]

    def take(self) -> "subprocess.Popen[str]":
        """One that has nothing to do."""
        if self._free:
            return self._free.pop()
        process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._all.append(process)
        return process

    def give_back(self, process: "subprocess.Popen[str]", *, free: bool) -> None:
        if free:
            self._free.append(process)
        else:
            process.kill()


def run_all(loads: Sequence[Load]) -> list[Result]:
    """Start loads at the same moment, once all are prepared, and wait for their results."""
    for load in loads:
        load.ready()
    for load in loads:
        load.go()
    return [load.result() for load in loads]


class MediatorFailed(DidmpcError):
    """There is no mediator to measure."""


@dataclass(frozen=True, slots=True)
class Host:
    """A mediator process of its own home, seen from outside."""

    pid: int
    did: str
    home: Path

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used, in user and system mode, all threads together."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident(self) -> int:
        """Bytes of memory it occupies."""
        return resident(self.pid)


@contextmanager
def mediator(directory: Path, name: str) -> Iterator[Host]:
    """`didmpc mediator start` in the home `name` of `directory`, stopped at the end of the block."""
    with Cluster(directory, names=(), mediator_count=0) as cluster:
        started = cluster.start_mediator(name, *LIMITS_OFF, "--log-level", "error")
        try:
            started.ready()
        except ClusterError as problem:
            raise MediatorFailed(
                "The mediator to be measured did not start.", why=str(problem).strip().rpartition("\n")[2]
            ) from None
        yield Host(started.process.pid, started.did, started.home)


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def raise_open_files() -> int:
    """Let this process and those it starts open as many files as the system allows; how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(soft, min(hard, MOST_FILES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
