"""The hosts of a fleet, connected."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from didmpc.bench.compare.contender import Contender
from didmpc.bench.compare.fleet.far import FarHost
from didmpc.bench.compare.fleet.plan import Fleet, Place
from didmpc.bench.compare.fleet.wire import Connections, raise_unless_possible
from didmpc.bench.compare.hosts import Host, HostError, Network

Json = dict[str, Any]
_ADDRESSES = ("ip", "-4", "-o", "address")


@dataclass(slots=True)
class FleetNetwork(Network):
    """A network whose hosts are elsewhere."""

    far: tuple[FarHost, ...] = ()

    def with_parties(self, count: int) -> "FleetNetwork":
        """The same servers, and the first `count` parties."""
        return replace(self, parties=self.parties[:count])

    def cpu_seconds(self, *, without: frozenset[int] = frozenset()) -> float:
        """Of everything that was started on any of the hosts so far."""
        del without
        with ThreadPoolExecutor(len(self.far)) as pool:
            return sum(pool.map(FarHost.cpu_seconds, self.far))

    def processes(self) -> int:
        """How many there are of these on all hosts."""
        with ThreadPoolExecutor(len(self.far)) as pool:
            return sum(pool.map(FarHost.processes, self.far))

    def about(self) -> list[Json]:
        """Each host's machine."""
        return [host.about() for host in self.far]

    def versions(self, contender: Contender) -> Json:
        """Of what a contender consists of, on the first host, and of others where they differ."""
        packages = [each.package for each in contender.requires]
        found: dict[str, str] = {}
        for host in self.far:
            for name, version in host.versions(contender.python, packages).items():
                known = found.setdefault(name, version)
                if version not in known.split(" / "):
                    found[name] = f"{known} / {version}"
        return found


@contextlib.contextmanager
def connected(fleet: Fleet, say: Callable[[str], None]) -> Iterator[FleetNetwork]:
    """All hosts, ready. Raises HostError and LocalMisuse; whatever was begun is taken back."""
    raise_unless_possible()
    if not fleet.known_hosts.is_file():
        raise HostError(
            f"There is no file {fleet.known_hosts}.",
            why="It would hold the host keys that are known, and no key is accepted unseen.",
            fix="Terraform's example in docs/fleet/ writes one; `known_hosts` of the file of hosts names it.",
        )
    with Connections() as connections, contextlib.ExitStack() as stack:

        def open_one(place: Place) -> FarHost:
            host = FarHost(connections, place, fleet.known_hosts)
            stack.callback(host.close)
            say(f"{fleet.name}: {place.name}, {place.user}@{place.ssh}")
            host.open()
            return host

        places = (*fleet.servers, *fleet.parties)
        hosts = [open_one(place) for place in places]
        one_machine = len({place.address for place in places}) == 1
        if not one_machine:
            _check_addresses(hosts)
        count = len(fleet.servers)
        servers: list[Host] = [*hosts[:count]]
        parties: list[Host] = [*hosts[count:]]
        yield FleetNetwork(fleet.name, parties, servers, separate=not one_machine, far=tuple(hosts))


def _check_addresses(hosts: list[FarHost]) -> None:
    """Servers listen at their address, and nobody can at that of a NAT in front."""
    for host in hosts:
        if f"inet {host.address}/" not in host.quietly(*_ADDRESSES):
            raise HostError(
                f"{host.address} is no address of {host.name}.",
                why="`address` is where other hosts reach it, and it must be able to listen there.",
                fix="Name one that `ip -4 address` shows there; `ssh` says where to reach it from here.",
            )
