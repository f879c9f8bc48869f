"""Which IP addresses are of the open internet.

Whoever connects to where a peer says must not be led onto its own machine or into the network around it.
The tables are ours, so that the rule is the same under every version of Python; they follow the IANA
registries of special-purpose addresses (RFC 6890) and err on the safe side.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

_NOT_PUBLIC_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host and this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by the customers of a provider (RFC 6598)
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; clouds tell secrets at 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation, like the two /24 below
        "192.88.99.0/24",  # 6to4 relays, out of use
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")  # all that is given out so far
_NOT_PUBLIC_6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, among them Teredo: its packets come out at an IPv4 address within
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: likewise
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214: so begins an interface id whose end is an IPv4 address


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet. Raises `ValueError` where it is no address."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_4)
    inner = ip.ipv4_mapped or (_last_32_bits(ip) if ip in _NAT64 else None)
    if inner is not None:
        return is_public(str(inner))
    if ip not in _GLOBAL_6 or any(ip in network for network in _NOT_PUBLIC_6):
        return False
    return int(ip) >> 32 & 0xFFFFFFFF not in _ISATAP or is_public(str(_last_32_bits(ip)))


def names_private(uri: str) -> bool:
    """Whether a URL says by itself that it leads to no public address; most names say nothing."""
    try:
        host = urlsplit(uri).hostname or ""
    except ValueError:
        return False
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _last_32_bits(ip: IPv6Address) -> IPv4Address:
    return IPv4Address(int(ip) & 0xFFFFFFFF)
