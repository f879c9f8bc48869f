"""Mediators and agents as real processes on this machine, driven through the public `didmpc` command only.

What a person does in several terminals: start mediators and agents, pass invitations, run and join. The
demonstration and the end-to-end tests both stand on it. Of what the processes print only `--json` is read.
"""

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from didmpc.agent.sandbox.choice import choose

NAMES = (
    "Alice",
    "Bob",
    "Carol",
    "Dan",
    "Erin",
    "Frank",
    "Grace",
    "Heidi",
    "Ivan",
    "Judy",
    "Ken",
    "Laura",
    "Mia",
)
DIDMPC = Path(sys.executable).with_name("didmpc")

START_WITHIN = 20.0
COMMAND_WITHIN = 60.0
STOP_WITHIN = 5.0
POLL = 0.01


@cache
def _sandboxed() -> bool:
    """Whether this machine has a sandbox; where it has none, scripts must say that they know."""
    return bool(choose(Path.home() / ".didmpc"))


class ClusterError(Exception):
    """A command of the cluster failed or took too long; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    command: str
    status: int
    stdout: str
    stderr: str

    def json(self) -> dict[str, Any]:
        """The one JSON object that `--json` promises on stdout."""
        try:
            value = json.loads(self.stdout)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ClusterError(f"{self.command}: no JSON object on stdout.\n{self.stdout}\n{self.stderr}")
        return value


class Running(ABC):
    """A process that was started, on this machine or another one."""

    command: str

    @property
    @abstractmethod
    def pid(self) -> int: ...

    @property
    @abstractmethod
    def stdout(self) -> str:
        """What it has written so far."""

    @property
    @abstractmethod
    def stderr(self) -> str: ...

    @abstractmethod
    def poll(self) -> int | None:
        """Its status, once it has ended."""

    @abstractmethod
    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""

    @abstractmethod
    def kill(self) -> None:
        """`kill -9`, with all of its process group, unless it has ended; returns when it is gone."""

    def first_line(self, timeout: float = START_WITHIN) -> dict[str, Any]:
        """The line of JSON that says it is ready."""
        until = time.monotonic() + timeout
        while "\n" not in (text := self.stdout):
            if (status := self.poll()) is not None:
                raise ClusterError(f"{self.command} ended with status {status}.\n{self.stderr}")
            if time.monotonic() > until:
                raise ClusterError(f"{self.command} was not ready after {timeout:g} s.\n{self.stderr}")
            time.sleep(POLL)
        value: dict[str, Any] = json.loads(text.partition("\n")[0])
        if "error" in value:
            raise ClusterError(f"{self.command} failed.\n{self.stderr}")
        return value

    def wait(self, timeout: float = COMMAND_WITHIN) -> Finished:
        """Wait for its end, whatever its status. Raises `ClusterError` when it takes longer."""
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise ClusterError(
                    f"{self.command} took longer than {timeout:g} s.\n{self.stdout}\n{self.stderr}"
                )
            time.sleep(POLL)
        return Finished(self.command, status, self.stdout, self.stderr)

    def done(self, timeout: float = COMMAND_WITHIN) -> Finished:
        """Wait for its end, which must be a success."""
        finished = self.wait(timeout)
        if finished.status != 0:
            raise ClusterError(f"{self.command} ended with status {finished.status}.\n{finished.stderr}")
        return finished


class Started(Running):
    """A process of ours: its output goes to files, so that it never waits for a reader."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        logs: Path,
        name: str,
    ) -> None:
        self.command = " ".join(str(argument) for argument in arguments)
        self._stdout, self._stderr = logs / f"{name}.out", logs / f"{name}.err"
        with ExitStack() as files:
            self.process = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=files.enter_context(self._stdout.open("wb")),
                stderr=files.enter_context(self._stderr.open("wb")),
                env=dict(environment),
                cwd=cwd,
                # A group of its own: Ctrl-C is for whoever holds the cluster, which then stops all in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    def files(self) -> tuple[tuple[str, Path], ...]:
        """Where its output goes: each stream, and its file."""
        return (("stdout", self._stdout), ("stderr", self._stderr))

    def poll(self) -> int | None:
        return self.process.poll()

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:  # else its id may be that of a stranger by now
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()


