"""The judge of a run: what the mediator has promised to whom, and whether it kept it. Pure: time comes in.

Senders say what was taken, recipients what came and which of it the mediator knows to be read. Names are the
mediator's, tags the senders': one tag with two names was put into the mailbox twice.

The rules of pushing are those of the documentation: a pushed message is its socket's until the socket ends or
the lease lapses; a socket is never pushed the same message twice. What is asked for is leased to nobody: it
may be pushed to another socket meanwhile, and what comes on one shortly after the other has heard that it is
deleted was on its way already (it *crossed*). `GRACE` bounds that; within it the end of a socket may be heard
of late, too.
"""

from collections import Counter
from dataclasses import dataclass, field

GRACE = 15.0
"""Seconds: more than a client needs to give up a socket that is silent."""


@dataclass(frozen=True, slots=True)
class _Holder:
    socket: str
    since: float


@dataclass(frozen=True, slots=True)
class Doubt:
    """A message that two sockets hold."""

    tag: str
    first: str
    second: str
    at: float


@dataclass
class Journal:
    lease_seconds: float = 120.0
    taken_tags: set[str] = field(default_factory=set)
    acknowledged_tags: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """Promises that were broken for certain."""
    broken: Counter[str] = field(default_factory=Counter)
    """How many of them, by kind."""
    doubts: list[Doubt] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    history: dict[str, list[str]] = field(default_factory=dict)
    """What happened to each message, for whoever has to find out why."""
    _deleted: dict[str, tuple[str, float]] = field(default_factory=dict)
    _holders: dict[str, _Holder] = field(default_factory=dict)
    _pushed: dict[str, set[str]] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    # --- senders

    def taken(self, tag: str) -> None:
        """The mediator has said that it has it."""
        self.taken_tags.add(tag)

    def refused(self) -> None:
        """It has said that it has not: no promise."""
        self.count["refused"] += 1

    def unanswered(self) -> None:
        """Nobody knows whether it has it."""
        self.count["unanswered"] += 1

    # --- sockets

    def opened(self, socket: str) -> None:
        self._open.add(socket)
        self._pushed[socket] = set()

    def ended(self, socket: str, now: float) -> None:
        """It closed, was told to move, or its node was killed: what it held is free. Safe to call twice."""
        self._open.discard(socket)
        self._pushed.pop(socket, None)
        self.doubts = [each for each in self.doubts if each.first != socket or now - each.at > GRACE]

    # --- recipients

    def pushed(self, socket: str, name: str, tag: str, now: float, *, asked: bool = False) -> None:
        """A message came to a socket in live mode, or was `asked` for there, which may be done again."""
        where, since = self._deleted.get(tag, (socket, now))
        is_deleted = tag in self._deleted
        is_crossed = is_deleted and where != socket and now - since <= GRACE
        self._came(name, tag, f"{'asked for' if asked else 'pushed'} on {socket} at {now:.2f}", is_crossed)
        # What the other end of a fenced socket had sent before may still be read.
        pushed = self._pushed.setdefault(socket, set())
        if asked:
            if not is_deleted and self._is_held(tag, socket, now, since=GRACE):
                self._doubt(tag, socket, now)
            return
        if tag in pushed:
            self._complain("twice", f"pushed twice to {socket}: {tag}")
        if (is_crossed or not is_deleted) and self._is_held(tag, socket, now):
            self._doubt(tag, socket, now)
        pushed.add(tag)
        self._holders[tag] = _Holder(socket, now)

    def _is_held(self, tag: str, socket: str, now: float, since: float = 0.0) -> bool:
        """Whether it was pushed to another socket, which is open, since so many seconds."""
        holder = self._holders.get(tag)
        return (
            holder is not None
            and holder.socket in self._open
            and holder.socket != socket
            and since <= now - holder.since < self.lease_seconds
        )

    def _doubt(self, tag: str, socket: str, now: float) -> None:
        self.doubts.append(Doubt(tag, self._holders[tag].socket, socket, now))

    def fetched(self, name: str, tag: str) -> None:
        """A message came on request, which leases nothing."""
        self._came(name, tag, "fetched")

    def acknowledged(self, *tags: str, socket: str = "", now: float = 0.0) -> None:
        """The mediator has said, on this socket or else over HTTP, that it has deleted them."""
        self.acknowledged_tags.update(tags)
        for tag in tags:
            self._deleted.setdefault(tag, (socket, now))
            self._note(tag, f"acknowledged on {socket} at {now:.2f}" if socket else "acknowledged")

    def _note(self, tag: str, what: str) -> None:
        self.history.setdefault(tag, []).append(what)

    def _came(self, name: str, tag: str, how: str, is_crossed: bool = False) -> None:
        self._note(tag, how)
        self.count["deliveries"] += 1
        if is_crossed:
            self.count["crossed"] += 1
        elif tag in self.acknowledged_tags:
            self._complain(
                "came back", f"came back after it was deleted: {tag} ({', '.join(self.history[tag])})"
            )
        if self.names.setdefault(tag, name) != name:
            self._complain("twice", f"in the mailbox twice, as {self.names[tag]} and {name}: {tag}")

    def _complain(self, kind: str, what: str) -> None:
        self.broken[kind] += 1
        self.wrong.append(what)

    # --- the end

    @property
    def missing(self) -> set[str]:
        """Taken, and never seen again. Ask once all mailboxes are empty."""
        return self.taken_tags - self.names.keys()

    def is_unsure(self, now: float) -> bool:
        """Whether the end of a socket, if it were heard of now, would put an end to a doubt."""
        return any(now - each.at <= GRACE for each in self.doubts)

    def complaints(self) -> list[str]:
        """All that is wrong, once all mailboxes are empty."""
        lost = [f"lost: {tag}" for tag in sorted(self.missing)]
        double = [f"{each.first} and {each.second} both hold {each.tag}" for each in self.doubts]
        return [*self.wrong, *lost, *double]

    @property
    def figures(self) -> dict[str, int]:
        """At any time."""
        return {
            "taken": len(self.taken_tags),
            "delivered": len(self.names),
            "acknowledged": len(self.acknowledged_tags),
            **self.count,
            "came back": self.broken["came back"],
            "twice": self.broken["twice"] + len(self.doubts),
        }

    def summary(self) -> dict[str, int]:
        """Once all mailboxes are empty: also what is lost."""
        return {**self.figures, "lost": len(self.missing)}
