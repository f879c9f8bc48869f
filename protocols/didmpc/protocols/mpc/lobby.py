"""The lobby of an attempt: who came, who has a place, and when it may begin. Time comes in as an argument.

    by name (a contact):  ASKED ------ looks ----> DECIDING -- agrees --> JOINED
    by the link:          KNOCKING -- admitted --> DECIDING -- agrees --> JOINED
                          (only where the host wants to be asked; else at once DECIDING)

`leave` frees a place and `refuse` shuts its guest out. Whoever is not heard of for `AWAY_AFTER` is away: it
keeps its place, nothing begins with it, and after `KEPT` its place goes to the next who wants it.

A link is a bearer of one of so many places and nothing else: its guests are no contacts, their names are
made unique and nothing proves them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from didmpc.protocols.errors import MessageError, RemoteViolation
from didmpc.protocols.mpc.messages import MAX_NAME, MAX_PARTIES, Join, flag, number, text
from didmpc.protocols.namespace import NAMESPACE

GOAL_CODE = f"{NAMESPACE}/lobby"
"""Of the invitation to a lobby (out-of-band/2.0)."""

BEAT_EVERY = 2.0
"""Seconds between two signs of life of a host, each of which its guests answer."""
AWAY_AFTER = 6.0
KEPT = 30.0
"""Seconds that the place of a guest that is away is kept from others."""
KNOCKS_APART = 1.0
"""Seconds; a guest that knocks more often is not answered."""
NEWCOMERS = 64
"""So many more than there are places may come by one link, ever: whoever has it cannot keep a host busy."""

FULL = "e.p.req.lobby.full"
CLOSED = "e.p.req.lobby.closed"
BEGUN = "e.p.req.lobby.begun"
REFUSED = "e.p.req.lobby.refused"
BUSY = "e.p.req.lobby.busy"


class State(StrEnum):
    """How far a guest is."""

    ASKED = "asked"
    KNOCKING = "knocking"
    DECIDING = "deciding"
    JOINED = "joined"


@dataclass(frozen=True, slots=True)
class Guest:
    """One who was asked or came; `did` is the one by which the host knows it."""

    did: str
    name: str
    state: State
    by_link: bool
    heard: float
    mediator: str = ""
    away: bool = False
    rtt: float | None = None
    join: Join | None = None

    @property
    def present(self) -> bool:
        """Whether it is to hear of the lobby."""
        return self.state in (State.DECIDING, State.JOINED)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a guest: its state, or `back`, `away`, `left`, `refused`, `replaced`."""

    guest: Guest
    what: str


