"""Processes below this one: their CPU time, and how many they are."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from didmpc.bench.processes import command_line

_LEAST = 0.02
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def seconds_below(pid: int, *, without: frozenset[int] = frozenset()) -> float:
    """User and system time of the descendants of `pid` so far, those that ended and were waited for included.

    Not of `pid` itself, and of nothing at or below the processes `without`. Take differences of it.
    """
    found = _processes()
    total = found[pid].ended if pid in found else 0.0
    return total + sum(found[each].own + found[each].ended for each in _below(pid, found, without))


def processes_below(pid: int) -> int:
    """How many descendants of `pid` there are."""
    return sum(1 for _ in _below(pid, _processes(), frozenset()))


class Kinds:
    """Which processes below this one use CPU time from now on, by what they run; `look` again and again."""

    def __init__(self, *, without: frozenset[int] = frozenset()) -> None:
        self._without = without
        self._kinds: dict[int, str] = {}
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self.look()
        self._first = dict(self._last)

    def look(self) -> None:
        """Of a process that ends only what it used until the last look is known."""
        found = _processes()
        for pid in _below(os.getpid(), found, self._without):
            self._last[pid] = found[pid].own
            # Again each time: who starts a program is first a copy of itself.
            self._kinds[pid] = kind(command_line(pid)) or self._kinds.get(pid, "")

    def seconds(self) -> dict[str, float]:
        """Of each kind together; the most first."""
        used: dict[str, float] = {}
        for pid, last in self._last.items():
            name = self._kinds[pid] or "others"
            used[name] = used.get(name, 0.0) + last - self._first.get(pid, 0.0)
        return {
            name: round(seconds, 2)
            for name, seconds in sorted(used.items(), key=lambda each: -each[1])
            if seconds >= _LEAST
        }


def kind(words: list[str]) -> str:
    """What a command line runs: a Python's module or script, the first words of `didmpc`, or the command."""
    name = Path(words[0]).name if words else ""
    if not name.startswith("python"):
        return name
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        rest = rest[1:]
    if not rest or rest[0] == "-c":
        return "python"
    if rest[0] == "-m":
        return rest[1] if len(rest) > 1 else "python"
    script = Path(rest[0]).name
    return " ".join([script, *rest[1:2]]) if script == "didmpc" else script


class Others:
    """How busy the rest of the machine is from now on."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy(), self._used()

    def share(self) -> float:
        """Of all cores since then, what was not used by this process and what it started, from 0 to 1."""
        passed = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, (_busy() - self._busy) - (self._used() - self._own)) / max(passed, 0.01)

    @staticmethod
    def _used() -> float:
        return time.process_time() + seconds_below(os.getpid())


def _busy() -> float:
    """CPU seconds of all processes, and of the kernel for them, since the machine was started."""
    user, nice, system, _, _, _, soft_interrupts, *_ = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    )
    return (user + nice + system + soft_interrupts) / _TICK


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    own: float
    ended: float
    """Of children that it has waited for."""


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            # The name may hold anything, so fields are counted from its closing parenthesis.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            own, ended = (sum(map(int, fields[at : at + 2])) / _TICK for at in (11, 13))
            found[int(entry.name)] = _Process(int(fields[1]), own, ended)
    return found


def _below(pid: int, found: dict[int, _Process], without: frozenset[int]) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for each, process in found.items():
        children.setdefault(process.parent, []).append(each)
    waiting = [child for child in children.get(pid, []) if child not in without]
    while waiting:
        yield (each := waiting.pop())
        waiting += [child for child in children.get(each, []) if child not in without]
