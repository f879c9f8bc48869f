"""A forward's way over its sender's node, the database and its recipient's node: played out, in closed form.

A node works through what comes to it one after another: forwards, deliveries, acknowledgements, and whatever
else its users do, as one stream of small pieces. Each kind of work takes exponential times around what was
measured. What is to be written waits for the node's last group to be durable. Only sums were measured: what
remains of a live delivery without its forward is parted evenly between delivering and acknowledging, and the
database's work on a message between taking in, reading and acknowledging.
"""

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from didmpc.bench.capacity.demand import LOOKED_AT, commits, elsewhere, node, rates
from didmpc.bench.capacity.events import Clock, GroupCommit, Servers, Then
from didmpc.bench.capacity.queueing import mean_wait
from didmpc.bench.capacity.values import Values

MOST_GROUP = 512
WARM = 0.25
"""Of the time, not counted: everything begins empty."""


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds that one piece takes, and pieces in a second on each node or in the whole database."""

    forward: float
    deliver: float
    acknowledge: float
    piece: float
    pieces: float
    row: float
    commit: float
    durable: float
    hop: float
    rate: float
    """Forwards to one node in a second."""
    nodes: int
    node_cores: int
    database_cores: int
    online: float
    queries: float
    """Seconds of the database's CPU in a second for all that is no message."""


