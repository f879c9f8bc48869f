"""WireGuard in user space: a full mesh of tunnels, which needs every party to be reachable."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Network, shows, wait_until

ORDER = 50
PORT = 51820


class WireGuard(Contender):
    """`wireguard-go`: the protocol in a process, for kernels without it."""

    name = "wireguard"
    title = "WireGuard (wireguard-go)"
    requires = (
        Requirement("wireguard-go", "wireguard-go"),
        Requirement("wg", "wireguard-tools"),
        Requirement("ip", "iproute2"),
    )
    reference = "https://www.wireguard.com/quickstart/"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        inner = [f"10.99.0.{number + 1}" for number in range(len(network.parties))]
        public = []
        for host in network.parties:
            # What `wg` asks for is a file that holds the key.
            host.run("sh", "-c", "umask 077; wg genkey > private.key; wg pubkey < private.key > public.key")
            public.append(host.text("public.key"))
            host.give(
                [other for other in network.parties if other is not host], "its public key, address, port"
            )
        for number, host in enumerate(network.parties):
            # The process makes /run/wireguard/NAME.sock, which all hosts share: names must differ.
            device = f"wg{number}"
            daemon = host.daemon(
                "wireguard-go", "-f", device, environment={"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
            )
            wait_until(partial(shows, host, device, "wg", "show", "interfaces"), "WireGuard's device")
            peers = [
                part
                for other, key in enumerate(public)
                if other != number
                for part in (
                    "peer", key,
                    "endpoint", f"{network.parties[other].address}:{PORT}",
                    "allowed-ips", f"{inner[other]}/32",
                    "persistent-keepalive", "25",
                )
            ]  # fmt: skip
            host.run("wg", "set", device, "listen-port", str(PORT), "private-key", "private.key", *peers)
            host.run("ip", "address", "add", f"{inner[number]}/24", "dev", device)
            host.run("ip", "link", "set", device, "mtu", "1420", "up")
            wait_until(partial(host.listens, daemon, PORT, udp=True), "WireGuard listening")
        addresses = [(address, MPYC_PORT) for address in inner]
        yield Addresses(network, [addresses for _ in inner])


CONTENDERS = (WireGuard(),)
