"""TURN: a server that lends each party who is dialed an address of its own, over TCP (RFC 6062)."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from didmpc.bench.cluster import Running
from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Host, Network, wait_until

ORDER = 42
PORT = 443


class Coturn(Contender):
    """coturn, and a small client of ours at each party who is dialed; who dials needs none."""

    name = "coturn"
    title = "TURN over TCP (coturn)"
    relayed = True
    requires = (Requirement("turnserver", "coturn"),)
    reference = "RFC 8656, RFC 6062; turnserver(1)"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        vps, parties = network.vps, network.parties
        passwords = {host.name: secrets.token_hex(16) for host in parties[1:]}
        users = "".join(f"user={name}:{password}\n" for name, password in passwords.items())
        configuration = vps.write(
            "turnserver.conf",
            f"listening-ip={vps.address}\nlistening-port={PORT}\nrelay-ip={vps.address}\nrealm=mpc\n"
            f"lt-cred-mech\nno-tls\nno-dtls\nno-udp\nno-cli\n{users}userdb={vps.folder}/turndb\n"
            f"pidfile={vps.folder}/turn.pid\nlog-file=stdout\nsimple-log\n",
            secret=True,
        )
        server = vps.daemon("turnserver", "-m", "1", "-c", configuration)
        wait_until(partial(vps.listens, server, PORT), "coturn listening")
        relayed = {}
        for number, host in enumerate(parties[1:], 1):
            vps.give([host], "its address, a user and a password, in secret")
            dialing = [other.address for other in parties[:number]]
            for other in parties[:number]:
                other.give([host], "its address")  # TURN lets in only who is named
            client = host.daemon(
                host.python, "-m", "didmpc.bench.compare.turn", f"{vps.address}:{PORT}",
                host.name, str(MPYC_PORT), *dialing, environment={"TURN_PASSWORD": passwords[host.name]},
            )  # fmt: skip
            relayed[number] = _relayed(client, host)
            host.give(parties[:number], "its relayed address")
        views = [
            [
                relayed[number] if number > me else (host.address, MPYC_PORT)
                for number, host in enumerate(parties)
            ]
            for me in range(len(parties))
        ]
        yield Addresses(network, views, accepts_early=True)


def _relayed(client: Running, host: Host) -> tuple[str, int]:
    def has_said() -> bool:
        host.raise_if_ended(client)
        return "\n" in client.stdout

    wait_until(has_said, f"An address at the TURN server for {host.name}")
    found = json.loads(client.stdout)
    return found["address"], found["port"]


CONTENDERS = (Coturn(),)
