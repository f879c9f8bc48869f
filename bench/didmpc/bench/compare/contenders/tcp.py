"""What MPyC does by itself: a TCP connection for each pair, in the clear or with TLS."""

from collections.abc import Iterator
from contextlib import contextmanager

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Network

ORDER = 10


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
        folder = authority.folder / ".config"
        folder.mkdir(exist_ok=True)
        ca, ca_key = folder / "mpyc_ca.crt", folder / "mpyc_ca.key"
        authority.run(
            "openssl", "req", "-x509", *curve, "-days", "30",
            "-subj", "/CN=MPyC CA", "-keyout", ca_key, "-out", ca,
        )  # fmt: skip
        for number, host in enumerate(network.parties):
            own = host.folder / ".config"
            own.mkdir(exist_ok=True)
            key, request, certificate = (own / f"party_{number}.{kind}" for kind in ("key", "csr", "crt"))
            # MPyC dials "MPyC party N", whatever the host's name.
            subject = f"/CN=MPyC party {number}"
            host.run("openssl", "req", "-new", *curve, "-subj", subject, "-keyout", key, "-out", request)
            authority.run(
                "openssl", "x509", "-req", "-in", request, "-days", "30",
                "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", certificate,
            )  # fmt: skip
            if host is not authority:
                host.give([authority], "its certificate request")
                authority.give([host], "its certificate and the CA's")
                (own / "mpyc_ca.crt").write_bytes(ca.read_bytes())
            host.give([other for other in network.parties if other is not host], "its address and port")
        yield Addresses(network, direct(network), flags=("--ssl",))


CONTENDERS = (PlainTcp(), Tls())
