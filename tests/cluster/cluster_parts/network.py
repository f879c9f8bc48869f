"""Nodes and servers on test hosts of their own, whose network can be cut between any two of them.

What is cut is dropped without a word, both ways, as by a broken switch or a firewall. Those who run the test
stand on the bridge between the hosts and reach all of them: they are the load balancer's side.
"""

import subprocess
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster_parts.faults import Faults
from cluster_parts.nodes import Node, Place
from didmpc.bench.compare.hosts import Host
from didmpc.bench.compare.lab import BRIDGE, lab

OUTSIDE = "198.18.0.250"
"""Where customers and the load balancer are."""


@dataclass(frozen=True)
class Network:
    """One host for each node and each server."""

    node_hosts: Sequence[Host]
    server_hosts: Sequence[Host]

    @property
    def places(self) -> list[Place]:
        return [Place(host.address, host.prefix) for host in self.node_hosts]

    @property
    def servers(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(host.address, host.prefix) for host in self.server_hosts]

    def host(self, address: str) -> Host:
        return next(each for each in (*self.node_hosts, *self.server_hosts) if each.address == address)

    def cut(self, address: str, others: Sequence[str]) -> None:
        """Let nothing through between one host and these others."""
        those = "{ " + ", ".join(others) + " }"
        rules = f"""
table inet cut {{
  chain in {{ type filter hook input priority 0; ip saddr {those} drop; }}
  chain out {{ type filter hook output priority 0; ip daddr {those} drop; }}
}}
"""
        self._nft(self.host(address), "-f", "-", rules=rules)

    def mend(self, address: str) -> None:
        self._nft(self.host(address), "delete", "table", "inet", "cut")

    @staticmethod
    def _nft(host: Host, *arguments: str, rules: str | None = None) -> None:
        subprocess.run([*host.prefix, "nft", *arguments], input=rules, text=True, check=True, timeout=10)


@contextmanager
def network(folder: Path, nodes: int = 3, servers: int = 3) -> Iterator[Network]:
    """Call it where `run_isolated` has made namespaces; all is gone afterwards."""
    with lab(folder, 0, servers=nodes + servers) as made:
        subprocess.run(["ip", "address", "add", f"{OUTSIDE}/24", "dev", BRIDGE], check=True, timeout=10)
        hosts = made.network.servers
        yield Network(hosts[:nodes], hosts[nodes:])


@dataclass
class NetworkFaults(Faults):
    """What else breaks where each has a network of its own."""

    network: Network = field(kw_only=True)

    @property
    def kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return super().kinds | self.partitions

    @property
    def partitions(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "cut-node-from-node": self.cut_node_from_node,
            "cut-node-from-all-nodes": self.cut_node_from_all_nodes,
            "cut-node-from-servers": self.cut_node_from_servers,
            "cut-primary-from-standbys": self.cut_primary_from_standbys,
            "cut-primary-off": self.cut_primary_off,
        }

    @property
    def _server_addresses(self) -> list[str]:
        return [server.host for server in self.servers.all]

    def _others(self, node: Node) -> list[str]:
        return [each.place.host for each in self.nodes.nodes if each is not node]

    @contextmanager
    def _cut(self, address: str, others: Sequence[str]) -> Iterator[None]:
        self._say("cut", host=address, others=list(others))
        self.network.cut(address, others)
        try:
            yield
        finally:
            self.network.mend(address)
            self._say("mend", host=address)

    async def cut_node_from_node(self) -> None:
        """Two nodes do not hear of each other; both reach the servers, and both serve."""
        one, other = self.chance.sample(self.nodes.nodes, 2)
        with self._cut(one.place.host, [other.place.host]):
            await self._serve_for(8, 25)

    async def cut_node_from_all_nodes(self) -> None:
        node = self.chance.choice(self.nodes.nodes)
        with self._cut(node.place.host, self._others(node)):
            await self._serve_for(8, 25)

    async def cut_node_from_servers(self) -> None:
        """A node that customers still reach, and that can keep no promise; the others serve."""
        node = self.chance.choice(self.nodes.nodes)
        with self._cut(node.place.host, self._server_addresses):
            await self._serve_for(8, 25)

    async def cut_primary_from_standbys(self) -> None:
        """Nothing may be promised, though every node reaches the primary."""
        with self._cut(self.servers.primary.host, [each.host for each in self.servers.standbys]):
            await self._nothing_is_promised()
        await self.servers.caught_up()

    async def cut_primary_off(self) -> None:
        """Nobody reaches the primary; a standby takes its place, and the old one never comes back as such."""
        old = self.servers.primary
        everybody = [
            *(each.host for each in self.servers.standbys),
            *(each.host for each in self.network.places),
        ]
        with self._cut(old.host, everybody):
            await self._nothing_is_promised()
            new = await self.servers.promote(fenced=True)
            self._say("promote", server=new.name)
            await self.work()
            self.servers.kill(old)
        await self.servers.rejoin(old)
        await self.servers.caught_up()
