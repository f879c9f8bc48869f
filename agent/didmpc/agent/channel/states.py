"""What a party's program does, as its heartbeats say it: for people, and to suspect a deadlock.

{"state": "computing" | "waiting" | "reading" | "exited", "since": Unix time}
and of one that waits   "for": {pid: labels}, "also": what else than a message could wake it
and if nothing else can "sent": {pid: bytes}, "got": {pid: bytes}, "left": [pids that have ended]
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = ("computing", "waiting", "reading", "exited")
WAKERS = ("computation", "timer", "stdin", "thread", "other")
_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What passed between the program and each peer's when nothing but a message could wake it."""

    sent: Mapping[int, int]
    got: Mapping[int, int]
    left: frozenset[int]

    def to_json(self) -> dict[str, Any]:
        """For a heartbeat."""
        return {"sent": _keyed(self.sent), "got": _keyed(self.got), "left": sorted(self.left)}


@dataclass(frozen=True, slots=True)
class Doing:
    """One party's state. `snapshot` is there while nothing but a message could wake its program."""

    state: str = "computing"
    since: int = 0
    waits: Mapping[int, int] = field(default_factory=dict)
    """Labels awaited, by party."""
    also: tuple[str, ...] = ()
    snapshot: Snapshot | None = None

    @classmethod
    def read(cls, said: Mapping[str, Any], pids: Collection[int]) -> "Doing":
        """What a program or a peer says; whatever makes no sense in it is left out."""
        state = said.get("state")
        if state not in STATES:
            return cls()
        since = _count(said.get("since")) or 0
        if state != "waiting":
            return cls(state, since)
        also = said.get("also")
        also = tuple(name for name in WAKERS if isinstance(also, list) and name in also)
        return cls(state, since, _counts(said.get("for"), pids), also, _snapshot(said, pids))

    def to_json(self) -> dict[str, Any]:
        """For the heartbeats."""
        told: dict[str, Any] = {"state": self.state, "since": self.since}
        if self.state == "waiting":
            told |= {"for": _keyed(self.waits), "also": list(self.also)}
        return told | (self.snapshot.to_json() if self.snapshot else {})


def _snapshot(said: Mapping[str, Any], pids: Collection[int]) -> Snapshot | None:
    left = said.get("left")
    if said.get("also") or not isinstance(left, list) or "sent" not in said or "got" not in said:
        return None
    gone = frozenset(pid for pid in left if isinstance(pid, int) and pid in pids)
    return Snapshot(_counts(said["sent"], pids), _counts(said["got"], pids), gone)


def _counts(value: object, pids: Collection[int]) -> dict[int, int]:
    if not isinstance(value, Mapping):
        return {}
    counts = ((pid, _count(value.get(str(pid)))) for pid in pids)
    return {pid: count for pid, count in counts if count is not None}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else None


def _keyed(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(pid): count for pid, count in counts.items()}


def held_up_by(everyone: Mapping[int, Doing], me: int) -> list[int]:
    """For whom we wait in the end: those on the way from us whose programs wait for nobody."""
    seen: set[int] = set()
    waiting = [me]
    while waiting:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            waiting += everyone[pid].waits if pid in everyone else ()
    return sorted(pid for pid in seen - {me} if pid not in everyone or not everyone[pid].waits)


def in_words(everyone: Mapping[int, Doing], names: Mapping[int, str], pids: Iterable[int]) -> str:
    """Who waits for whom, one clause for each of `pids`."""
    clauses = []
    for pid in pids:
        waits, name = everyone[pid].waits, names[pid]
        if everyone[pid].state == "exited":
            clauses.append(f"{name}'s program has ended")
        elif waits:
            awaited = " and ".join(
                f"{'a message' if labels == 1 else f'{labels} messages'} of {names[other]}'s"
                for other, labels in sorted(waits.items())
            )
            clauses.append(f"{name}'s program waits for {awaited}")
        else:
            clauses.append(f"{name}'s program waits for something that is no message")
    return "; ".join(clauses)
