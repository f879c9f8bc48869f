"""What so many users ask of each part of a mediator, and of a cluster. Rates are per second."""

import math
from dataclasses import dataclass

from didmpc.bench.capacity.values import Values

DAY = 24 * 3600
MIB = 1024 * 1024
GIB = 1024 * MIB
LOOKED_AT = 2
"""Times that a node looks at a message that waits."""
HEAD = 60
"""Bytes of TCP and IP with each packet."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What all users do together, at the busiest time."""

    forwards: float
    live: float
    """Of the forwards: to users who are on line."""
    attaches: float
    packets: float
    online: float
    """Users, not a rate."""
    stored: float
    """Messages that wait, on the mean of a day."""

    @property
    def waiting(self) -> float:
        return self.forwards - self.live


def rates(values: Values, users: float) -> Rates:
    does = values.users
    forwards = users * does.messages_per_day / DAY * does.peak
    return Rates(
        forwards=forwards,
        live=forwards * does.online,
        attaches=users * does.attaches_per_day / DAY * does.peak,
        packets=users * does.in_session * does.packets_per_second,
        online=users * does.online,
        stored=users * does.messages_per_day * (1 - does.online) * does.kept_hours / 24,
    )


def elsewhere(nodes: float) -> float:
    """The share of pairs of users whose nodes are not the same one."""
    return (nodes - 1) / nodes


@dataclass(frozen=True, slots=True)
class NodePart:
    """One thing that nodes have: what users ask of all nodes together, and each node of itself."""

    name: str
    unit: str
    users: float
    own: float
    has: float
    """In one node, and as much of it as may be used."""

    def fullness(self, serving: float) -> float:
        """The share in use where so many nodes serve; 1 is full."""
        return (self.users / serving + self.own) / self.has


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a cluster has once."""

    name: str
    unit: str
    asked: float
    has: float

    @property
    def fullness(self) -> float:
        return self.asked / self.has


def single(values: Values, users: float) -> list[NodePart]:
    """A mediator alone, on SQLite."""
    rate, costs, has = rates(values, users), values.figures, values.machines
    cpu = (
        rate.live * costs.single_live_us
        + rate.waiting * (costs.single_forward_us + costs.single_pickup_us)
        + rate.attaches * costs.attach_us
        + rate.packets * costs.packet_us
        + rate.online * costs.idle_us
    )
    disk = NodePart(
        "disk", "GB", rate.stored * costs.stored_bytes / 1e9, 0.0, has.node_disk_gb * has.utilisation
    )
    return [*_node_parts(values, rate, cpu / 1e6, links=0, cross=0.0, connections=0.0), disk]


def node(values: Values, users: float, nodes: int) -> list[NodePart]:
    """The nodes of a cluster."""
    rate, costs, has = rates(values, users), values.figures, values.machines
    cross = elsewhere(nodes)
    cpu = (
        rate.live * (costs.live_us + cross * costs.doorbell_us)
        + rate.waiting * (costs.forward_us + costs.pickup_us)
        + rate.attaches * costs.attach_us
        + rate.packets * (costs.packet_us + cross * costs.link_us)
        + rate.online * costs.idle_us
    )
    return _node_parts(values, rate, cpu / 1e6, links=nodes - 1, cross=cross, connections=has.pool)


def _node_parts(
    values: Values, rate: Rates, cpu: float, *, links: int, cross: float, connections: float
) -> list[NodePart]:
    costs, does, has = values.figures, values.users, values.machines
    usable = has.utilisation
    packet = does.packet_bytes + HEAD
    # Comes in over one link or socket, and goes out over another; a stored message goes to the database too,
    # and comes back from it.
    bytes_out = rate.forwards * costs.forward_bytes * (1 + (connections > 0)) + rate.packets * packet * (
        1 + cross
    )
    return [
        NodePart("CPU", "cores", cpu, links * costs.idle_link_us / 1e6, has.node_cores * usable),
        NodePart(
            "memory",
            "GiB",
            rate.online * costs.socket_kib * 1024 / GIB,
            (costs.node_mib * MIB + links * costs.link_kib * 1024) / GIB,
            has.node_gib * usable,
        ),
        NodePart("connections", "", rate.online, links + connections, has.node_sockets * usable),
        NodePart("network", "Mbit/s", bytes_out * 8 / 1e6, 0.0, has.node_mbit * usable),
    ]


def commits(rate: float, seconds: float) -> float:
    """Commits in a second where what comes at random waits for the last one, which takes so long.

    After each, either something waits, or (with the probability exp(-rate * seconds)) the next comes first.
    """
    if rate <= 0:
        return 0.0
    return 1 / (seconds + math.exp(-rate * seconds) / rate)


def groups(values: Values, rate: Rates, serving: float) -> float:
    """Commits of all nodes: forwards are one stream on each, and acknowledgements another."""
    seconds = values.figures.commit_ms / 1000
    return 2 * serving * commits(rate.forwards / serving, seconds)


def database(values: Values, users: float, nodes: int, serving: float) -> list[Part]:
    """The primary."""
    rate, costs, has = rates(values, users), values.figures, values.machines
    usable = has.utilisation
    grouped = groups(values, rate, serving)
    leases = nodes / has.lease_seconds
    # Every node looks at all mail that has come since its last look but one, and still waits.
    looks = nodes * rate.waiting * LOOKED_AT
    cpu = (
        rate.forwards * costs.database_us
        + (grouped + rate.attaches + leases) * costs.commit_us
        + looks * costs.look_us
    )
    wal = rate.forwards * costs.wal_bytes
    connections = nodes * has.pool
    return [
        Part("database CPU", "cores", cpu / 1e6, has.database_cores * usable),
        Part("database connections", "", connections, has.database_connections),
        Part(
            "database memory",
            "GiB",
            connections * costs.connection_mib * MIB / GIB,
            has.database_gib * usable,
        ),
        Part("database log", "MB/s", wal / 1e6, has.database_wal_mb * usable),
        Part(
            "database network",
            "Mbit/s",
            (wal * has.standbys + rate.forwards * costs.stored_bytes) * 8 / 1e6,
            has.database_mbit * usable,
        ),
        Part("database disk", "GB", rate.stored * costs.stored_bytes / 1e9, has.database_disk_gb * usable),
    ]
