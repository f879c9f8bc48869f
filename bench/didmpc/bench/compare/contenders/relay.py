"""A raw TCP relay on a public server: what any relayed path costs at least."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender
from didmpc.bench.compare.hosts import Network, wait_until

ORDER = 20


class RawRelay(Contender):
    """The server splices connections to each party that is dialed, which it must be able to reach."""

    name = "relay"
    title = "raw TCP relay"
    on_loopback = True
    relayed = True
    reference = "bench/didmpc/bench/compare/splice.py"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        dialed = network.parties[1:]
        ports = {host.name: network.port(7001 + number) for number, host in enumerate(dialed)}
        own = {host.name: network.port(MPYC_PORT) for host in network.parties}
        splices = [f"{ports[host.name]}={host.address}:{own[host.name]}" for host in dialed]
        for host in dialed:
            host.give([network.vps], "its address and port")
        relay = network.vps.daemon(network.vps.python, "-m", "didmpc.bench.compare.splice", *splices)
        network.vps.give(network.parties, "its address and ports")
        for port in ports.values():
            wait_until(partial(network.vps.listens, relay, port), f"The relay listening on {port}")
        views = [
            [
                (host.address, own[host.name])
                if number in (me, 0)
                else (network.vps.address, ports[host.name])
                for number, host in enumerate(network.parties)
            ]
            for me in range(len(network.parties))
        ]
        yield Addresses(network, views, accepts_early=True)


CONTENDERS = (RawRelay(),)
