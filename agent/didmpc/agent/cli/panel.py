"""What a panel shows: pure functions from events to a state, and from a state to lines.

A line is a text and its style. Nothing here knows a terminal or a clock; `now` counts seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from didmpc.agent.cli.text import printable, width
from didmpc.agent.cli.words import duration, listing, milliseconds, plural, size

Event = Mapping[str, Any]
Line = tuple[str, str]

MOST_ROWS = 12
"""Parties in a panel; of the others their number."""
LONGEST_NAME = 24
RATES_OVER = 5.0
"""Seconds over which rounds and bytes a second are counted."""

LOBBY_STYLES = {
    "joined": "green",
    "here": "green",
    "knocking": "bold",
    "offline": "yellow",
    "pausing": "yellow",
    "cut-off": "yellow",
}
LOBBY_WORDS = {
    "asked": "asked",
    "knocking": "knocks",
    "deciding": "decides",
    "joined": "ready",
    "here": "ready",
    "offline": "offline",
    "pausing": "pauses",
    "unreachable": "unreachable",
    "cut-off": "cut off",
}
PATHS = {"relay": "relay", "mailbox": "mailbox", "messages": "ordinary messages"}


@dataclass(frozen=True, slots=True)
class Lobby:
    """Who is there before the start: the last `gathering` event, and when it came."""

    parties: tuple[Event, ...] = ()
    free: int = 0
    ready: bool = False
    waits_for: tuple[str, ...] = ()
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run: the last `progress` event and what came since."""

    started: float
    figures: Event
    unreachable: Mapping[str, float]
    """By name: until when a party that cannot be reached is waited for."""
    lately: tuple[tuple[float, int, int], ...] = ()
    """Seconds, rounds and bytes of the last pictures, the oldest first."""


State = Lobby | Run | None


def take(state: State, event: Event, now: float) -> State:
    """The state after an event of the agent or of the channel process."""
    match event.get("event"):
        case "gathering" | "waiting" | "party" if not isinstance(state, Run):
            return _gathering(state or Lobby(), event, now)
        case "started":
            return state if isinstance(state, Run) else Run(now, {}, {})
        case "progress" if isinstance(state, Run):
            return replace(state, figures=event, lately=_lately(state.lately, event))
        case "peer" if isinstance(state, Run):
            away = {name: until for name, until in state.unreachable.items() if name != event.get("name")}
            left = event.get("seconds_left")
            if event.get("state") == "unreachable" and isinstance(left, int | float):
                away[str(event.get("name"))] = now + left
            return replace(state, unreachable=away)
        case "ended" | "agreed" | "all-joined":
            return None
        case "agent-lost" if isinstance(state, Lobby):
            return None
        case _:
            return state


def _gathering(lobby: Lobby, event: Event, now: float) -> Lobby:
    left = event.get("seconds_left")
    ends_at = now + left if isinstance(left, int | float) else lobby.ends_at
    parties = event.get("parties")
    if event.get("event") == "gathering" and isinstance(parties, list):
        return replace(
            lobby,
            parties=tuple(party for party in parties if isinstance(party, dict)),
            free=event["free"] if isinstance(event.get("free"), int) else 0,
            ready=event.get("ready") is True,
            ends_at=ends_at,
        )
    if event.get("event") == "waiting":
        names = tuple(str(name) for name in event.get("for") or [])
        return replace(lobby, waits_for=names, ends_at=ends_at)
    return lobby


def _lately(before: tuple[tuple[float, int, int], ...], event: Event) -> tuple[tuple[float, int, int], ...]:
    if not {"seconds", "rounds", "bytes"} <= event.keys():
        return before
    now = float(event["seconds"])
    old = [each for each in before if each[0] < now - RATES_OVER][-1:]
    new = [each for each in before if each[0] >= now - RATES_OVER]
    return *old, *new, (now, int(event["rounds"]), int(event["bytes"]))


def rates(run: Run) -> tuple[float, float] | None:
    """Rounds and bytes a second, of the last seconds; None before there are two pictures."""
    if len(run.lately) < 2:
        return None
    (began, *before), (ended, *after) = run.lately[0], run.lately[-1]
    if ended <= began:
        return None
    rounds, octets = (max(0, b - a) / (ended - began) for a, b in zip(before, after, strict=True))
    return rounds, octets


def lines(state: State, now: float, columns: int) -> list[Line]:
    """The panel for a terminal of so many columns; empty where there is nothing to show."""
    if isinstance(state, Lobby):
        shown = lobby_lines(state, now)
    elif isinstance(state, Run):
        shown = run_lines(state, now)
    else:
        return []
    return [(fitted(text, columns), style) for text, style in shown]


