"""Tor: each party an onion service, on a network of the bench's own (three authorities, four relays)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from didmpc.bench.cluster import Running
from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Host, HostError, Network, stop_all, wait_until

ORDER = 60
AUTHORITIES, RELAYS = 3, 4
SOCKS_PORT = 9050
NEAR_PORT = 7300
READY_WITHIN = 90.0
TRY_WITHIN = 60.0
_LISTEN = f"""
import socket
with socket.create_server(("127.0.0.1", {MPYC_PORT})) as server:
    while True:
        server.accept()
"""
_TESTING = """TestingTorNetwork 1
AssumeReachable 1
VanguardsLiteEnabled 0
Log notice stdout
"""
_VOTING = """AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo nobody
V3AuthVotingInterval 20
V3AuthVoteDelay 4
V3AuthDistDelay 4
TestingV3AuthInitialVotingInterval 20
TestingV3AuthInitialVoteDelay 4
TestingV3AuthInitialDistDelay 4
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
"""


class Tor(Contender):
    """Authorities and relays stand on the public server.

    People on the Internet find those there already, so setting them up is none of the steps.
    """

    name = "tor"
    title = "Tor, onion to onion"
    relayed = True
    requires = (
        Requirement("tor", "tor"),
        Requirement("tor-gencert", "tor"),
        Requirement("socat", "socat"),
    )
    reference = "https://community.torproject.org/onion-services/setup/"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        parties = network.parties
        testing = _start_network(network.vps)
        daemons: dict[str, Running] = {}
        for host in parties:
            host.put("testing", testing.encode())
            host.write(
                "torrc",
                f"DataDirectory {host.folder}/tor\nSocksPort {SOCKS_PORT}\n"
                f"HiddenServiceDir {host.folder}/onion\nHiddenServicePort {MPYC_PORT}\n",
            )
            daemons[host.name] = host.daemon("tor", "-f", "torrc", "--defaults-torrc", "testing")
        onions = []
        for host in parties:
            wait_until(partial(host.exists, "onion/hostname"), f"An onion address of {host.name}")
            onions.append(host.text("onion/hostname"))
            host.give([other for other in parties if other is not host], "its onion address")
        for host in parties:
            ready = partial(_says, daemons[host.name], "Bootstrapped 100%")
            wait_until(ready, f"Tor at {host.name}", within=READY_WITHIN)
        self._wait_for_services(parties, onions)
        views = []
        for me, host in enumerate(parties):
            for number in range(me + 1, len(parties)):
                near = host.daemon(
                    "socat", f"TCP-LISTEN:{NEAR_PORT + number},bind=127.0.0.1,reuseaddr,fork,nodelay",
                    f"SOCKS4A:127.0.0.1:{onions[number]}:{MPYC_PORT},socksport={SOCKS_PORT},nodelay",
                )  # fmt: skip
                wait_until(partial(host.listens, near, NEAR_PORT + number), f"socat at {host.name}")
            views.append([("127.0.0.1", NEAR_PORT + n if n > me else MPYC_PORT) for n in range(len(parties))])
        yield Addresses(network, views, accepts_early=True)

    def _wait_for_services(self, parties: list[Host], onions: list[str]) -> None:
        """A service can be reached some time after its address is known; MPyC would not try twice."""
        listeners = [host.start(host.python, "-c", _LISTEN) for host in parties[1:]]
        for number, host in enumerate(parties):
            for onion in onions[number + 1 :]:
                wait_until(partial(_reaches, host, onion), f"A way from {host.name}", within=READY_WITHIN)
        stop_all(listeners)


def _reaches(host: Host, onion: str) -> bool:
    target = f"SOCKS4A:127.0.0.1:{onion}:{MPYC_PORT},socksport={SOCKS_PORT}"
    try:
        host.quietly("socat", "-u", "/dev/null", target, within=TRY_WITHIN)
    except HostError:
        return False
    return True


def _says(running: Running, words: str) -> bool:
    if running.poll() is not None:
        raise HostError("Tor ended.", why=(running.stdout + running.stderr)[-1500:])
    return words in running.stdout


# --- the network


def _start_network(server: Host) -> str:
    """Authorities and relays; returns what makes a Tor use them instead of the Internet's."""
    names = [f"authority{number}" for number in range(AUTHORITIES)]
    lines = [_authority(server, name, 5000 + number, 5200 + number) for number, name in enumerate(names)]
    testing = _TESTING + "".join(lines)
    server.put("testing", testing.encode())
    for number, name in enumerate(names):
        _start(server, name, 5000 + number, f"{_VOTING}DirPort {5200 + number}\n")
    for number in range(RELAYS):
        _start(server, f"relay{number}", 5100 + number, "")
    return testing


def _authority(server: Host, name: str, or_port: int, directory_port: int) -> str:
    """Its keys; the line that says where it is and who."""
    keys = server.folder / name / "keys"
    server.quietly("mkdir", "-m", "700", keys.parent, keys)
    server.quietly(
        "sh", "-c",
        f"cd {name}/keys && echo | tor-gencert --create-identity-key -m 12 --passphrase-fd 0 "
        f"-a {server.address}:{directory_port} "
        "-i authority_identity_key -s authority_signing_key -c authority_certificate",
    )  # fmt: skip
    certificate = _fields(server.text(f"{name}/keys/authority_certificate"))
    said = server.quietly(
        "tor", "--list-fingerprint", "--quiet", "-f", "none", "--defaults-torrc", "none",
        "--ignore-missing-torrc",
        "--Nickname", name, "--ORPort", str(or_port), "--DataDirectory", keys.parent,
        "--DirAuthority", f"{name} 127.0.0.1:1 {'F' * 40}",
    )  # fmt: skip
    identity = said.strip().splitlines()[-1].partition(" ")[2].replace(" ", "")
    return (
        f"DirAuthority {name} orport={or_port} no-v2 v3ident={certificate['fingerprint']} "
        f"{server.address}:{directory_port} {identity}\n"
    )


def _fields(text: str) -> Mapping[str, str]:
    return dict(line.partition(" ")[::2] for line in text.splitlines() if " " in line)


def _start(server: Host, name: str, port: int, more: str) -> None:
    configuration = (
        f"Nickname {name}\nAddress {server.address}\nORPort {server.address}:{port}\nSocksPort 0\n"
        f"DataDirectory {server.folder}/{name}\nExitRelay 0\n{more}"
    )
    server.put(f"{name}.torrc", configuration.encode())
    running = server.start("tor", "-f", f"{name}.torrc", "--defaults-torrc", "testing")
    wait_until(partial(server.listens, running, port), f"Tor's {name} listening")


CONTENDERS = (Tor(),)