class Lobby:
    """The host's book. Methods return what changed; a refusal raises `RemoteViolation` with its code."""

    def __init__(
        self,
        *,
        host: str,
        contacts: Sequence[tuple[str, str]],
        places: int,
        least: int,
        confirm: bool,
        now: float,
    ) -> None:
        """`contacts` are DIDs and names of those asked by name; `places` are there for the link."""
        self._host = host
        self._places = places
        self._least = least
        self._confirm = confirm
        self._guests = {did: Guest(did, name, State.ASKED, False, now) for did, name in contacts}
        self._shut_out: set[str] = set()
        self._came: set[str] = set()
        self._knocked: dict[str, float] = {}

    # -- who is here --------------------------------------------------------------------------------

    @property
    def guests(self) -> tuple[Guest, ...]:
        """Contacts in the order in which they were named, then those of the link as they came."""
        return tuple(self._guests.values())

    @property
    def joined(self) -> tuple[Guest, ...]:
        """Those who agreed, in the order of the roster."""
        return tuple(guest for guest in self.guests if guest.state is State.JOINED)

    @property
    def free(self) -> int:
        """Places of the link that nobody has."""
        return self._places - sum(guest.by_link and guest.present for guest in self.guests)

    @property
    def complete(self) -> bool:
        """Whether everybody who may still come is here and agreed."""
        return self.enough and len(self._here) + 1 == self._most

    @property
    def enough(self) -> bool:
        """Whether the host may begin with those who are here and agreed."""
        return len(self._here) + 1 >= self._least

    @property
    def can_be_enough(self) -> bool:
        """Whether there is still a way to so many."""
        return self._most >= self._least

    @property
    def _most(self) -> int:
        return 1 + self._places + sum(not guest.by_link for guest in self.guests)

    @property
    def _here(self) -> list[Guest]:
        return [guest for guest in self.joined if not guest.away]

    def get(self, did: str) -> Guest | None:
        """The guest with this DID."""
        return self._guests.get(did)

    def called(self, name: str) -> Guest | None:
        """The guest of this name, whatever its case."""
        return next((guest for guest in self.guests if guest.name.casefold() == name.casefold()), None)

    def begin(self) -> tuple[Guest, ...]:
        """From now on only those who are here and agreed are in it; returns the others."""
        gone = tuple(guest for guest in self.guests if guest.state is not State.JOINED or guest.away)
        for guest in gone:
            del self._guests[guest.did]
        return gone

    # -- what happens -------------------------------------------------------------------------------

    def knock(self, did: str, name: str, mediator: str, now: float) -> list[Change]:
        """Somebody came by the link. No change: it is known, or knocks too often to be answered."""
        if did in self._shut_out:
            raise RemoteViolation("The host did not let you in.", code=REFUSED)
        if did in self._guests:
            return self.heard(did, now, ready=False)
        if did not in self._came and len(self._came) >= self._places + NEWCOMERS:
            raise RemoteViolation("Too many came by this link.", code=BUSY)
        changes: list[Change] = []
        if self.free < 1:
            changes = self._make_room(now)
        if self.free < 1:
            raise RemoteViolation("All places are taken.", code=FULL)
        self._came.add(did)
        state = State.KNOCKING if self._confirm else State.DECIDING
        guest = Guest(did, self._free_name(name), state, True, now, mediator)
        self._guests[did] = guest
        return [*changes, Change(guest, state.value)]

    def may_answer_knock(self, did: str, now: float) -> bool:
        """Whether this one did not knock a moment ago; counts the knock."""
        for old in [each for each, when in self._knocked.items() if now - when >= KNOCKS_APART]:
            del self._knocked[old]
        if did in self._knocked or len(self._knocked) >= NEWCOMERS:
            return False
        self._knocked[did] = now
        return True

    def admit(self, did: str, now: float) -> list[Change]:
        """The host lets somebody in who knocks. Raises `RemoteViolation` when all places are taken."""
        guest = self._guests.get(did)
        if guest is None or guest.state is not State.KNOCKING:
            return []
        changes = [] if self.free > 0 else self._make_room(now)
        if self.free < 1:
            raise RemoteViolation("All places are taken.", code=FULL)
        del self._guests[did]  # its place in the order is the one in which it was let in
        return [*changes, self._put(replace(guest, state=State.DECIDING), State.DECIDING.value)]

    def refuse(self, did: str) -> list[Change]:
        """The host wants somebody of the link gone, for good."""
        guest = self._guests.get(did)
        if guest is None or not guest.by_link:
            return []
        self._shut_out.add(did)
        return [self._remove(guest, "refused")]

    def heard(self, did: str, now: float, *, ready: bool) -> list[Change]:
        """A sign of life; whoever was asked by name and looks is one who decides.

        `ready`: its person agreed. That counts together with the `join` that came before, and only so long:
        a guest that was started anew is to agree anew.
        """
        guest = self._guests.get(did)
        if guest is None:
            return []
        before, was_away = guest.state, guest.away
        guest = replace(guest, heard=now, away=False)
        if before is not State.KNOCKING:
            agreed = ready and guest.join is not None
            guest = replace(guest, state=State.JOINED if agreed else State.DECIDING)
        change = self._put(guest, guest.state.value if guest.state is not before else "back")
        return [change] if was_away or guest.state is not before else []

    def timed(self, did: str, seconds: float) -> None:
        """How long a sign of life and its answer took."""
        guest = self._guests.get(did)
        if guest is not None:
            self._guests[did] = replace(guest, rtt=seconds)

    def join(self, did: str, join: Join, now: float) -> list[Change]:
        """A guest agreed; the name it is called by here stays."""
        guest = self._guests.get(did)
        if guest is None or guest.state is State.KNOCKING:
            return []
        guest = replace(guest, heard=now, away=False, mediator=join.mediator)
        known = guest.state is State.JOINED
        guest = replace(guest, state=State.JOINED, join=replace(join, name=guest.name))
        change = self._put(guest, State.JOINED.value)
        return [] if known else [change]

    def leave(self, did: str) -> list[Change]:
        """A guest goes: one of the link frees its place, one asked by name may come back."""
        guest = self._guests.get(did)
        if guest is None:
            return []
        if guest.by_link:
            return [self._remove(guest, "left")]
        return [self._put(replace(guest, state=State.ASKED, away=False, join=None, rtt=None), "left")]

    def decline(self, did: str) -> list[Change]:
        """A guest said no: it will not come back."""
        guest = self._guests.get(did)
        return [] if guest is None else [self._remove(guest, "declined")]

    def tick(self, now: float) -> list[Change]:
        """Time went by: who has not been heard of is away, who knocked and is away has gone."""
        changes = []
        for guest in self.guests:
            if guest.state is not State.ASKED and not guest.away and now - guest.heard >= AWAY_AFTER:
                if guest.state is State.KNOCKING:
                    changes.append(self._remove(guest, "left"))
                else:
                    changes.append(self._put(replace(guest, away=True), "away"))
        return changes

    def deaf_until(self, now: float) -> None:
        """We ourselves were cut off: nobody is away because of that time."""
        for did, guest in self._guests.items():
            if not guest.away:
                self._guests[did] = replace(guest, heard=now)

    def next_tick(self) -> float | None:
        """When `tick` may have something to say."""
        watched = (
            guest.heard + AWAY_AFTER
            for guest in self.guests
            if guest.state is not State.ASKED and not guest.away
        )
        return min(watched, default=None)

    # -- within -------------------------------------------------------------------------------------

    def _make_room(self, now: float) -> list[Change]:
        absent = [
            guest for guest in self.guests if guest.by_link and guest.away and now - guest.heard >= KEPT
        ]
        if not absent:
            return []
        return [self._remove(min(absent, key=lambda guest: guest.heard), "replaced")]

    def _free_name(self, wanted: str) -> str:
        taken = {self._host.casefold(), *(guest.name.casefold() for guest in self.guests)}
        wanted = wanted or "somebody"
        name, counter = wanted, 2
        while name.casefold() in taken:
            tail = f"-{counter}"
            name, counter = wanted[: MAX_NAME - len(tail)] + tail, counter + 1
        return name

    def _put(self, guest: Guest, what: str) -> Change:
        self._guests[guest.did] = guest
        return Change(guest, what)

    def _remove(self, guest: Guest, what: str) -> Change:
        del self._guests[guest.did]
        return Change(guest, what)


