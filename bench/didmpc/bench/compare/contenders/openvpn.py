"""OpenVPN: a star around the public server, over TCP port 443, with certificates from one CA."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Host, Network, shows, wait_until

ORDER = 54
PORT = 443
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class OpenVpn(Contender):
    """The CA is kept on the server, as most tutorials have it."""

    name = "openvpn"
    title = "OpenVPN via a server (TCP)"
    relayed = True
    requires = (Requirement("openvpn", "openvpn"), Requirement("openssl", "openssl"))
    reference = "https://openvpn.net/community-resources/how-to/"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        vps = network.vps
        vps.run(
            "openssl", "req", "-x509", *_CURVE, "-days", "30", "-subj", "/CN=CA", "-keyout", "ca.key",
            "-out", "ca.crt",
        )  # fmt: skip
        for host in (vps, *network.parties):
            self._certificate(vps, host)
        common = "dev tun\nca ca.crt\ndh none\nkeepalive 10 60\nsocket-flags TCP_NODELAY\nverb 1\n"
        configuration = vps.write(
            "server.conf",
            f"{common}proto tcp-server\nport {PORT}\nserver 10.96.0.0 255.255.255.0\ntopology subnet\n"
            f"cert {vps.name}.crt\nkey {vps.name}.key\nclient-config-dir clients\n",
        )
        # Not OpenVPN's client-to-client: the kernel forwards, so that what passes here can be captured.
        before = vps.quietly("sysctl", "-n", "net.ipv4.ip_forward").strip()
        undo = ("sysctl", "-qw", f"net.ipv4.ip_forward={before}")
        vps.run("sysctl", "-qw", "net.ipv4.ip_forward=1", undo=undo)
        inner = [f"10.96.0.{number + 11}" for number in range(len(network.parties))]
        for host, address in zip(network.parties, inner, strict=True):
            vps.write(f"clients/{host.name}", f"ifconfig-push {address} 255.255.255.0\n")
        server = vps.daemon("openvpn", "--config", configuration)
        wait_until(partial(vps.listens, server, PORT), "OpenVPN listening")
        vps.give(network.parties, "its address")
        for host, address in zip(network.parties, inner, strict=True):
            client = host.write(
                "client.conf",
                f"{common}client\nproto tcp-client\nremote {vps.address} {PORT}\nnobind\n"
                f"verify-x509-name {vps.name} name\ncert {host.name}.crt\nkey {host.name}.key\n",
            )
            host.daemon("openvpn", "--config", client)
            wait_until(partial(shows, host, address, "ip", "-4", "address"), f"OpenVPN at {host.name}")
        addresses = [(address, MPYC_PORT) for address in inner]
        yield Addresses(network, [addresses for _ in inner])

    def _certificate(self, authority: Host, host: Host) -> None:
        request, certificate = f"{host.name}.csr", f"{host.name}.crt"
        host.run(
            "openssl", "req", "-new", *_CURVE, "-subj", f"/CN={host.name}", "-keyout", f"{host.name}.key",
            "-out", request,
        )  # fmt: skip
        if host is not authority:
            host.give([authority], "its certificate request")
            host.pass_to(authority, request)
        authority.run(
            "openssl", "x509", "-req", "-in", request, "-days", "30", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", certificate,
        )  # fmt: skip
        if host is not authority:
            authority.give([host], "its certificate and the CA's")
            for name in (certificate, "ca.crt"):
                authority.pass_to(host, name)


CONTENDERS = (OpenVpn(),)
