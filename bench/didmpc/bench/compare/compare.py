"""The comparison: every contender on every network, each run paired with the references."""

import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from didmpc.bench.compare import measure, programs
from didmpc.bench.compare.contender import Contender, contenders
from didmpc.bench.compare.fleet.network import connected
from didmpc.bench.compare.fleet.plan import Fleet
from didmpc.bench.compare.hosts import HostError, Network, loopback
from didmpc.bench.compare.lab import Lab, Site, lab
from didmpc.bench.compare.measure import HELLO_WITHIN, Exposure, Measured
from didmpc.bench.compare.profiles import PROFILES, Profile
from didmpc.bench.compare.programs import Work
from didmpc.protocols.errors import LocalMisuse

LOOPBACK = "loopback"
REFERENCE, RELAY = "tcp", "relay"
SITES: dict[str, tuple[Site, ...]] = {str(site): (site,) for site in Site} | {
    "one open, the others port-restricted": (Site.OPEN, Site.PORT_RESTRICTED, Site.PORT_RESTRICTED),
    "symmetric among port-restricted": (Site.PORT_RESTRICTED, Site.SYMMETRIC, Site.PORT_RESTRICTED),
}
"""How the three parties of `nat` are connected, in turn."""
TRIES = 2
REACH_WITHIN = 25.0
"""Seconds; longer for who needed a third of that, or more, where all is open."""
ROUNDS_AROUND_CUT = 15.0
"""Seconds of rounds, so that a program is in the middle of them when the cut comes."""
CUT_PATIENCE = 75.0
COMPARED = ("round_ms", "bulk_seconds", "program_seconds")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    folder: Path
    names: tuple[str, ...]
    profiles: tuple[str, ...] = ("lan",)
    parties: tuple[int, ...] = (3,)
    repeats: int = 3
    rounds: int = 100
    size: int = 1 << 20
    times: int = 2
    demos: tuple[tuple[Path, tuple[str, ...]], ...] = ()
    exposure: bool = False
    cut: bool = False
    nat: bool = False
    fleet: Fleet | None = None
    """Other machines, instead of the networks of `profiles`."""
    say: Callable[[str], None] = print


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The contenders of these names, or all. Raises LocalMisuse."""
    known = contenders()
    wanted = tuple(names) or tuple(known)
    if unknown := [name for name in wanted if name not in known]:
        raise LocalMisuse(
            f"There is no contender {', '.join(unknown)}.",
            why=f"There are: {', '.join(known)}.",
            fix="didmpc bench list says what each of them is.",
        )
    return wanted


def chosen_networks(names: Iterable[str]) -> tuple[str, ...]:
    """The networks of these names; none: the loopback for want of root, else `lan`. Raises LocalMisuse."""
    known = (LOOPBACK, *PROFILES)
    wanted = tuple(names) or (("lan",) if os.geteuid() == 0 else (LOOPBACK,))
    if unknown := [name for name in wanted if name not in known]:
        raise LocalMisuse(f"There is no profile {', '.join(unknown)}.", why=f"There are: {', '.join(known)}.")
    return wanted


def compare(plan: Plan) -> Json:
    """What takes how long; what a contender cannot do is part of it. Raises HostError without hosts."""
    result: Json = {"runs": [], "exposure": [], "cut": [], "nat": []}
    if plan.fleet is not None:
        return result | _compare_fleet(plan, plan.fleet)
    for parties in plan.parties:
        for name in plan.profiles:
            if name == LOOPBACK:
                result["runs"] += _compare_on(loopback(plan.folder / f"loopback-{parties}", parties), plan)
                continue
            with lab(plan.folder / f"{name}-{parties}", parties, profile=PROFILES[name]) as made:
                result["runs"] += _compare_on(made.network, plan, _not_counted(made), made.delayed_by)
    return result


def observe(plan: Plan) -> Json:
    """What has no clock: what can be seen, what is survived, what works behind what. Raises HostError."""
    result: Json = {"exposure": [], "cut": [], "nat": []}
    if plan.exposure:
        with lab(plan.folder / "exposure", 3, profile=Profile("exposure"), exact=True) as made:
            result["exposure"] = _each(
                plan, made.network, lambda one, stack: _exposure(plan, made, one, stack)
            )
    if plan.cut:
        with lab(plan.folder / "cut", 3, profile=Profile("cut", round_trip=0.02)) as made:
            result["cut"] = _each(plan, made.network, lambda one, stack: _cut(plan, made, one, stack))
    if plan.nat:
        result["nat"] = _nat(plan)
    return result


def _nat(plan: Plan) -> list[Json]:
    found: list[Json] = []
    needed: dict[str, float] = {}
    for number, (name, sites) in enumerate(SITES.items()):
        with lab(plan.folder / f"nat-{number}", 3, profile=Profile(name), sites=sites) as made:

            def body(one: Contender, stack: ExitStack, network: Network = made.network) -> Json:
                patience = min(max(REACH_WITHIN, 3 * needed.get(one.name, HELLO_WITHIN)), 2 * HELLO_WITHIN)
                return _reach(plan, network, one, stack, patience)

            entries = _each(plan, made.network, body)
        for entry in entries:
            needed.setdefault(entry["contender"], entry.get("seconds", 0.0))
        found += [{"site": name} | entry for entry in entries]
    return found


def shares(plan: Plan) -> list[Plan]:
    """What can be observed at the same time as the rest of it, each in a folder of its own.

    Contenders that come later in tables take longer, and NATs longest: those begin.
    """
    shares = [
        replace(plan, names=(name,), exposure=False, cut=False) for name in reversed(plan.names) if plan.nat
    ]
    shares += [
        replace(plan, names=(name,), nat=False) for name in reversed(plan.names) if plan.exposure or plan.cut
    ]
    return [replace(share, folder=plan.folder / f"share-{number}") for number, share in enumerate(shares)]


def merge(plan: Plan, observed: Iterable[Json]) -> Json:
    """What the shares have observed, in the order of the whole."""
    found = list(observed)

    def order(entry: Json) -> tuple[int, int]:
        return list(SITES).index(entry["site"]) if "site" in entry else 0, plan.names.index(
            entry["contender"]
        )

    return {
        part: sorted((entry for each in found for entry in each[part]), key=order)
        for part in ("exposure", "cut", "nat")
    }


def _compare_fleet(plan: Plan, fleet: Fleet) -> Json:
    """Hosts stay connected from the first contender to the last."""
    found: Json = {"runs": []}
    known = contenders()
    with connected(fleet.with_parties(max(plan.parties)), plan.say) as network:
        found["hosts"] = network.about()
        for parties in plan.parties:
            found["runs"] += _compare_on(network.with_parties(parties), plan)
        found["software"] = {
            name: network.versions(known[name])
            for name in plan.names
            if known[name].reason_to_skip(network) is None
        }
        for about, after in zip(found["hosts"], network.about(), strict=True):
            about["load_after"] = after["load_before"]
    return found


def _not_counted(made: Lab) -> frozenset[int]:
    return frozenset({made.delay_box.pid} if made.delay_box else ())


def _each(plan: Plan, network: Network, body: Callable[[Contender, ExitStack], Json]) -> list[Json]:
    """What `body` finds for each contender, or why there is nothing. Who fails is set up anew once."""
    known = contenders()
    return [_one(plan, network, known[name], body) for name in plan.names]


def _one(plan: Plan, network: Network, one: Contender, body: Callable[[Contender, ExitStack], Json]) -> Json:
    entry: Json = {"contender": one.name, "title": one.title, "reference": one.reference}
    for attempt in range(TRIES):
        try:
            if reason := one.reason_to_skip(network):
                return entry | {"skipped": reason}
            plan.say(f"{network.name}, {len(network.parties)} parties: {one.title}{', anew' * attempt}")
            with ExitStack() as stack:
                stack.callback(network.stop)
                return entry | body(one, stack)
        except HostError as error:
            entry |= {"failed" if attempt == TRIES - 1 else "failed_at_first": str(error)}
    return entry


# --- time


def _compare_on(
    network: Network, plan: Plan, not_counted: frozenset[int] = frozenset(), delayed_by: str = ""
) -> list[Json]:
    folder = plan.folder / "work"
    works = [programs.micro(folder / "micro", rounds=plan.rounds, size=plan.size, times=plan.times)]
    works += [programs.demo(folder / program.stem, program, *arguments) for program, arguments in plan.demos]

    def body(one: Contender, stack: ExitStack) -> Json:
        return _paired(one, stack, network, plan, works, not_counted)

    where = {
        "network": network.name,
        "parties": len(network.parties),
        "delayed_by": delayed_by,
        "work": {"rounds": plan.rounds, "block_bytes": plan.size, "blocks": plan.times},
    }
    return [where | entry for entry in _each(plan, network, body)]


def _paired(
    one: Contender,
    stack: ExitStack,
    network: Network,
    plan: Plan,
    works: Sequence[Work],
    without: frozenset[int],
) -> Json:
    known, hello = contenders(), measure.hello(plan.folder / "work" / "hello")
    side_by_side: dict[str, Measured] = {}
    for name in (REFERENCE, *([RELAY] if one.relayed else ())):
        if name != one.name:
            side_by_side[name] = measure.connect(stack, known[name], network, hello)
    for host in network.hosts:
        host.steps.clear()  # those of the references
    own = side_by_side[one.name] = measure.connect(stack, one, network, hello)
    effort = measure.effort(network)
    runs: list[Json] = []
    for what in works:
        for _ in range(plan.repeats):
            run: Json = {"work": what.name}
            for name, each in side_by_side.items():
                run[name] = each.run(what, without=without)
                run[name].pop("said")
            runs.append(run)
    where = own.where(works[0], without=without) if network.is_near else {}
    return {
        "relayed": one.relayed,
        "cpu_by_process": where,
        "setup_seconds": own.setup_seconds,
        "processes": own.processes,
        "effort": effort,
        "measured": runs,
        "figures": _figures(runs, one.name),
        "added_round_ms": _added(runs, one.name),
        "ratios": {name: ratios(runs, one.name, name) for name in side_by_side if name != one.name},
    }


def _figures(runs: Sequence[Json], name: str) -> Json:
    found: Json = {}
    for run in runs:
        for figure, value in run[name].items():
            found.setdefault(run["work"], {}).setdefault(figure, []).append(value)
    return {
        what: {figure: statistics.median(values) for figure, values in figures.items()}
        for what, figures in found.items()
    }


def _added(runs: Sequence[Json], name: str) -> float | None:
    """Milliseconds that a round takes longer than over plain TCP in the same run: the median."""
    found = [run[name]["round_ms"] - run[REFERENCE]["round_ms"] for run in runs if run["work"] == "micro"]
    return statistics.median(found) if name != REFERENCE else None


def ratios(runs: Sequence[Json], name: str, reference: str) -> Json:
    """Of `name` to `reference` in the same run: work and figure -> median, least and largest."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for figure in COMPARED:
            if figure in run[name]:
                found.setdefault(f"{run['work']} {figure}", []).append(
                    run[name][figure] / run[reference][figure]
                )
    return {
        what: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for what, values in found.items()
    }