# -- what the guests are told -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One party as every guest sees it."""

    name: str
    state: str
    mediator: str = ""
    rtt_ms: float | None = None
    away: bool = False

    def json(self) -> dict[str, Any]:
        """As it stands in the message and in events."""
        return {
            "name": self.name,
            "state": self.state,
            "mediator": self.mediator,
            "rtt_ms": self.rtt_ms,
            "away": self.away,
        }


@dataclass(frozen=True, slots=True)
class Picture:
    """The body of `gathering`: everybody, the host first.

    `beat` numbers it, for `here` to answer. `you` is the name of whoever gets it. `pausing`: the host's agent
    stops and will be back.
    """

    rows: tuple[Row, ...]
    beat: int
    you: str
    pausing: bool = False

    def body(self) -> dict[str, Any]:
        rows = [row.json() for row in self.rows]
        return {"parties": rows, "beat": self.beat, "you": self.you, "pausing": self.pausing}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Picture":
        """Read the body of a `gathering`; raises `MessageError`."""
        rows = body.get("parties")
        if not isinstance(rows, list) or len(rows) > MAX_PARTIES:
            raise MessageError(f"“parties” must be a list of at most {MAX_PARTIES}.")
        return cls(
            tuple(_row(row) for row in rows),
            number(body, "beat", 0, 1 << 40),
            text(body, "you", MAX_NAME),
            flag(body, "pausing"),
        )


def _row(value: Any) -> Row:
    if not isinstance(value, dict):
        raise MessageError("A party of a lobby has a name and a state.")
    rtt = value.get("rtt_ms")
    if rtt is not None and (isinstance(rtt, bool) or not isinstance(rtt, int | float) or not 0 <= rtt < 1e7):
        raise MessageError("A round-trip time is a number of milliseconds.")
    return Row(
        name=text(value, "name", MAX_NAME),
        state=text(value, "state", 16),
        mediator=text(value, "mediator", 255),
        rtt_ms=rtt,
        away=flag(value, "away"),
    )
