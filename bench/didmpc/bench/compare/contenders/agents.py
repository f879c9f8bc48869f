"""didmpc: agents, and mediators on public servers, through the public command only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from didmpc.bench.cluster import NAMES, Cluster, ClusterError, Running
from didmpc.bench.compare.contender import Connection, Contender
from didmpc.bench.compare.hosts import Host, HostError, Network, StepKind
from didmpc.bench.compare.programs import Work

ORDER = 30
PORT = 443
# No entries in anybody's key ring: what is kept here goes with the folder.
_VARIABLES = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}


@dataclass(slots=True)
class Recorded(Cluster):
    """A cluster whose set-up is kept as evidence of the host that each command runs on."""

    hosts: dict[str, Host] = field(default_factory=dict)
    """By the name of the home there."""
    setting_up: bool = True

    def start_command(
        self, home: Path, arguments: Sequence[str | Path], *, name: str, prefix: Sequence[str] = ()
    ) -> Running:
        host = self.hosts[home.name]
        variables = _VARIABLES | {"DIDMPC_HOME": str(host.home(home)), "HOME": str(host.folder)}
        running = host.start(host.python.with_name("didmpc"), *arguments, environment=variables)
        self._running.append(running)
        if self.setting_up:
            kind = StepKind.DAEMON if "start" in arguments else StepKind.COMMAND
            host.note(kind, ["didmpc", *(_shown(argument) for argument in arguments)])
        return running


def _shown(argument: str | Path) -> str:
    """An invitation is a long link; whoever passes it on pastes it."""
    text = str(argument)
    return "INVITATION" if "_oob=" in text else text


@dataclass(slots=True)
class Sessions(Connection):
    """Programs run by `didmpc run` and `didmpc join`."""

    cluster: Cluster
    host: Host
    """Of the party who runs what the others join."""
    flags: tuple[str, ...]

    def start(self, work: Work) -> list[Running]:
        program = self.host.stage(work.program.parent) / work.program.name
        return self.cluster.begin(program, *self.flags, arguments=work.arguments)

    def output(self, finished: Running) -> str:
        text = finished.stdout
        line = finished.first_line() if "\n" in text else {}
        return str(line.get("output", text))


class Didmpc(Contender):
    """Agents that reach nothing but mediators."""

    on_loopback = True
    relayed = True
    python = ("mpyc", "didmpc")
    reference = "docs/user-guide.md"

    def __init__(self, name: str, title: str, *, mediators: int, flags: tuple[str, ...] = ()) -> None:
        self.name, self.title = name, title
        self._mediators, self._flags = mediators, flags
        self.servers = mediators

    @contextmanager
    def connect(self, network: Network) -> Iterator[Sessions]:
        names = NAMES[: len(network.parties)]
        folder = network.vps.folder / self.name
        servers = network.servers[: self._mediators]
        known = {
            **{name.lower(): host for host, name in zip(network.parties, names, strict=True)},
            **{f"mediator-{number + 1}": host for number, host in enumerate(servers)},
        }
        # What one party has not got is said by all: they run and join with the same flags.
        sandboxed = None if network.is_near else all(host.is_sandboxed() for host in network.parties)
        with Recorded(
            folder, names, mediator_count=self._mediators, hosts=known, sandboxed=sandboxed
        ) as cluster:
            try:
                for number, server in enumerate(servers):
                    address = ("--host", server.address) if network.separate else ()
                    cluster.start_mediator(
                        f"mediator-{number + 1}",
                        *address,
                        port=network.port(PORT) if network.separate else 0,
                    )
                for mediator, server in zip(cluster.mediators, servers, strict=True):
                    mediator.ready()
                    server.give(network.parties, "the mediator's invitation (a link)")
                cluster.start_agents()
                cluster.introduce()
                for guest in network.parties[1:]:
                    network.parties[0].give([guest], "an invitation (a link)")
            except ClusterError as error:
                raise HostError(f"{self.title} could not be set up.", why=str(error)) from None
            cluster.setting_up = False
            yield Sessions(cluster, network.parties[0], self._flags)


CONTENDERS = (
    Didmpc("didmpc", "didmpc, session, one mediator", mediators=1),
    Didmpc("didmpc-two", "didmpc, session, two mediators", mediators=2),
    Didmpc("didmpc-didcomm", "didmpc, DIDComm messages", mediators=1, flags=("--mode", "didcomm")),
)
