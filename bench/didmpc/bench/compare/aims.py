"""What the comparison is to show of didmpc, and whether a result shows it: pure, of the figures alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from didmpc.bench.compare.profiles import MEGABIT, PROFILES

OWN, MESSAGES, RELAY = "didmpc", "didmpc-didcomm", "relay"
FAR_MS = 10.0
"""From this round trip on distance decides, and no longer the cores."""
FAR, NEAR, BULK = 1.05, 1.6, 1.5
BULK_RATE = 100 * MEGABIT
_SHARED_CORES = ("loopback", "lan")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aim:
    """One thing to show: a median ratio that is to be at most `wanted` (None: only to be seen)."""

    what: str
    where: str
    value: float
    least: float
    largest: float
    wanted: float | None

    @property
    def met(self) -> bool | None:
        return None if self.wanted is None else self.value <= self.wanted

    def verdict(self) -> str:
        """In words."""
        if self.wanted is None:
            return "reported"
        # What would be rounded to the aim is not called a miss by nothing.
        return "met" if self.met else f"missed by {self.value - self.wanted:.3f}"

    def as_json(self) -> Json:
        return {
            "what": self.what,
            "where": self.where,
            "value": self.value,
            "min": self.least,
            "max": self.largest,
            "at_most": self.wanted,
            "met": self.met,
        }


def aims(result: Json) -> list[Aim]:
    """Those that the result has figures for."""
    return [aim for entry in result["runs"] for aim in _of(entry, result)]


def _of(entry: Json, result: Json) -> Iterator[Aim]:
    if entry["contender"] not in (OWN, MESSAGES) or "ratios" not in entry:
        return
    where = f"{entry['network']}, {entry['parties']} parties"
    ratios = entry["ratios"].get(RELAY, {})
    if entry["contender"] == MESSAGES:
        yield from _aim("rounds as DIDComm messages, times the relay", where, ratios.get(_ROUNDS), None)
        return
    trip = _round_trip(entry)
    works = {_ROUNDS: "rounds"} | {
        name: name.removesuffix(_PROGRAM) for name in ratios if name.endswith(_PROGRAM)
    }
    for name, shown in works.items():
        if trip >= FAR_MS:
            yield from _aim(f"{shown}, times the relay", where, ratios.get(name), FAR)
        elif entry["network"] in _SHARED_CORES:
            cores, processes = result["machine"]["cores"], entry.get("processes", "an unknown number of")
            shared = f"{where}; {cores} cores, {processes} processes"
            wanted = NEAR if name == _ROUNDS else None
            yield from _aim(f"{shown}, times the relay", shared, ratios.get(name), wanted)
    profile = PROFILES.get(entry["network"])
    if profile is not None and profile.rate == BULK_RATE:
        yield from _aim("bulk at 100 Mbit/s, times the relay", where, ratios.get(_BULK), BULK)


_ROUNDS, _BULK, _PROGRAM = "micro round_ms", "micro bulk_seconds", " program_seconds"


def _aim(what: str, where: str, ratio: Json | None, wanted: float | None) -> Iterator[Aim]:
    if ratio:
        yield Aim(what, where, ratio["median"], ratio["min"], ratio["max"], wanted)


def _round_trip(entry: Json) -> float:
    """Milliseconds that a round over plain TCP took in the same runs: little more than the distance."""
    found = sorted(run["tcp"]["round_ms"] for run in entry["measured"] if "round_ms" in run["tcp"])
    return float(found[len(found) // 2]) if found else 0.0
