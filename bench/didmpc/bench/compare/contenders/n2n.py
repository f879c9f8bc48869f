"""n2n: an Ethernet between edges, which find each other through a supernode and share one key."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Network, shows, wait_until

ORDER = 53
PORT = 7654


class N2n(Contender):
    """One command at each party."""

    name = "n2n"
    title = "n2n"
    requires = (
        Requirement("edge", "n2n"),
        Requirement("supernode", "n2n"),
        Requirement("openssl", "openssl"),
    )
    reference = "edge(8), supernode(1)"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        vps = network.vps
        server = vps.daemon("supernode", "-l", str(PORT))
        wait_until(partial(vps.listens, server, PORT, udp=True), "The supernode listening")
        first = network.parties[0]
        key = first.run("openssl", "rand", "-hex", "16").strip()
        first.give(network.parties[1:], "the key, in secret")
        vps.give(network.parties, "its address and port")
        inner = [f"10.95.0.{number + 1}" for number in range(len(network.parties))]
        for number, (host, address) in enumerate(zip(network.parties, inner, strict=True)):
            host.daemon(
                "edge", "-f", "-d", f"n2n{number}", "-c", "mpc", "-a", address, "-l", f"{vps.address}:{PORT}",
                "-u", "0", "-g", "0", environment={"N2N_KEY": key},
            )  # fmt: skip
            wait_until(partial(shows, host, address, "ip", "-4", "address"), f"n2n at {host.name}")
        addresses = [(address, MPYC_PORT) for address in inner]
        yield Addresses(network, [addresses for _ in inner])


CONTENDERS = (N2n(),)
