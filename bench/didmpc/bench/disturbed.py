"""A cluster whose network, mediators and machines fail at will: for the fault tests and the soak."""

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from didmpc.bench.cluster import Cluster, Mediator, Party
from didmpc.bench.processes import inodes_of_ports, socket_inodes
from didmpc.bench.proxy import Proxy


@dataclass
class DisturbedCluster(Cluster):
    """Every connection to a mediator goes through the `Proxy` of the same number."""

    proxies: list[Proxy] = field(default_factory=list)
    _proxies: ExitStack = field(default_factory=ExitStack)
    _clients: Mapping[int, str] = field(default_factory=dict)
    """The processes of the parties, as of when they were last looked for."""

    def start_mediators(self, *flags: str) -> None:
        for number in range(self.mediator_count):
            proxy = self._proxies.enter_context(Proxy(self._owners))
            self.proxies.append(proxy)
            self.start_mediator(f"mediator-{number + 1}", "--public-url", proxy.url, *flags)
        for mediator, proxy in zip(self.mediators, self.proxies, strict=True):
            mediator.ready()
            proxy.target = mediator.port

    def stop(self) -> None:
        for proxy in self.proxies:
            proxy.heal()
        super().stop()
        self._proxies.close()
        self.proxies.clear()

    def _owners(self, ports: Iterable[int]) -> dict[int, str]:
        """Whose processes connect from there."""
        inodes = inodes_of_ports(ports)
        found = self._owners_among(self._clients, inodes)
        if len(found) < len(inodes):  # a process that we do not know yet
            self._clients = {pid: party.name for party in self.parties for pid in self.processes(party.home)}
            found = self._owners_among(self._clients, inodes)
        return found

    @staticmethod
    def _owners_among(clients: Mapping[int, str], inodes: Mapping[str, int]) -> dict[int, str]:
        return {
            inodes[inode]: name
            for pid, name in clients.items()
            for inode in inodes.keys() & (socket_inodes(pid) if inodes else set())
        }

    # --- faults; the network's are those of the proxies

    def kill_mediator(self, number: int) -> None:
        """`kill -9`."""
        self.mediators[number].process.kill()

    def restart_mediator(self, number: int) -> Mediator:
        """On the same store, at once ready; on any port, for all reach it through its proxy."""
        mediator = self.mediators[number]
        mediator.process = self.start_command(
            mediator.home, ["mediator", "start", "--json", "--port", "0"], name=mediator.name
        )
        mediator.ready()
        self.proxies[number].target = mediator.port
        return mediator

    def suspend(self, party: Party) -> list[int]:
        """Stop all processes of a party, as a machine that sleeps does; returns their ids."""
        return self._signal(party, signal.SIGSTOP)

    def resume(self, party: Party) -> None:
        self._signal(party, signal.SIGCONT)

    def kill(self, party: Party) -> None:
        """All of a party at once, as when its machine burns."""
        self._signal(party, signal.SIGKILL)

    def _signal(self, party: Party, number: signal.Signals) -> list[int]:
        pids = self.processes(party.home)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids
