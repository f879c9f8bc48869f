"""Processes of this machine, looked at from outside through /proc, as an administrator would."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

KIB = 1024


def command_line(pid: int) -> list[str]:
    """Its arguments; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def socket_inodes(pid: int) -> set[str]:
    """The inodes of its sockets."""
    found = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def resident_bytes(pid: int) -> int:
    """Its memory of its own: resident, and neither shared nor of files; 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * KIB
    return 0


def inodes_of_ports(ports: Iterable[int]) -> dict[str, int]:
    """The TCP sockets on IPv4 that have one of these local ports: inode and port."""
    wanted, found = set(ports), {}
    for row in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        columns = row.split()
        port = int(columns[1].rpartition(":")[2], 16)
        if port in wanted and columns[9] != "0":  # 0: it was closed, and still waits
            found[columns[9]] = port
    return found
