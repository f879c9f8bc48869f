"""Nebula: an overlay with certificates of its own, with a public lighthouse to find each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Host, Network, shows, wait_until

ORDER = 51
PORT = 4242


class Nebula(Contender):
    """One party keeps the CA; the lighthouse stands on the public server."""

    name = "nebula"
    title = "Nebula"
    requires = (Requirement("nebula", "nebula"), Requirement("nebula-cert", "nebula"))
    reference = "https://nebula.defined.net/docs/guides/quick-start/"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        authority = network.parties[0]
        authority.run("nebula-cert", "ca", "-name", "mpc")
        lighthouse = "10.98.0.254"
        inner = [f"10.98.0.{number + 1}" for number in range(len(network.parties))]
        hosts = list(zip([network.vps, *network.parties], [lighthouse, *inner], strict=True))
        for host, address in hosts:
            if host is authority:
                authority.run("nebula-cert", "sign", "-name", host.name, "-ip", f"{address}/24")
            else:
                host.run(
                    "nebula-cert", "keygen", "-out-key", f"{host.name}.key", "-out-pub", f"{host.name}.pub"
                )
                host.give([authority], "its public key")
                host.pass_to(authority, f"{host.name}.pub")
                authority.run(
                    "nebula-cert", "sign", "-name", host.name, "-ip", f"{address}/24",
                    "-in-pub", f"{host.name}.pub", "-out-crt", f"{host.name}.crt",
                )  # fmt: skip
                authority.give([host], "its certificate and the CA's")
                for name in ("ca.crt", f"{host.name}.crt"):
                    authority.pass_to(host, name)
        network.vps.give(network.parties, "its address and port")
        for number, (host, _) in enumerate(hosts):
            host.write("nebula.yml", self._configuration(network, host, number, lighthouse))
            host.daemon("nebula", "-config", "nebula.yml")
        for host, address in hosts:
            wait_until(partial(shows, host, address, "ip", "-4", "address"), f"Nebula at {host.name}")
        addresses = [(address, MPYC_PORT) for address in inner]
        yield Addresses(network, [addresses for _ in inner])

    def _configuration(self, network: Network, host: Host, number: int, lighthouse: str) -> str:
        is_lighthouse = host is network.vps
        return f"""pki: {{ca: ca.crt, cert: {host.name}.crt, key: {host.name}.key}}
static_host_map: {{"{lighthouse}": ["{network.vps.address}:{PORT}"]}}
lighthouse:
  am_lighthouse: {str(is_lighthouse).lower()}
  hosts: {[] if is_lighthouse else [lighthouse]}
listen: {{host: 0.0.0.0, port: {PORT}}}
punchy: {{punch: true, respond: true}}
tun: {{dev: neb{number}}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"""


CONTENDERS = (Nebula(),)
