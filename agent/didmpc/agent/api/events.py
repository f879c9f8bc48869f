"""What a computation tells while people gather and while it runs, as typed values.

The agent's own words for each stand in `facts`; what this version has no type for comes as `Event` itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened. `name` is the agent's word for it, and `facts` all that it said."""

    name: str
    facts: Facts = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposed(Event):
    """What would be computed, by whom, and how private it is; `consent` is asked with this."""

    program: str = ""
    title: str = ""
    sha256: str = ""
    arguments: tuple[str, ...] = ()
    parties: tuple[str, ...] = ()
    threshold: int = 0
    by: str = ""
    """Who proposes it, by our name for them; empty where we do."""
    verified: bool = False
    """Whether words were compared with whoever proposes it."""
    sandbox: str = "none"
    """What the program would be locked in by."""

    @property
    def private_unless(self) -> int:
        """So many parties must work together to see what another puts in; 1: any of them can alone."""
        return self.threshold + 1


@dataclass(frozen=True, slots=True)
class PartyMoved(Event):
    """One step of one party while people gather: asked, joined, declined, left, unreachable, ..."""

    party: str = ""
    state: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class LinkShown(Event):
    """The link by which others come: they type  didmpc join LINK."""

    url: str = ""
    places: int = 0


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """For whom, while people gather or in the run."""

    parties: tuple[str, ...] = ()
    seconds: float | None = None
    """While people gather so much is left; in the run it lasts since then."""


@dataclass(frozen=True, slots=True)
class Words(Event):
    """What people read to each other: the same at all, or somebody stands between."""

    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Started(Event):
    """Every link is up, and the program runs."""


@dataclass(frozen=True, slots=True)
class PeerMoved(Event):
    """The connection to one party in the run: connected, unreachable, back."""

    party: str = ""
    state: str = ""
    rtt_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Printed(Event):
    """What the program wrote to `stream`, "stdout" or "stderr"."""

    stream: str = "stdout"
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Stopping(Event):
    """The run is about to end before its time; what and why."""

    what: str = ""
    why: str = ""


def event_of(facts: Facts) -> Event:
    """The typed form of what an agent or a channel process said."""
    name = str(facts.get("event", ""))
    match name:
        case "proposal":
            return Proposed(
                name,
                facts,
                program=_text(facts, "program"),
                title=_text(facts, "title"),
                sha256=_text(facts, "sha256"),
                arguments=_texts(facts, "arguments"),
                parties=_texts(facts, "parties"),
                threshold=int(facts.get("threshold") or 0),
                by=_text(facts, "from"),
                verified=facts.get("verified") is True,
                sandbox=_text(facts, "sandbox") or "none",
            )
        case "party":
            return PartyMoved(name, facts, _text(facts, "name"), _text(facts, "state"), _text(facts, "why"))
        case "lobby":
            return LinkShown(name, facts, _text(facts, "url"), int(facts.get("places") or 0))
        case "waiting":
            seconds = facts.get("seconds_left", facts.get("seconds"))
            return Waiting(name, facts, _texts(facts, "for"), None if seconds is None else float(seconds))
        case "words":
            return Words(name, facts, _texts(facts, "words"))
        case "started":
            return Started(name, facts)
        case "peer":
            rtt = facts.get("rtt_ms")
            return PeerMoved(
                name, facts, _text(facts, "name"), _text(facts, "state"), None if rtt is None else float(rtt)
            )
        case "stopping":
            return Stopping(name, facts, _text(facts, "what"), _text(facts, "why"))
    return Event(name, facts)


def _text(facts: Facts, key: str) -> str:
    value = facts.get(key)
    return value if isinstance(value, str) else ""


def _texts(facts: Facts, key: str) -> tuple[str, ...]:
    value = facts.get(key)
    return tuple(str(each) for each in value) if isinstance(value, list | tuple) else ()