@dataclass(slots=True)
class Party:
    """One home, and the commands that its owner types."""

    name: str
    home: Path
    cluster: "Cluster"
    mediator: int
    prefix: tuple[str, ...] = ()
    daemon: Running | None = None
    did: str = ""

    def start(self, *arguments: str | Path) -> Running:
        """A `didmpc` command in this home, not waited for."""
        return self.cluster.start_command(
            self.home, arguments, name=f"{self.name}-{arguments[0]}", prefix=self.prefix
        )

    def didmpc(self, *arguments: str | Path, timeout: float = COMMAND_WITHIN) -> Finished:
        """A `didmpc` command in this home, waited for; it must succeed."""
        return self.start(*arguments).done(timeout)

    def start_daemon(self, *flags: str | Path) -> Running:
        """`didmpc agent start`; afterwards `ready` waits for it."""
        mediator = self.cluster.mediators[self.mediator]
        self.daemon = self.start(
            "agent", "start", "--json", "--label", self.name, "--mediator", mediator.invitation, *flags
        )
        return self.daemon

    def ready(self, timeout: float = START_WITHIN) -> dict[str, Any]:
        """What the agent says once it is ready."""
        assert self.daemon is not None
        line = self.daemon.first_line(timeout)
        self.did = str(line["did"])
        return line


@dataclass(slots=True)
class Mediator:
    """One mediator and its home."""

    name: str
    home: Path
    process: Running
    did: str = ""
    invitation: str = ""
    url: str = ""
    port: int = 0
    """Where it listens, whatever its URL says."""

    def ready(self) -> None:
        line = self.process.first_line()
        self.did, self.invitation, self.url = str(line["did"]), str(line["invitation"]), str(line["url"])
        self.port = urlsplit(line["metrics"]).port or 0