def work(values: Values, users: float, serving: int) -> Work:
    rate, costs, has = rates(values, users), values.figures, values.machines
    each = rate.forwards / serving
    # Ringing and answering belong to a delivery; links that idle, to what else there is.
    cross = elsewhere(serving)
    tail = max(0.0, costs.live_us - costs.forward_us) / 2e6
    forward = costs.forward_us / 1e6
    deliver = tail + cross * costs.doorbell_us / 1e6
    cpu = node(values, users, serving)[0]
    rest = max(
        0.0,
        cpu.users / serving + cpu.own - each * (forward + values.users.online * (deliver + tail)),
    )
    piece = forward / 2
    # Commits that are no group of messages, and looking for mail whose doorbell was lost.
    queries = (
        (rate.attaches + serving / has.lease_seconds) * costs.commit_us
        + serving * rate.waiting * LOOKED_AT * costs.look_us
    ) / 1e6
    return Work(
        forward=forward,
        deliver=deliver,
        acknowledge=tail,
        piece=piece,
        pieces=rest / piece,
        row=costs.database_us / 3e6,
        commit=costs.commit_us / 1e6,
        durable=costs.commit_ms / 1e3,
        hop=costs.link_hop_ms / 1e3,
        rate=each,
        nodes=serving,
        node_cores=max(1, int(has.node_cores)),
        database_cores=max(1, int(has.database_cores)),
        online=values.users.online,
        queries=queries,
    )


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it; times in seconds."""

    messages: int
    accepted: tuple[float, ...]
    delivered: tuple[float, ...]
    """Sorted, as `accepted` is."""
    node_busy: float
    database_busy: float
    commits_per_second: float

    @property
    def mean_accepted(self) -> float:
        return statistics.fmean(self.accepted)

    @property
    def mean_delivered(self) -> float:
        return statistics.fmean(self.delivered) if self.delivered else 0.0


def percentile(sorted_times: tuple[float, ...], share: float) -> float:
    return sorted_times[min(len(sorted_times) - 1, int(share * len(sorted_times)))] if sorted_times else 0.0


def play(of: Work, messages: int, seed: int) -> Played:
    """Play out about so many messages, a quarter of them to get warm."""
    chance = random.Random(seed)  # noqa: S311  (the same seed is to give the same play)
    clock = Clock()
    database = Servers(clock, of.database_cores)
    seconds = messages / (of.rate * of.nodes)
    begin, end = seconds * WARM, seconds
    accepted: list[float] = []
    delivered: list[float] = []
    put = 0

    def around(mean: float) -> float:
        return chance.expovariate(1 / mean) if mean > 0 else 0.0

    def commit(rows: int, done: Then) -> None:
        service = of.commit + rows * of.row
        database.serve(service, lambda: clock.after(max(0.0, of.durable - service), done))

    nodes = [Servers(clock, of.node_cores) for _ in range(of.nodes)]
    incoming = [GroupCommit(commit, MOST_GROUP) for _ in nodes]
    acknowledged = [GroupCommit(commit, MOST_GROUP) for _ in nodes]

    def forward(near: int) -> None:
        nonlocal put
        came = clock.now
        put += 1

        def durable() -> None:
            if came >= begin:
                accepted.append(clock.now - came)
            if chance.random() < of.online:
                far = chance.randrange(of.nodes)
                clock.after(of.hop if far != near else 0.0, lambda: ring(far, came))

        nodes[near].serve(around(of.forward), lambda: incoming[near].put(durable))

    def ring(far: int, came: float) -> None:
        def pushed() -> None:
            if came >= begin:
                delivered.append(clock.now - came)
            nodes[far].serve(around(of.acknowledge), lambda: acknowledged[far].put(lambda: None))

        database.serve(of.row, lambda: nodes[far].serve(around(of.deliver), pushed))

    def stream(rate: float, act: Then) -> None:
        """Have something happen at random, so often in a second, until the end."""
        if rate <= 0:
            return

        def happen() -> None:
            act()
            again()

        def again() -> None:
            wait = chance.expovariate(rate)
            if clock.now + wait < end:
                clock.after(wait, happen)

        again()

    def nothing() -> None:
        pass

    def acting(what: Callable[[int], None], number: int) -> Then:
        return lambda: what(number)

    def piece(number: int) -> None:
        nodes[number].serve(around(of.piece), nothing)

    for number in range(of.nodes):
        stream(of.rate, acting(forward, number))
        stream(of.pieces, acting(piece, number))
    if of.queries:
        query = max(of.commit, of.row)
        stream(of.queries / query, lambda: database.serve(query, nothing))
    clock.run(end)
    return Played(
        put,
        tuple(sorted(accepted)),
        tuple(sorted(delivered)),
        sum(each.busy for each in nodes) / of.nodes / of.node_cores / end,
        database.busy / of.database_cores / end,
        sum(each.groups for each in (*incoming, *acknowledged)) / end,
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """Means in closed form, in seconds; `inf` where more comes than is done."""

    accepted: float
    delivered: float


def expected(of: Work) -> Expected:
    """Each station by itself, as if all that comes to it came at random."""
    kinds = [
        (of.rate, of.forward),
        (of.rate * of.online, of.deliver),
        (of.rate * of.online, of.acknowledge),
        (of.pieces, of.piece),
    ]
    rate = sum(each for each, _ in kinds)
    mean = sum(each * service for each, service in kinds) / rate
    # Exponential each: E[S^2] = 2 E[S]^2 within a kind, and more for the mixture.
    variation = 2 * sum(each * service**2 for each, service in kinds) / rate / mean**2 - 1
    node_wait = mean_wait(rate, mean, of.node_cores, variation)

    in_group = commits(of.rate, of.durable)
    acknowledged = commits(of.rate * of.online, of.durable) if of.online else 0.0
    statements = of.nodes * (in_group + acknowledged)
    reads = of.nodes * of.rate * of.online
    written = of.nodes * of.rate * (1 + of.online) * of.row
    asked = statements + reads + (of.queries / max(of.commit, of.row) if of.queries else 0.0)
    busy = statements * of.commit + written + reads * of.row + of.queries
    database_wait = mean_wait(asked, busy / asked, of.database_cores, 1.0) if asked else 0.0

    # Who comes while a group is under way (that share of the time) waits for half of it on average.
    durable = max(of.durable, of.commit + of.row) + database_wait
    grouping = min(1.0, commits(of.rate, durable) * durable) * durable / 2
    accepted = node_wait + of.forward + grouping + durable
    cross = elsewhere(of.nodes)
    return Expected(accepted, accepted + cross * of.hop + database_wait + of.row + node_wait + of.deliver)
