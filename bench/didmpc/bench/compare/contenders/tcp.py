"""What MPyC does by itself: a TCP connection for each pair, in the clear or with TLS."""

from collections.abc import Iterator
from contextlib import contextmanager

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Network

ORDER = 10
_SETTINGS = ".config"
"""Where MPyC looks for certificates, below the folder that it is started in."""


def direct(network: Network) -> list[list[tuple[str, int]]]:
    """Every party at its own address."""
    addresses = [(host.address, network.port(MPYC_PORT)) for host in network.parties]
    return [addresses for _ in addresses]


class PlainTcp(Contender):
    """The reference: nothing between the parties."""

    name = "tcp"
    title = "MPyC over plain TCP"
    on_loopback = True
    reference = "https://github.com/lschoe/mpyc"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        for host in network.parties:
            host.give([other for other in network.parties if other is not host], "its address and port")
        yield Addresses(network, direct(network))


class Tls(Contender):
    """MPyC's `--ssl`: certificates of a CA that one of the parties keeps."""

    name = "tls"
    title = "MPyC --ssl"
    on_loopback = True
    requires = (Requirement("openssl", "openssl"),)
    reference = "https://github.com/lschoe/mpyc"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        authority = network.parties[0]
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        ca, ca_key = f"{_SETTINGS}/mpyc_ca.crt", f"{_SETTINGS}/mpyc_ca.key"
        for host in network.parties:
            host.quietly("mkdir", "-p", _SETTINGS)
        authority.run(
            "openssl", "req", "-x509", *curve, "-days", "30",
            "-subj", "/CN=MPyC CA", "-keyout", ca_key, "-out", ca,
        )  # fmt: skip
        for number, host in enumerate(network.parties):
            own = f"{_SETTINGS}/party_{number}"
            key, request, certificate = f"{own}.key", f"{own}.csr", f"{own}.crt"
            # MPyC dials "MPyC party N", whatever the host's name.
            subject = f"/CN=MPyC party {number}"
            host.run("openssl", "req", "-new", *curve, "-subj", subject, "-keyout", key, "-out", request)
            if host is not authority:
                host.give([authority], "its certificate request")
                host.pass_to(authority, request)
            authority.run(
                "openssl", "x509", "-req", "-in", request, "-days", "30",
                "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", certificate,
            )  # fmt: skip
            if host is not authority:
                authority.give([host], "its certificate and the CA's")
                for name in (certificate, ca):
                    authority.pass_to(host, name)
            host.give([other for other in network.parties if other is not host], "its address and port")
        yield Addresses(network, direct(network), flags=("--ssl",))


CONTENDERS = (PlainTcp(), Tls())
