"""CPU time of everything that was started below this process."""

import os
from contextlib import suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def seconds_below(pid: int, *, without: frozenset[int] = frozenset()) -> float:
    """User and system time of the descendants of `pid` so far, those that ended and were waited for included.

    Not of `pid` itself, and of nothing at or below the processes `without`. Take differences of it.
    """
    times: dict[int, tuple[int, float, float]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            # The name may hold anything, so fields are counted from its closing parenthesis.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            own, ended = (sum(map(int, fields[at : at + 2])) / _TICK for at in (11, 13))
            times[int(entry.name)] = int(fields[1]), own, ended
    children: dict[int, list[int]] = {}
    for each, (parent, _, _) in times.items():
        children.setdefault(parent, []).append(each)
    total = times[pid][2] if pid in times else 0.0
    waiting = [child for child in children.get(pid, []) if child not in without]
    while waiting:
        each = waiting.pop()
        total += times[each][1] + times[each][2]
        waiting += [child for child in children.get(each, []) if child not in without]
    return total
