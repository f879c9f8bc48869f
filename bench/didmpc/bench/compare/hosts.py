"""What a contender sees of the machines that it connects; what it does there is kept as evidence."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from didmpc.bench.cluster import Running
from didmpc.protocols.errors import DidmpcError

POLL = 0.02
READY_WITHIN = 30.0
COMMAND_WITHIN = 60.0
_LISTENS = "0A"


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


@dataclass(slots=True)
class Host:
    """One machine: a network namespace, or this machine under one of several names."""

    name: str
    address: str
    """Where others reach it, if they can: with NAT, the address of its gateway."""
    folder: Path
    prefix: tuple[str, ...] = ()
    """What makes a command run there."""
    netns: Path | None = None
    steps: list[Step] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    # --- set-up, kept as evidence

    def run(self, *command: str | Path, within: float = COMMAND_WITHIN) -> str:
        """A command that must succeed; returns its stdout."""
        self.note(StepKind.COMMAND, command)
        return self.quietly(*command, within=within)

    def daemon(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> Running:
        """A process that runs until the contender is taken down."""
        self.note(StepKind.DAEMON, command)
        return self.start(*command, environment=environment)

    def write(self, name: str, text: str, *, secret: bool = False) -> Path:
        """A configuration file; of a secret one only the length is kept."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
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
        self.steps.append(Step(self.name, kind, text.replace(f"{self.folder}/", ""), lines))

    # --- anything else

    def quietly(self, *command: str | Path, within: float = COMMAND_WITHIN) -> str:
        """A command of the bench itself."""
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
            raise HostError(
                f"{' '.join(map(str, command))} failed on {self.name} with status {done.returncode}.",
                why=(done.stderr.strip() or done.stdout.strip() or "It said nothing")[-1500:],
            )
        return done.stdout

    def start(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> Running:
        """A process of the bench itself, or a program of the parties."""
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        running = Running(
            [*self.prefix, *command],
            environment=_environment(environment),
            cwd=self.folder,
            logs=logs,
            name=f"{len(self.running):03d}-{Path(command[0]).name}",
        )
        self.running.append(running)
        return running

    def stop(self) -> None:
        """End all that was started here."""
        stop_all(self.running)
        self.running.clear()


def environment() -> dict[str, str]:
    """Nothing of the caller's own settings gets in."""
    return _environment(None)


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    kept["PATH"] = f"{kept.get('PATH', '')}:/usr/sbin:/sbin"
    return kept | dict(more or {})


def stop_all(running: Sequence[Running], *, patience: float = 3.0) -> None:
    """Politely, then for certain; with all that they started, as far as it is in their process group."""
    for each in running:
        each.send(signal.SIGTERM)
    until = time.monotonic() + patience
    while time.monotonic() < until and any(each.process.poll() is None for each in running):
        time.sleep(POLL)
    for each in running:
        if each.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
            each.process.wait()


def wait_until(condition: Callable[[], bool], what: str, *, within: float = READY_WITHIN) -> None:
    """Raises HostError that says `what` did not happen."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            raise HostError(f"{what} did not happen within {within:g} s.")
        time.sleep(POLL)


def listens(running: Running, port: int, *, udp: bool = False) -> bool:
    """Whether a port is listened on in the network of this process. Raises HostError if it ended."""
    if (status := running.process.poll()) is not None:
        raise HostError(
            f"{running.command} ended with status {status}.",
            why=(running.stderr + running.stdout).strip()[-1500:] or "It said nothing.",
        )
    return listening(running.pid, port, udp=udp)


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
    def hosts(self) -> list[Host]:
        return [*self.parties, *self.servers]

    @property
    def vps(self) -> Host:
        """The public server that most contenders need."""
        return self.servers[0]

    def port(self, preferred: int) -> int:
        """A port to listen on: where hosts are separate, the one that is preferred."""
        return preferred if self.separate else free_port()

    def stop(self) -> None:
        """End all processes on all hosts, and forget what was done there."""
        stop_all([running for host in self.hosts for running in host.running])
        for host in self.hosts:
            host.running.clear()
            host.steps.clear()


def free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def loopback(folder: Path, parties: int, servers: int = 2) -> Network:
    """All hosts are this machine; whatever needs a network of its own cannot take part."""

    def host(name: str) -> Host:
        return Host(name, "127.0.0.1", folder / name)

    return Network(
        "loopback",
        [host(f"party{number}") for number in range(parties)],
        [host(f"vps{number or ''}") for number in range(servers)],
        separate=False,
    )


PYTHON = Path(sys.executable)
