"""Yggdrasil: an encrypted IPv6 network; here the parties peer through the public server only."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Network, shows, wait_until

ORDER = 56
PORT = 443


class Yggdrasil(Contender):
    """Addresses are made from keys, so knowing a party's address is knowing the party."""

    name = "yggdrasil"
    title = "Yggdrasil via a server"
    relayed = True
    requires = (Requirement("yggdrasil", "yggdrasil"),)
    reference = "https://yggdrasil-network.github.io/configuration.html"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        vps = network.vps
        inner = []
        for number, host in enumerate((vps, *network.parties)):
            settings = json.loads(host.run("yggdrasil", "-genconf", "-json"))
            settings |= {
                "IfName": f"ygg{number}",
                "AdminListen": "none",
                # Else it would peer over every link-local network, those of other contenders too.
                "MulticastInterfaces": [],
                "Listen": [f"tcp://{vps.address}:{PORT}"] if host is vps else [],
                "Peers": [] if host is vps else [f"tcp://{vps.address}:{PORT}"],
            }
            file = host.write("yggdrasil.json", json.dumps(settings, indent=1), secret=True)
            address = host.run("yggdrasil", "-useconffile", file, "-address").strip()
            daemon = host.daemon("yggdrasil", "-useconffile", file)
            if host is vps:
                wait_until(partial(vps.listens, daemon, PORT), "Yggdrasil listening")
                vps.give(network.parties, "its address and port")
                continue
            inner.append(address)
            host.give([other for other in network.parties if other is not host], "its address")
            wait_until(
                partial(shows, host, f"ygg{number}", "ip", "-6", "address"), f"Yggdrasil at {host.name}"
            )
        addresses = [(address, MPYC_PORT) for address in inner]
        yield Addresses(network, [addresses for _ in inner])


CONTENDERS = (Yggdrasil(),)
