"""Looking at processes from outside, as an administrator would."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from didmpc.bench.cluster import Cluster, Party, Running
from didmpc.bench.processes import command_line, socket_inodes

LISTEN = "0A"


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for a condition; `AssertionError` when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"this did not come in {seconds:g} s"
        time.sleep(0.02)


def all_say(running: Iterable[Running], text: str, seconds: float = 120.0) -> None:
    """Wait until each has printed `text`; one that ends before fails the test with its words."""
    each = list(running)

    def said() -> bool:
        for one in each:
            ended = one.process.poll() is not None
            assert text in one.stdout or not ended, f"{one.command}\n{one.stdout}\n{one.stderr}"
        return all(text in one.stdout for one in each)

    until(said, seconds)


def process_of(party: Party, module: str) -> int:
    """The process of a party that runs `python -m MODULE`, in a sandbox or not."""
    found = [pid for pid in party.cluster.processes(party.home) if runs(command_line(pid), module)]
    assert len(found) == 1, f"{len(found)} processes of {party.name} run {module}"
    return found[0]


def runs(words: list[str], module: str) -> bool:
    """Whether this is the command line of a module's own process, not that of the sandbox around it."""
    return module in words and Path(words[0]).name != "bwrap"


def party_processes(cluster: Cluster) -> dict[int, list[str]]:
    """All processes of all parties: agents, channels, programs, and the commands in the foreground."""
    return {pid: command_line(pid) for party in cluster.parties for pid in cluster.processes(party.home)}


def network_sockets(pid: int, state: str | None = None) -> list[str]:
    """Local addresses of the TCP and UDP sockets of a process, all of them or those in one state."""
    inodes = socket_inodes(pid)
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        try:
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            # A datagram socket has no state of listening: bound is enough for one.
            if columns[9] in inodes and (state is None or columns[3] == state or table.startswith("udp")):
                found.append(f"{table} {columns[1]}")
    return found
