"""tinc 1.0: a mesh of daemons that know each other by public key files."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Network, shows, wait_until

ORDER = 52
BITS = 2048


class Tinc(Contender):
    """Everybody holds a file of each other party."""

    name = "tinc"
    title = "tinc 1.0"
    requires = (Requirement("tincd", "tinc"), Requirement("ip", "iproute2"))
    reference = "https://www.tinc-vpn.org/documentation/"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        inner = [f"10.97.0.{number + 1}" for number in range(len(network.parties))]
        for number, host in enumerate(network.parties):
            first = [f"ConnectTo = {other.name}" for other in network.parties[:number]]
            host.write(
                "tinc.conf", "\n".join([f"Name = {host.name}", f"Interface = tinc{number}", *first, ""])
            )
            host.write(f"hosts/{host.name}", f"Address = {host.address}\nSubnet = {inner[number]}/32\n")
            # Its keys have no password; the public one is added to the file of the host.
            host.run("sh", "-c", f"tincd --config=. -K{BITS} < /dev/null")
            host.give([other for other in network.parties if other is not host], f"hosts/{host.name}")
        for host in network.parties:
            for other in network.parties:
                if other is not host:
                    other.pass_to(host, f"hosts/{other.name}")
        for number, host in enumerate(network.parties):
            host.daemon("tincd", "--config=.", "-D", "--pidfile=tinc.pid")
            device = f"tinc{number}"
            wait_until(partial(shows, host, device, "ip", "link"), f"tinc's device at {host.name}")
            host.run("ip", "address", "add", f"{inner[number]}/24", "dev", device)
            host.run("ip", "link", "set", device, "up")
        addresses = [(address, MPYC_PORT) for address in inner]
        yield Addresses(network, [addresses for _ in inner])


CONTENDERS = (Tinc(),)
