"""Every quantity of the model, in three groups, each with its unit and what it means.

`Figures` come from a result file that `didmpc bench cluster --json` has written; `Users` and `Machines` are
assumptions, to be replaced by one's own.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Self

from didmpc.protocols.errors import LocalMisuse

LONGEST_FILE = 1 << 20


def _is(default: float | None, about: str) -> Any:
    return (
        field(default=default, metadata={"about": about})
        if default is not None
        else field(metadata={"about": about})
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """Measured: what each thing costs."""

    single_forward_us: float = _is(None, "us of the CPU of a mediator on SQLite for a durable forward")
    single_live_us: float = _is(None, "us of its CPU for a forward, its live delivery and acknowledgement")
    single_pickup_us: float = _is(None, "us of its CPU for a message that waited: fetched, acknowledged")
    forward_us: float = _is(None, "the same of a node on PostgreSQL: for a forward")
    live_us: float = _is(None, "for a forward, its live delivery and acknowledgement")
    pickup_us: float = _is(None, "for a message that waited")
    attach_us: float = _is(None, "us for opening a WebSocket and asking for live delivery on it")
    packet_us: float = _is(None, "us for relaying a packet of a session within a node")
    link_us: float = _is(None, "us more where its other end is on another node, both nodes together")
    doorbell_us: float = _is(None, "us more for a live delivery from another node, both nodes together")
    socket_kib: float = _is(None, "KiB of memory of an idle WebSocket")
    link_kib: float = _is(None, "KiB of memory of an idle link to another node")
    node_mib: float = _is(None, "MiB of memory of a node that serves nobody")
    idle_us: float = _is(None, "us of CPU that an idle WebSocket takes in a second")
    idle_link_us: float = _is(None, "us of CPU that an idle link takes in a second, at each end")
    link_hop_ms: float = _is(None, "ms that a packet is longer on its way over two nodes")
    forward_bytes: float = _is(None, "bytes of a forward")
    stored_bytes: float = _is(None, "bytes that a waiting message takes in the database")
    wal_bytes: float = _is(None, "bytes of write-ahead log of a message, taken in and acknowledged")
    database_us: float = _is(None, "us of the database's CPU for a message: taken in, read, acknowledged")
    commit_us: float = _is(None, "us of its CPU for a small commit, or a group of any size, beside its rows")
    commit_ms: float = _is(None, "ms until a group is durable; a node has one under way at a time")
    look_us: float = _is(None, "us of its CPU for a new message, each time a node looks for lost doorbells")
    connection_mib: float = _is(None, "MiB of the database's memory for a connection")

    @classmethod
    def read(cls, path: Path | None) -> tuple[Self, dict[str, Any]]:
        """From a result file (None: the one that comes with didmpc), and the machine it is of.

        Raises `LocalMisuse`.
        """
        shown = str(path or "the file of figures")
        try:
            if path is None:
                text = resources.files("didmpc.bench.capacity").joinpath("figures.json").read_text("utf-8")
            else:
                with path.open(encoding="utf-8") as file:
                    text = file.read(LONGEST_FILE)
            value = json.loads(text)
            found, machine = value["figures"], value["machine"]
            missing = [name for name in _names(cls) if not isinstance(found.get(name), int | float)]
            if missing:
                raise LocalMisuse(
                    f"{shown} lacks figures.",
                    why=f"There is no number for {', '.join(missing)}.",
                    fix="Write the whole file anew:  didmpc bench cluster --json > figures.json",
                )
            figures = cls(**{name: float(found[name]) for name in _names(cls)})
            _check(figures)
            return figures, dict(machine)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise LocalMisuse(
                f"{shown} cannot be read as figures.",
                why=f"{getattr(problem, 'strerror', None) or 'It is not what the bench writes'}.",
                fix="Write one:  didmpc bench cluster --json > figures.json",
            ) from None


@dataclass(frozen=True, slots=True)
class Users:
    """Assumed: what a user does."""

    messages_per_day: float = _is(40, "messages that a user is sent in a day")
    peak: float = _is(4, "times the mean of a day in its busiest time")
    online: float = _is(0.5, "share of the users whose agents have a WebSocket open at that time")
    attaches_per_day: float = _is(6, "times that an agent connects anew in a day")
    kept_hours: float = _is(12, "hours that a message waits for a user who is away")
    in_session: float = _is(0.01, "share of the users who are computing at the busiest time")
    packets_per_second: float = _is(20, "packets that each of them sends in a second")
    packet_bytes: float = _is(500, "bytes of a packet")


@dataclass(frozen=True, slots=True)
class Machines:
    """Assumed: what there is, and how full it may get."""

    utilisation: float = _is(0.6, "share of anything that may be in use at the busiest time")
    spare_nodes: float = _is(1, "nodes that may be down at the busiest time")
    node_cores: float = _is(1, "cores that a node uses: it is one process of Python")
    node_gib: float = _is(4, "GiB of memory of a node")
    node_sockets: float = _is(100_000, "connections that a node's kernel and its limits allow")
    node_mbit: float = _is(1_000, "Mbit/s of a node's network, each way")
    node_disk_gb: float = _is(80, "GB of disk of a mediator on SQLite")
    database_cores: float = _is(16, "cores of the database's primary")
    database_gib: float = _is(64, "GiB of its memory that connections may take")
    database_connections: float = _is(2_000, "connections that it serves well (max_connections)")
    database_wal_mb: float = _is(200, "MB/s of write-ahead log that its disk takes")
    database_mbit: float = _is(10_000, "Mbit/s of its network, each way")
    database_disk_gb: float = _is(2_000, "GB of its disk")
    standbys: float = _is(2, "standbys that the log goes to")
    pool: float = _is(12, "connections of a node to the database")
    lease_seconds: float = _is(2, "seconds between two renewals of a node's lease")


Group = Figures | Users | Machines


@dataclass(frozen=True, slots=True)
class Values:
    """All of it."""

    figures: Figures
    users: Users = Users()
    machines: Machines = Machines()

    def groups(self) -> Iterator[tuple[str, Group]]:
        yield "figures", self.figures
        yield "users", self.users
        yield "machines", self.machines

    def rows(self) -> Iterator[tuple[str, str, float, str]]:
        """Group, name, value and meaning of each."""
        for group, values in self.groups():
            for each in fields(values):
                yield group, each.name, getattr(values, each.name), each.metadata["about"]

    def get(self, name: str) -> float:
        return next(value for _, known, value, _ in self.rows() if known == name)

    def set(self, name: str, value: float) -> "Values":
        """With another value. Raises `LocalMisuse`."""
        for group, values in self.groups():
            if name in _names(type(values)):
                changed: Group = replace(values, **{name: value})  # type: ignore[arg-type]
                _check(changed)
                return replace(self, **{group: changed})  # type: ignore[arg-type]
        raise LocalMisuse(
            f"The model has no value {name!r}.", fix="List them:  didmpc bench capacity --values"
        )

    def with_settings(self, settings: Iterable[str]) -> "Values":
        """With values as `name=number`. Raises `LocalMisuse`."""
        values = self
        for setting in settings:
            name, equals, text = setting.partition("=")
            try:
                number = float(text) if equals else math.nan
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise LocalMisuse(
                    f"{setting!r} sets nothing.", fix="Write a name and a number:  --set messages_per_day=100"
                )
            values = values.set(name.strip().replace("-", "_"), number)
        return values


SHARES = frozenset({"online", "in_session"})
POSITIVE = frozenset(
    {"peak", "node_cores", "node_gib", "node_sockets", "node_mbit", "pool", "lease_seconds"}
    | {"forward_us", "live_us", "single_forward_us", "single_live_us", "commit_ms", "messages_per_day"}
) | {each.name for each in fields(Machines) if each.name.startswith("database_")}


def _names(group: type[Group]) -> list[str]:
    return [each.name for each in fields(group)]


def _check(values: Group) -> None:
    for name in _names(type(values)):
        value = getattr(values, name)
        fits = math.isfinite(value) and value >= 0
        if name in SHARES:
            fits = fits and value <= 1
        if name == "utilisation":
            fits = fits and 0 < value < 1
        if name in POSITIVE:
            fits = fits and value > 0
        if not fits:
            raise LocalMisuse(
                f"{name} cannot be {value:g}.", fix="What each value means:  didmpc bench capacity --values"
            )
