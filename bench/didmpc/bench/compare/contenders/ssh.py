"""SSH tunnels by way of a public server: each party's port is forwarded there, and fetched there."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement, find_command
from didmpc.bench.compare.hosts import Host, Network, listening, listens, wait_until

ORDER = 40


class Ssh(Contender):
    """`ssh -R` of those who are dialed, `ssh -L` of those who dial, in one connection of each party."""

    name = "ssh"
    title = "SSH tunnels via a server"
    relayed = True
    requires = (Requirement("sshd", "openssh-server"), Requirement("ssh", "openssh-client"))
    reference = "ssh(1), sshd_config(5)"

    @contextmanager
    def connect(self, network: Network) -> Iterator[Addresses]:
        vps, parties = network.vps, network.parties
        port = network.port(443)
        keys = [self._key(host, "id") for host in parties]
        for host in parties:
            host.give([vps], "its public key")
        host_key = self._key(vps, "host_key")
        authorized = vps.write(
            "authorized_keys", "".join(key.with_suffix(".pub").read_text() for key in keys)
        )
        configuration = vps.write(
            "sshd_config",
            f"Port {port}\nListenAddress {vps.address}\nHostKey {host_key}\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {authorized}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nUsePAM no\nAllowTcpForwarding yes\n",
        )
        (vps.folder / "run").mkdir(exist_ok=True)
        if network.separate:  # our own /run, where sshd wants an empty folder
            vps.quietly("mkdir", "-p", "/run/sshd")
        sshd = find_command("sshd")
        assert sshd is not None
        server = vps.daemon(sshd, "-D", "-e", "-f", configuration)
        wait_until(lambda: listens(server, port), "sshd listening")
        vps.give(parties, "its address, port and host key")
        known = f"[{vps.address}]:{port} " + host_key.with_suffix(".pub").read_text()

        own = [network.port(MPYC_PORT) for _ in parties]
        meeting = [network.port(7100 + number) for number in range(len(parties))]
        near = [
            [network.port(7200 + number) if number > me else 0 for number in range(len(parties))]
            for me in range(len(parties))
        ]
        for me, (host, key) in enumerate(zip(parties, keys, strict=True)):
            known_hosts = host.write("known_hosts", known)
            back = [f"-R127.0.0.1:{meeting[me]}:127.0.0.1:{own[me]}"] if me else []
            there = [
                f"-L127.0.0.1:{near[me][number]}:127.0.0.1:{meeting[number]}"
                for number in range(me + 1, len(parties))
            ]
            # -tt: an interactive session sets TCP_NODELAY; with -N each round costs 40 ms more.
            tunnel = host.daemon(
                "ssh", "-tt", "-p", str(port), "-i", key, "-oUserKnownHostsFile=" + str(known_hosts),
                "-oExitOnForwardFailure=yes", "-oServerAliveInterval=15", "-oBatchMode=yes", "-F", "none",
                *back, *there, f"{getpass.getuser()}@{vps.address}", "sleep infinity",
            )  # fmt: skip
            for local in near[me][me + 1 :]:
                wait_until(partial(listens, tunnel, local), f"The tunnel of {host.name}")
            if me:
                wait_until(partial(listening, server.pid, meeting[me]), f"The port of {host.name}")
        views = [
            [
                ("127.0.0.1", near[me][number] if number > me else own[number])
                for number in range(len(parties))
            ]
            for me in range(len(parties))
        ]
        yield Addresses(network, views, accepts_early=True)

    def _key(self, host: Host, name: str) -> Path:
        path = host.folder / name
        host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
        return path


CONTENDERS = (Ssh(),)
