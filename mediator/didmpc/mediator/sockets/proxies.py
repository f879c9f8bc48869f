"""Proxies that are believed when they say for whom they connect (`X-Forwarded-For`).

Limits per address then count for each client. From anywhere else the header is ignored: anyone can write it.
"""

import ipaddress
from collections.abc import Sequence

from didmpc.mediator.host.home import is_loopback

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """This machine, and the networks that the operator has named."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    @classmethod
    def read(cls, text: str) -> "Proxies":
        """From `172.30.5.0/24, fd00::2`. Raises ValueError with the words for "it must be ..."."""
        return cls([_network(each.strip()) for each in text.split(",")] if text else ())

    def include(self, address: str) -> bool:
        """Whether this connection may be a proxy's, with many people behind it."""
        if is_loopback(address):
            return True
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped  # as a socket that takes both kinds writes it
        return any(found in network for network in self._networks)

    def client(self, address: str, forwarded: str) -> str:
        """Whose address counts: the connection's, or the last one that a proxy of ours has added."""
        named = forwarded.rpartition(",")[2].strip()
        if not named or not self.include(address):
            return address
        try:
            return str(ipaddress.ip_address(named))
        except ValueError:
            return address


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        network = None
    if network is None or network.prefixlen == 0:
        raise ValueError("addresses or networks, such as 172.30.5.0/24 or fd00::2, with commas between")
    return network
