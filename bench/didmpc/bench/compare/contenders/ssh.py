"""SSH tunnels by way of a public server: each party's port is forwarded there, and fetched there."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from didmpc.bench.compare.contender import MPYC_PORT, Addresses, Contender, Requirement
from didmpc.bench.compare.hosts import Host, Network, wait_until

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
        authorized = vps.write("authorized_keys", "".join(f"{host.text('id.pub')}\n" for host in parties))
        configuration = vps.write(
            "sshd_config",
            f"Port {port}\nListenAddress {vps.address}\nHostKey {host_key}\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {authorized}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nUsePAM no\nAllowTcpForwarding yes\n",
        )
        if vps.is_root:  # where it then wants an empty folder
            vps.quietly("mkdir", "-p", "/run/sshd")
        sshd = vps.quietly("sh", "-c", "command -v sshd").strip()  # it starts itself anew by its full path
        server = vps.daemon(sshd, "-D", "-e", "-f", configuration)
        wait_until(partial(vps.listens, server, port), "sshd listening")
        vps.give(parties, "its address, port and host key")
        known = f"[{vps.address}]:{port} " + vps.text("host_key.pub") + "\n"

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
                *back, *there, f"{vps.user}@{vps.address}", "sleep infinity",
            )  # fmt: skip
            for local in near[me][me + 1 :]:
                wait_until(partial(host.listens, tunnel, local), f"The tunnel of {host.name}")
            if me:
                wait_until(partial(vps.listens, server, meeting[me]), f"The port of {host.name}")
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
