"""How many nodes a number of users needs, what is full first, and where each part ends."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from didmpc.bench.capacity.demand import NodePart, Part, database, groups, node, rates, single
from didmpc.bench.capacity.values import Values

MOST_USERS = 1e12
PRECISION = 1e-5
SENSITIVE = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Size:
    """What a number of users needs, on one cluster."""

    users: float
    nodes: int | None
    """With the spare ones; None where no number of nodes is enough."""
    node_parts: tuple[NodePart, ...]
    serving: int
    parts: tuple[Part, ...]
    """The nodes' own fullness first."""
    figures: dict[str, float]

    @property
    def bottleneck(self) -> Part:
        return max(self.parts, key=lambda part: part.fullness)

    @property
    def fits(self) -> bool:
        return self.nodes is not None and self.bottleneck.fullness <= 1 + PRECISION


def users_per_mediator(values: Values) -> tuple[float, str]:
    """How many users one mediator on SQLite serves, and what it is full of then."""
    users = _largest(lambda users: all(part.fullness(1) <= 1 for part in single(values, users)))
    return users, max(single(values, users), key=lambda part: part.fullness(1)).name


def nodes_for(values: Values, users: float) -> tuple[int | None, str]:
    """The fewest nodes that serve so many users, without spare ones; and what they are full of.

    What nodes do for themselves grows with their number, so this is the least fixed point of "as many as are
    needed where there are so many": it begins below, never passes it by, and there may be none.
    """
    spare = math.ceil(values.machines.spare_nodes)
    serving = 1
    while True:
        parts = node(values, users, serving + spare)
        over = [part for part in parts if part.own >= part.has]
        if over:
            return None, over[0].name
        needed = [part.users / (part.has - part.own) for part in parts]
        name = parts[needed.index(max(needed))].name
        enough = max(1, math.ceil(max(needed) - PRECISION))
        if enough <= serving:
            return serving, name
        serving = enough


def size(values: Values, users: float) -> Size:
    """All about one number of users."""
    serving, full = nodes_for(values, users)
    spare = math.ceil(values.machines.spare_nodes)
    # Where links take all of a node, what is told is of as many nodes as their users alone would need.
    count = serving if serving is not None else _without_links(values, users)
    nodes = count + spare
    node_parts = tuple(node(values, users, nodes))
    fullest = max(node_parts, key=lambda part: part.fullness(count))
    shown = Part(
        f"node {full if serving is None else fullest.name}",
        fullest.unit,
        fullest.fullness(count) * fullest.has,
        fullest.has,
    )
    parts = (shown, *database(values, users, nodes, count))
    rate = rates(values, users)
    links = nodes * (nodes - 1) / 2
    return Size(
        users,
        None if serving is None else nodes,
        node_parts,
        count,
        parts,
        {
            "forwards_per_second": rate.forwards,
            "deliveries_per_second": rate.live,
            "packets_per_second": rate.packets,
            "packets_between_nodes_per_second": rate.packets * (nodes - 1) / nodes,
            "doorbells_per_second": rate.live * (nodes - 1) / nodes,
            "database_rows_written_per_second": 2 * rate.forwards + rate.attaches,
            "database_commits_per_second": groups(values, rate, count)
            + rate.attaches
            + nodes / values.machines.lease_seconds,
            "database_connections": nodes * values.machines.pool,
            "live_rows": rate.online,
            "links": links,
            "links_per_node": nodes - 1,
            "stored_messages": rate.stored,
        },
    )


def _without_links(values: Values, users: float) -> int:
    parts = node(values, users, 10**9)
    base = node(values, users, 1)
    return max(
        1, math.ceil(max(each.users / (one.has - one.own) for each, one in zip(parts, base, strict=True)))
    )


@dataclass(frozen=True, slots=True)
class End:
    """The number of users with which a part of one cluster is full."""

    name: str
    users: float


def ends(values: Values) -> list[End]:
    """Each part of a cluster, in the order in which they end as users come; the first is the bottleneck."""
    names = [part.name for part in database(values, 1, 1, 1)]

    def fits(number: int) -> Callable[[float], bool]:
        def check(users: float) -> bool:
            serving, _ = nodes_for(values, users)
            if serving is None:
                return False
            nodes = serving + math.ceil(values.machines.spare_nodes)
            return database(values, users, nodes, serving)[number].fullness <= 1

        return check

    found = [End(name, _largest(fits(number))) for number, name in enumerate(names)]
    # A part of which users ask more than there is of it ends by itself, not when the links have ended nodes.
    links = _largest(lambda users: nodes_for(values, users)[0] is not None)
    found = [each for each in found if each.users < links * (1 - PRECISION)]
    return sorted([*found, End("links between nodes", links)], key=lambda end: end.users)


def _first_end(values: Values) -> End:
    """The first of `ends`, found in one go."""

    def fits(users: float) -> bool:
        return nodes_for(values, users)[0] is not None and size(values, users).fits

    users = _largest(fits)
    if not math.isfinite(users) or users < 1:
        return End("nothing", users)
    beyond = size(values, users * (1 + 10 * PRECISION) + 1)
    parts = beyond.parts[1:]
    fullest = max(parts, key=lambda part: part.fullness)
    return End(
        "links between nodes" if beyond.nodes is None and fullest.fullness < 1 else fullest.name, users
    )


def _largest(fits: Callable[[float], bool]) -> float:
    """The largest number of users that fits, to a millionth; 0 where none does, `inf` where all do."""
    if not fits(1.0):
        return 0.0
    low, high = 1.0, 2.0
    while fits(high):
        low, high = high, high * 2
        if high > MOST_USERS:
            return math.inf
    while high - low > PRECISION * low:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What comes of it when one value is half, or twice, of what it is."""

    name: str
    users: tuple[float, ...]
    """Of one cluster, as shares of those with the value as it is."""
    first: tuple[str, ...]


def sensitivity(values: Values, names: Sequence[str] | None = None) -> list[Sensitivity]:
    """How the users of one cluster depend on each value; the strongest first, and none without effect."""
    base = _first_end(values)
    found: list[Sensitivity] = []
    for _, name, value, _ in values.rows():
        if value == 0 or (names is not None and name not in names):
            continue
        changed: list[End] = []
        for factor in SENSITIVE:
            most = 0.999 if name in ("utilisation", "online", "in_session") else math.inf
            changed.append(_first_end(values.set(name, min(value * factor, most))))
        row = Sensitivity(
            name,
            tuple(each.users / base.users if base.users else math.nan for each in changed),
            tuple(each.name for each in changed),
        )
        if any(abs(share - 1) > 0.01 for share in row.users):
            found.append(row)
    return sorted(found, key=lambda row: -max(abs(math.log(share)) for share in row.users if share > 0))