# --- everything else


def _exposure(plan: Plan, made: Lab, one: Contender, stack: ExitStack) -> Json:
    hello = measure.hello(plan.folder / "work" / "hello")
    small = programs.micro(plan.folder / "work" / "small", rounds=50, size=1 << 18, times=2)
    return Exposure(made).of(one, stack, hello, small)


def _cut(plan: Plan, made: Lab, one: Contender, stack: ExitStack) -> Json:
    folder = plan.folder / "work"
    measured = measure.connect(stack, one, made.network, measure.hello(folder / "hello"))
    few = measured.run(programs.micro(folder / "few", rounds=10, size=1024, times=1))
    rounds = max(10, round(1000 * ROUNDS_AROUND_CUT / few["round_ms"]))
    long = programs.micro(folder / "long", rounds=rounds, size=1024, times=1)
    # Other contenders are observed meanwhile, and may slow it down.
    return measure.survives_cut(measured, made, long, within=CUT_PATIENCE + 4 * ROUNDS_AROUND_CUT)


def _reach(plan: Plan, network: Network, one: Contender, stack: ExitStack, patience: float) -> Json:
    try:
        measured = measure.connect(
            stack, one, network, measure.hello(plan.folder / "work" / "hello"), within=patience
        )
    except HostError as error:
        return {"works": False, "why": str(error)}
    return {"works": True, "seconds": measured.setup_seconds}
