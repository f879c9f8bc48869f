"""IPsec with IKEv2: strongSwan, with ESP in its own process for kernels that have none."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import combinations

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Host, Network, shows, wait_until

ORDER = 55
PORT = 500
_LIBIPSEC = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"
# kernel-libipsec first: it does ESP then, and kernel-netlink keeps the routes.
_PLUGINS = "random nonce openssl kdf kernel-libipsec kernel-netlink socket-default vici updown"


class StrongSwan(Contender):
    """A tunnel between each two parties, with a key that those two share."""

    name = "strongswan"
    title = "IPsec (strongSwan, libipsec)"
    requires = (
        Requirement("charon-systemd", "charon-systemd"),
        Requirement("swanctl", "strongswan-swanctl"),
        Requirement(_LIBIPSEC, "libcharon-extra-plugins"),
        Requirement("openssl", "openssl"),
        Requirement("ip", "iproute2"),
    )
    reference = "https://docs.strongswan.org/docs/5.9/plugins/kernel-libipsec.html"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        parties = network.parties
        inner = [f"10.94.0.{number + 1}" for number in range(len(parties))]
        keys: dict[tuple[int, int], str] = {}
        for low, high in combinations(range(len(parties)), 2):
            keys[low, high] = parties[low].run("openssl", "rand", "-hex", "32").strip()
            parties[low].give([parties[high]], "a key of these two, in secret")
        for host in parties:
            host.give([other for other in parties if other is not host], "its address")
        for number, host in enumerate(parties):
            inside = (f"{inner[number]}/32", "dev", "lo")
            host.run("ip", "address", "add", *inside, undo=("ip", "address", "delete", *inside))
            # The file system is shared between hosts, so each daemon takes orders at a socket of its own.
            settings = host.write(
                "strongswan.conf",
                f"charon-systemd {{\n load = {_PLUGINS}\n"
                f" plugins {{\n  vici {{\n   socket = {_orders(host)}\n  }}\n }}\n}}\n",
            )
            daemon = host.daemon("charon-systemd", environment={"STRONGSWAN_CONF": str(settings)})
            wait_until(partial(host.listens, daemon, PORT, udp=True), f"strongSwan listening at {host.name}")
            others = [
                _connection(parties, inner, number, other, keys[min(number, other), max(number, other)])
                for other in range(len(parties))
                if other != number
            ]
            connections, secrets = zip(*others, strict=True)
            file = host.write(
                "swanctl.conf",
                f"connections {{\n{''.join(connections)}}}\nsecrets {{\n{''.join(secrets)}}}\n",
                secret=True,
            )
            host.run("swanctl", "--load-all", "--file", file, "--uri", _orders(host))
        for number, host in enumerate(parties):
            for other in parties[:number]:
                wait_until(
                    partial(
                        shows, host, f"mpc-{other.name}: #", "swanctl", "--list-sas", "--uri", _orders(host)
                    ),
                    f"The tunnel from {host.name} to {other.name}",
                )
        addresses = [(address, MPYC_PORT) for address in inner]
        yield Addresses(network, [addresses for _ in inner])


def _orders(host: Host) -> str:
    return f"unix:///run/strongswan-{host.name}"


def _connection(parties: list[Host], inner: list[str], me: int, other: int, key: str) -> tuple[str, str]:
    own, far = parties[me], parties[other]
    # Who comes later begins: the other one is there by then.
    start = "\n    start_action = start" if other < me else ""
    return (
        f""" {far.name} {{
  version = 2
  proposals = aes128gcm16-prfsha256-x25519
  remote_addrs = {far.address}
  local {{
   auth = psk
   id = {own.name}
  }}
  remote {{
   auth = psk
   id = {far.name}
  }}
  children {{
   mpc-{far.name} {{
    local_ts = {inner[me]}/32
    remote_ts = {inner[other]}/32
    esp_proposals = aes128gcm16{start}
   }}
  }}
 }}
""",
        f" ike-{far.name} {{\n  id-1 = {own.name}\n  id-2 = {far.name}\n  secret = {key}\n }}\n",
    )


CONTENDERS = (StrongSwan(),)
