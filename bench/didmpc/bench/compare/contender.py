"""What a way to connect MPC parties has to offer to be compared: `Contender`."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from didmpc.bench.cluster import Running
from didmpc.bench.compare import software
from didmpc.bench.compare.hosts import Network, missing, wait_until
from didmpc.bench.compare.programs import Work

MPYC_PORT = 11365
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Requirement:
    """A command (or a file, by its path) that must be there, and the Debian package that brings it."""

    command: str
    package: str

    def is_met(self) -> bool:
        """On this machine."""
        return not missing([self.command])


class Connection(ABC):
    """Parties that are connected: programs can be run."""

    @abstractmethod
    def start(self, work: Work) -> list[Running]:
        """Start it at each party, in the order of their numbers."""

    @abstractmethod
    def output(self, finished: Running) -> str:
        """What the program printed at one party."""


@dataclass(slots=True)
class Addresses(Connection):
    """MPyC's own TCP connections. `views[i][j]`: where party i reaches party j, or listens if i = j."""

    network: Network
    views: Sequence[Sequence[Address]]
    flags: tuple[str, ...] = ()
    accepts_early: bool = False
    """Something in between accepts connections before the party behind it does.

    MPyC never tries again what was accepted and then lost, so its parties must then be started one after the
    other: who is dialed before who dials.
    """

    def start(self, work: Work) -> list[Running]:
        running: dict[int, Running] = {}
        count = len(self.network.parties)
        for number in reversed(range(count)):
            host, view = self.network.parties[number], self.views[number]
            program = host.stage(work.program.parent) / work.program.name
            if work.data:  # programs look for it where they are started
                host.quietly("ln", "-sfn", program.parent / "data", "data")
            parties = [part for address, port in view for part in ("-P", f"{address}:{port}")]
            running[number] = one = host.start(
                host.python, program, *parties, "-I", str(number), "--no-log", *self.flags, *work.arguments
            )
            if self.accepts_early and number:
                port = view[number][1]
                wait_until(partial(host.listens, one, port), f"{host.name} listening on {port}")
        return [running[number] for number in range(count)]

    def output(self, finished: Running) -> str:
        return finished.stdout


class Contender(ABC):
    """A way to connect MPC parties. Set up and taken down by `connect`, with real software."""

    name: str
    title: str
    requires: tuple[Requirement, ...] = ()
    on_loopback: bool = False
    """Whether it can be tried with all hosts on one network, without root."""
    relayed: bool = False
    """Whether what the parties send passes through a server (so that a raw relay is what to compare with)."""
    python: tuple[str, ...] = ("mpyc",)
    """Python packages that do the work."""
    servers: int = 1
    """Public ones that it needs."""
    reference: str = ""
    """Where it is described."""

    @abstractmethod
    def connect(self, network: Network) -> AbstractContextManager[Connection]:
        """Connect the parties; all processes are ended by whoever owns the network. Raises HostError."""

    def missing(self) -> list[Requirement]:
        return [each for each in self.requires if not each.is_met()]

    def versions(self) -> dict[str, str]:
        """Of all packages that it consists of."""
        return software.python(self.python) | software.debian(each.package for each in self.requires)

    def reason_to_skip(self, network: Network) -> str | None:
        """Why it cannot take part here, with what to do about it."""
        commands = [each.command for each in self.requires]
        lacking = {host.name: host.missing(commands) for host in network.hosts}
        if absent := [command for command in commands if any(command in each for each in lacking.values())]:
            packages = " ".join(sorted({each.package for each in self.requires if each.command in absent}))
            hosts = ", ".join(name for name, each in lacking.items() if each)
            where = "" if network.is_near else f" on {hosts}"
            return f"{', '.join(absent)} not installed{where}; on Debian: apt install {packages}"
        if len(network.servers) < self.servers:
            return f"needs {self.servers} servers"
        if self.on_loopback:
            return None
        if not network.separate:
            return "needs hosts with networks of their own: run as root, without --profile loopback"
        if not all(host.is_root for host in network.hosts):
            return "needs root on every host"
        return None


def contenders() -> dict[str, Contender]:
    """All of them by name, in the order of comparison: each module of `contenders` has one or several."""
    from didmpc.bench.compare import contenders as package  # noqa: PLC0415  (its modules import this one)

    found: list[tuple[int, str, Contender]] = []
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        found += [(module.ORDER, each.name, each) for each in module.CONTENDERS]
    return {name: each for _, name, each in sorted(found, key=lambda entry: entry[:2])}
