"""What a contender sees of the machines that it connects; what it does there is kept as evidence."""

import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from didmpc.bench.cluster import Running, Started
from didmpc.bench.compare import cpu
from didmpc.protocols.errors import DidmpcError

POLL = 0.02
READY_WITHIN = 30.0
COMMAND_WITHIN = 60.0
_LISTENS = "0A"
_UNPRIVILEGED, _INSTEAD = 1024, 8000
_OURS = (15000, 32000)
"""Below those that Linux gives to connections, and to whoever listens on port 0."""
_given: set[int] = set()
PYTHON = Path(sys.executable)


class HostError(DidmpcError):
    """A command on a test host failed or took too long."""


class StepKind(StrEnum):
    """What people do to get connected."""

    COMMAND = "command"
    DAEMON = "daemon"
    CONFIGURATION = "configuration"
    EXCHANGE = "exchange"
    """Something passed from one party to others on a way that they trust."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done on one host."""

    host: str
    kind: StepKind
    text: str
    lines: int = 1


class Host(ABC):
    """One machine that takes part: its files lie below `folder`, and all that is done there is kept."""

    python: Path
    """Of an environment that didmpc is installed in."""
    user: str
    is_root: bool
    is_near: bool
    """Whether its files and processes are those of this machine."""
    prefix: tuple[str, ...] = ()
    """What makes a command of this machine run there."""
    netns: Path | None = None

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name = name
        self.address = address
        """Where others reach it, if they can: with NAT, the address of its gateway."""
        self.folder = folder
        self.steps: list[Step] = []
        self.running: list[Running] = []

    # --- set-up, kept as evidence

    def run(self, *command: str | Path, within: float = COMMAND_WITHIN, undo: Sequence[str] = ()) -> str:
        """A command that must succeed; returns its stdout. `undo` takes back what outlasts its process."""
        self.note(StepKind.COMMAND, command)
        if undo:
            self.undo_later(undo)
        return self.quietly(*command, within=within)

    def daemon(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> Running:
        """A process that runs until the contender is taken down."""
        self.note(StepKind.DAEMON, command)
        return self.start(*command, environment=environment)

    def write(self, name: str, text: str, *, secret: bool = False) -> Path:
        """A configuration file; of a secret one only the length is kept."""
        path = self.put(name, text.encode())
        lines = [line for line in text.splitlines() if line.strip()]
        shown = f"{name}: ({len(lines)} lines)" if secret else f"{name}:\n{text}"
        self._add(StepKind.CONFIGURATION, shown, len(lines))
        return path

    def give(self, others: Sequence["Host"], what: str) -> None:
        """Say that something passes to others over a channel that both trust, such as a public key."""
        for other in others:
            self._add(StepKind.EXCHANGE, f"to {other.name}: {what}", 1)

    def note(self, kind: StepKind, command: Sequence[str | Path]) -> None:
        """A command that something else runs for us."""
        self._add(kind, " ".join(str(part) for part in command), 1)

    def _add(self, kind: StepKind, text: str, lines: int) -> None:
        # Folders differ from run to run, and are not what anybody would type.
        shown = text.replace(f"{self.folder}/", "").replace(f"{self.python.parent}/", "")
        self.steps.append(Step(self.name, kind, shown, lines))

    # --- files

    @abstractmethod
    def put(self, name: str, data: bytes) -> Path:
        """A file of that name below `folder`, for its owner only."""

    @abstractmethod
    def get(self, name: str) -> bytes:
        """What is in a file below `folder`. Raises HostError."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a file below `folder`."""

    @abstractmethod
    def stage(self, folder: Path) -> Path:
        """Where programs of the bench lie that `folder` of this machine holds."""

    @abstractmethod
    def home(self, path: Path) -> Path:
        """Where on this host the home is kept that would be `path` on this machine."""

    def text(self, name: str) -> str:
        """What is in a file of text below `folder`. Raises HostError."""
        return self.get(name).decode(errors="replace").strip()

    def pass_to(self, other: "Host", name: str, new_name: str = "") -> None:
        """Copy a file; `give` says that somebody had to."""
        other.put(new_name or name, self.get(name))

    # --- anything else

    @abstractmethod
    def quietly(self, *command: str | Path, within: float = COMMAND_WITHIN) -> str:
        """A command of the bench itself, as `run`."""

    @abstractmethod
    def start(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> Running:
        """A process of the bench itself, or a program of the parties."""

    @abstractmethod
    def listens(self, running: Running, port: int, *, udp: bool = False) -> bool:
        """Whether a port is listened on in the network of this process. Raises HostError if it ended."""

    @abstractmethod
    def undo_later(self, command: Sequence[str]) -> None:
        """Run this when all that was done here is taken back."""

    @abstractmethod
    def missing(self, commands: Sequence[str]) -> list[str]:
        """Which of these commands, or files by their path, are not there."""

    @abstractmethod
    def free_port(self) -> int:
        """A TCP port that nothing listens on."""

    @abstractmethod
    def is_sandboxed(self) -> bool | None:
        """Whether there is a sandbox for programs; None: as on this machine."""

    @abstractmethod
    def stop(self) -> None:
        """End all that was started here."""

    def raise_if_ended(self, running: Running) -> None:
        """Raises HostError."""
        if (status := running.poll()) is not None:
            raise HostError(
                f"{running.command} ended with status {status}.",
                why=(running.stderr + running.stdout).strip()[-1500:] or "It said nothing.",
            )

    def failed(self, command: Sequence[str | Path], status: int, words: str) -> HostError:
        """What to raise of a command that failed."""
        return HostError(
            f"{' '.join(map(str, command))} failed on {self.name} with status {status}.",
            why=(words.strip() or "It said nothing")[-1500:],
        )


class NearHost(Host):
    """A network namespace, or this machine under one of several names."""

    python = PYTHON
    is_near = True

    def __init__(
        self,
        name: str,
        address: str,
        folder: Path,
        *,
        prefix: tuple[str, ...] = (),
        netns: Path | None = None,
    ) -> None:
        super().__init__(name, address, folder)
        self.prefix, self.netns = prefix, netns
        self.user, self.is_root = getpass.getuser(), os.geteuid() == 0
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        return path

    def get(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise HostError(f"{name} on {self.name} cannot be read.", why=f"{error.strerror}.") from None

    def exists(self, name: str) -> bool:
        return (self.folder / name).exists()

    def stage(self, folder: Path) -> Path:
        return folder

    def home(self, path: Path) -> Path:
        return path

    def quietly(self, *command: str | Path, within: float = COMMAND_WITHIN) -> str:
        try:
            done = subprocess.run(
                [*self.prefix, *map(str, command)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=within,
                check=False,
                env=environment(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HostError(f"{command[0]} on {self.name} did not work.", why=f"{error}.") from None
        if done.returncode != 0:
            raise self.failed(command, done.returncode, done.stderr.strip() or done.stdout)
        return done.stdout

    def start(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> Running:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        running = Started(
            [*self.prefix, *command],
            environment=_environment(environment),
            cwd=self.folder,
            logs=logs,
            name=f"{len(self.running):03d}-{Path(command[0]).name}",
        )
        self.running.append(running)
        return running

    def listens(self, running: Running, port: int, *, udp: bool = False) -> bool:
        self.raise_if_ended(running)
        return listening(running.pid, port, udp=udp)

    def undo_later(self, command: Sequence[str]) -> None:
        """Nothing: it goes with the network namespace."""

    def missing(self, commands: Sequence[str]) -> list[str]:
        return missing(commands)

    def free_port(self) -> int:
        return free_port()

    def is_sandboxed(self) -> bool | None:
        return None

    def stop(self) -> None:
        stop_all(self.running)
        self.running.clear()


def environment() -> dict[str, str]:
    """Nothing of the caller's own settings gets in."""
    return _environment(None)


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    kept["PATH"] = f"{kept.get('PATH', '')}:/usr/sbin:/sbin"
    return kept | dict(more or {})


def find_command(name: str) -> Path | None:
    """Where a command of this machine is; those of administrators are found too."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/lib/ipsec")
    return Path(found) if found else None


def missing(commands: Sequence[str]) -> list[str]:
    """Which of these commands, or files by their path, this machine has not got."""

    def is_there(command: str) -> bool:
        return Path(command).exists() if command.startswith("/") else find_command(command) is not None

    return [command for command in commands if not is_there(command)]


def stop_all(running: Sequence[Running], *, patience: float = 3.0) -> None:
    """Politely, then for certain; with all that they started, as far as it is in their process group."""
    for each in running:
        each.send(signal.SIGTERM)
    until = time.monotonic() + patience
    while time.monotonic() < until and any(each.poll() is None for each in running):
        time.sleep(POLL)
    for each in running:
        each.kill()


def wait_until(condition: Callable[[], bool], what: str, *, within: float = READY_WITHIN) -> None:
    """Raises HostError that says `what` did not happen."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            raise HostError(f"{what} did not happen within {within:g} s.")
        time.sleep(POLL)


def listening(pid: int, port: int, *, udp: bool = False) -> bool:
    """Whether anything in the network of process `pid` listens on a port."""
    kind = "udp" if udp else "tcp"
    for table in (kind, f"{kind}6"):
        with suppress(OSError):
            for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                columns = row.split()
                if int(columns[1].rpartition(":")[2], 16) == port and (udp or columns[3] == _LISTENS):
                    return True
    return False


def shows(host: Host, word: str, *command: str) -> bool:
    """Whether the output of a command on a host holds a word."""
    return word in host.quietly(*command)


@dataclass(slots=True)
class Network:
    """The machines that take part in a comparison."""

    name: str
    parties: list[Host]
    servers: list[Host]
    """Public ones, that anybody can reach: a relay, a lighthouse, a mediator."""
    separate: bool
    """Whether each host is a network of its own; else all are this machine."""

    @property
    def is_near(self) -> bool:
        """Whether its hosts are this machine, or namespaces of it."""
        return all(host.is_near for host in self.hosts)

    @property
    def hosts(self) -> list[Host]:
        return [*self.parties, *self.servers]

    @property
    def vps(self) -> Host:
        """The public server that most contenders need."""
        return self.servers[0]

    def port(self, preferred: int) -> int:
        """A port to listen on: where hosts are separate, the one that is preferred, or what is like it."""
        if not self.separate:
            return self.vps.free_port()
        privileged = preferred < _UNPRIVILEGED and not all(host.is_root for host in self.hosts)
        return preferred + _INSTEAD if privileged else preferred

    def cpu_seconds(self, *, without: frozenset[int] = frozenset()) -> float:
        """Of everything that was started so far, but the processes `without` and what is below them."""
        return cpu.seconds_below(os.getpid(), without=without)

    def processes(self) -> int:
        """How many there are of what was started, and of what these have started."""
        return cpu.processes_below(os.getpid())

    def stop(self) -> None:
        """End all processes on all hosts, and forget what was done there."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(lambda host: host.stop(), self.hosts))
        for host in self.hosts:
            host.steps.clear()


def free_port() -> int:
    """A TCP port of this machine that nothing listens on, each time another one, and none that the kernel
    gives to others meanwhile. Raises HostError.
    """
    for _ in range(1000):
        port = random.randrange(*_OURS)  # noqa: S311  (no secret)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
    raise HostError("No TCP port is free on this machine.", why=f"A thousand from {_OURS[0]} on were tried.")


def loopback(folder: Path, parties: int, servers: int = 2) -> Network:
    """All hosts are this machine; whatever needs a network of its own cannot take part."""

    def host(name: str) -> Host:
        return NearHost(name, "127.0.0.1", folder / name)

    return Network(
        "loopback",
        [host(f"party{number}") for number in range(parties)],
        [host(f"vps{number or ''}") for number in range(servers)],
        separate=False,
    )