@dataclass(slots=True)
class Cluster:
    """Use as a context manager: at its end every process that it started is gone."""

    directory: Path
    """All homes, logs and working directories lie below it."""
    names: Sequence[str] = NAMES[:3]
    mediator_count: int = 2
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for all processes."""
    sandboxed: bool | None = None
    """Whether programs have a sandbox; None: as on this machine."""
    mediators: list[Mediator] = field(default_factory=list)
    parties: list[Party] = field(default_factory=list)
    _running: list[Running] = field(default_factory=list)
    _count: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- starting

    def start(self) -> Self:
        """Mediators, agents on alternating mediators, and everybody a contact of the first."""
        self.start_mediators()
        self.start_agents()
        self.introduce()
        return self

    def start_mediators(self, *flags: str) -> None:
        for number in range(self.mediator_count):
            self.start_mediator(f"mediator-{number + 1}", *flags)
        for mediator in self.mediators:
            mediator.ready()

    def start_mediator(
        self, name: str, *flags: str, port: int = 0, prefix: Sequence[str] = (), home: Path | None = None
    ) -> Mediator:
        """Start one; its `ready` waits for it."""
        home = home or self.directory / name
        process = self.start_command(
            home, ["mediator", "start", "--json", "--port", str(port), *flags], name=name, prefix=prefix
        )
        mediator = Mediator(name, home, process)
        self.mediators.append(mediator)
        return mediator

    def start_agents(self, prefixes: Sequence[Sequence[str]] = (), flags: Sequence[str | Path] = ()) -> None:
        for number, name in enumerate(self.names):
            prefix = tuple(prefixes[number]) if prefixes else ()
            self.parties.append(
                Party(name, self.directory / name.lower(), self, number % self.mediator_count, prefix)
            )
        for party in self.parties:
            party.start_daemon(*flags)
        for party in self.parties:
            party.ready()

    def introduce(self) -> None:
        """The first invites each of the others; the URL is all that passes between them."""
        host, *guests = self.parties
        invitations = [host.start("invite", "--json") for _ in guests]
        urls = [str(invitation.done().json()["url"]) for invitation in invitations]
        accepted = [
            guest.start("accept", url, "--as", host.name) for guest, url in zip(guests, urls, strict=True)
        ]
        for each in accepted:
            each.done()

    def start_command(
        self, home: Path, arguments: Sequence[str | Path], *, name: str, prefix: Sequence[str] = ()
    ) -> Running:
        """Start `didmpc ARGUMENTS` with a home, an environment and log files of its own."""
        logs, cwd = self.directory / "logs", self.directory / "work"
        for folder in (logs, cwd):
            folder.mkdir(parents=True, exist_ok=True)
        self._count += 1
        running = Started(
            [*prefix, DIDMPC, *arguments],
            environment=self.environment(home),
            cwd=cwd,
            logs=logs,
            name=f"{self._count:03d}-{name}",
        )
        self._running.append(running)
        return running

    def environment(self, home: Path) -> dict[str, str]:
        """Nothing of the caller's own didmpc, MPyC or key ring gets in."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DIDMPC", "MPYC", "PYTHON", "XDG", "DBUS", "COVERAGE"))
        }
        # The wallets of the cluster are gone with its directory: no entries in the caller's key ring.
        keyring = "keyring.backends.fail.Keyring"
        return kept | {
            "DIDMPC_HOME": str(home),
            "HOME": str(self.directory),
            "PYTHON_KEYRING_BACKEND": keyring,
            **self.variables,
        }

    # --- computing

    def begin(
        self,
        program: Path,
        *flags: str | Path,
        inputs: Mapping[str, Path] | None = None,
        arguments: Sequence[str] = (),
        guests: Sequence[Party] | None = None,
        as_json: bool = True,
    ) -> list[Running]:
        """`run` of the first party and `join` of the others, not waited for; in the order of the parties."""
        host = self.parties[0]
        guests = self.parties[1:] if guests is None else guests
        inputs = inputs or {}
        sandboxed = _sandboxed() if self.sandboxed is None else self.sandboxed
        common = ["--yes", *(["--json"] if as_json else []), *([] if sandboxed else ["--no-sandbox"])]

        if len(self.parties) == 2:
            common.append("--no-privacy")

        def input_of(party: Party) -> list[str | Path]:
            return ["--input", inputs[party.name]] if party.name in inputs else []

        joined = [guest.start("join", "--from", host.name, *common, *input_of(guest)) for guest in guests]
        tail = ["--", *arguments] if arguments else []
        names = ",".join(party.name for party in self.parties[1:])
        run = host.start("run", program, "--with", names, *common, *flags, *input_of(host), *tail)
        return [run, *joined]

    def compute(
        self,
        program: Path,
        *flags: str | Path,
        inputs: Mapping[str, Path] | None = None,
        arguments: Sequence[str] = (),
        timeout: float = COMMAND_WITHIN,
    ) -> list[dict[str, Any]]:
        """A joint run that must succeed: what `--json` printed at each party."""
        running = self.begin(program, *flags, inputs=inputs, arguments=arguments)
        until = time.monotonic() + timeout
        return [each.done(max(0.1, until - time.monotonic())).json() for each in running]

    # --- stopping

    def stop(self) -> None:
        """End every process of this cluster: politely, then for certain. Safe to call twice."""
        mediators = [mediator.process for mediator in self.mediators]
        # The agents first: they take leave of their mediators.
        for wave in ([each for each in self._running if each not in mediators], mediators):
            for running in wave:
                running.send(signal.SIGCONT)  # a stopped process would not hear the next one
                running.send(signal.SIGTERM)
            until = time.monotonic() + STOP_WITHIN
            while time.monotonic() < until and any(each.poll() is None for each in wave):
                time.sleep(POLL)
        for running in self._running:
            running.kill()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._running.clear()

    def processes(self, home: Path | None = None) -> list[int]:
        """Every process of the cluster, or of one home in it: found by its environment or place."""
        pids = (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
        return [pid for pid in pids if pid != os.getpid() and self.belongs(pid, home or self.directory)]

    @staticmethod
    def belongs(pid: int, folder: Path) -> bool:
        """Whether a process works in this folder, or names it in its environment or arguments."""
        entry, marks = Path(f"/proc/{pid}"), (f"{folder}/".encode(), f"={folder}\0".encode())
        with suppress(OSError):
            place = os.readlink(entry / "cwd").encode() + b"/"
            said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes() + place
            return any(mark in said for mark in marks)
        return False