def lobby_lines(lobby: Lobby, now: float) -> list[Line]:
    """Who is there, through which mediator, how far away, who has accepted, and the time that is left."""
    rows, styles = [], []
    for number, party in enumerate(lobby.parties[:MOST_ROWS], start=1):
        state = printable(party.get("state", ""))
        name = named(party.get("name")) + (" (you)" if party.get("you") else "")
        word = "away" if party.get("away") else LOBBY_WORDS.get(state, state)
        rtt = party.get("rtt_ms")
        rows.append(
            (
                f"{number}",
                name,
                word,
                printable(party.get("mediator") or ""),
                milliseconds(rtt) if isinstance(rtt, int | float) else "",
            )
        )
        styles.append("yellow" if party.get("away") else LOBBY_STYLES.get(state, ""))
    shown = list(zip(columns_of(rows), styles, strict=True))
    if len(lobby.parties) > MOST_ROWS:
        shown.append((f"and {plural(len(lobby.parties) - MOST_ROWS, 'more')}", ""))
    if lobby.free:
        shown.append((f"{plural(lobby.free, 'place')} free, for whoever comes by the link", "dim"))
    left = "" if lobby.ends_at is None else f" ({duration(max(0, round(lobby.ends_at - now)))} left)"
    if lobby.waits_for == ("you",):
        shown.append((f"Press Enter to begin{left}", "bold"))
    elif lobby.waits_for:
        shown.append((f"Waiting for {listing([named(name) for name in lobby.waits_for])}{left}", "bold"))
    elif left:
        shown.append((f"Waiting{left}", "bold"))
    return shown


def run_lines(run: Run, now: float) -> list[Line]:
    """How far the run is, and the way to each party; as many lines as there are parties, and two."""
    figures = run.figures
    head = [f"Running {duration(int(now - run.started))}"]
    if figures:
        each_second = rates(run)
        by_rounds, by_bytes = (
            ("", "")
            if each_second is None
            else (f" ({each_second[0]:,.0f}/s)", f" ({size(each_second[1])}/s)")
        )
        head += [
            f"round {figures['rounds']:,}{by_rounds}",
            plural(figures["messages"], "message"),
            f"{size(figures['bytes'])}{by_bytes}",
            f"{figures['crypto_us_per_message']:,.1f} us of cryptography per message",
        ]
    shown: list[Line] = [("   ".join(head), "bold")]
    peers = list(figures.get("peers") or [])
    rows = [peer_row(peer, run, now) for peer in peers[:MOST_ROWS]]
    styles = [
        "yellow" if peer["presence"] in ("unreachable", "expected") else "" for peer in peers[:MOST_ROWS]
    ]
    shown += list(zip(columns_of(rows), styles, strict=True))
    if len(peers) > MOST_ROWS:
        shown.append((f"and {plural(len(peers) - MOST_ROWS, 'more')}", ""))
    return [*shown, waiting_line(run, now)]


def peer_row(peer: Event, run: Run, now: float) -> tuple[str, ...]:
    """One party: the path to it, how far away, what passed, whether it is heard."""
    path = PATHS.get(str(peer["path"]), str(peer["path"]))
    rtt, until = peer.get("rtt_ms"), run.unreachable.get(str(peer["name"]))
    notes = []
    if until is not None:
        notes.append(f"unreachable for {duration(peer.get('silent') or 0)}, {left_until(until, now)}")
    elif peer["presence"] == "left":
        notes.append("has ended")
    if peer.get("reconnects"):
        notes.append(f"reconnected {peer['reconnects']}x")
    passed = (
        f"{size(peer['sent'])} sent, {size(peer['received'])} received"
        if "sent" in peer
        else f"{peer['records_sent']:,} sent, {peer['records_received']:,} received"
    )
    return (
        named(peer["name"]),
        f"{path} {printable(peer.get('relay') or '')}".strip(),
        milliseconds(rtt) if isinstance(rtt, int | float) else "-",
        passed,
        ", ".join(notes),
    )


def left_until(until: float, now: float) -> str:
    """How long a party is still waited for."""
    return f"{duration(max(0, round(until - now)))} left"


def waiting_line(run: Run, now: float) -> Line:
    """For whom the program waits, and since when; always a line, so that the panel keeps its height."""
    waiting = run.figures.get("waiting") or {}
    names = [named(name) for name in waiting.get("for") or []]
    if names:
        return f"Waiting for {listing(names)} since {duration(waiting['seconds'])}", "yellow"
    if run.figures.get("state") == "reading":
        return "Your program reads what you type", "bold"
    return "", ""


def named(name: object) -> str:
    """A name as it fits into a column."""
    text = printable(name)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def columns_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, their columns below each other."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        "   ".join(cell + " " * (room - width(cell)) for cell, room in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def fitted(text: str, columns: int) -> str:
    """The text with our indent, cut so that it never fills a line: terminals would begin another one."""
    whole = f"  {text}" if text else ""
    room = max(1, columns - 1)
    if width(whole) <= room:
        return whole
    kept = ""
    for c in whole:
        if width(kept) + width(c) > room - 1:
            break
        kept += c
    return f"{kept}…"
