"""CPU time of processes, as exact as the scheduler knows it."""

import os
from contextlib import suppress
from pathlib import Path


def running(pid: int) -> float:
    """Seconds of all threads of a process that have not ended; 0 where there is no such process."""
    spent = 0
    for entry in _tasks(pid):
        with suppress(OSError, ValueError):
            spent += int((entry / "schedstat").read_text().split()[0])
    return spent / 1e9


def of_ended_children(pid: int) -> float:
    """Seconds of the processes that it has started and waited for."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def children(pid: int) -> list[int]:
    found: list[int] = []
    for entry in _tasks(pid):
        with suppress(OSError):
            found += map(int, (entry / "children").read_text().split())
    return found


def _tasks(pid: int) -> list[Path]:
    with suppress(OSError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []
