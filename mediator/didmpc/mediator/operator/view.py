"""How a mediator's state is told to a person."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from didmpc.mediator.host.quantities import approximate_size, approximate_time
from didmpc.mediator.operator.control import Json

MOST_REFUSALS = 3
LONGEST_TEXT = 4000
SHORT_DID = 64
SKEW = 1.0
"""Seconds from which on it is worth saying that a node's clock is wrong."""

Row = tuple[str, str]


def printable(text: object) -> str:
    """What others wrote, without what could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:LONGEST_TEXT])


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Aligned columns, a line each."""
    cells = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def short_did(did: str) -> str:
    return did if len(did) <= SHORT_DID else f"{did[:24]}...{did[-8:]}"


def status_rows(status: Json, now: float) -> list[Row]:
    """What there is to say, under a short name each."""
    rows = [
        ("Mediator", status["url"]),
        ("State", _state(status, now)),
        *_stored(status),
    ]
    if status["running"]:
        relay = status["relay"]
        rows += [
            ("Sockets", f"{status['sockets']:,} open, {status['live']:,} in live mode"),
            ("Messages", f"{status['messages_in']:,} in, {status['messages_out']:,} out"),
            ("Refused", _largest(status["refusals"])),
            ("Limits met", _largest(status["limits_hit"])),
            (
                "Relay",
                f"{relay['connections']:,} connections, {relay['channels']:,} channels; "
                f"{relay['packets']:,} packets, {approximate_size(relay['bytes'])} so far",
            ),
            ("Settings", ", ".join(f"{key} {value}" for key, value in status["settings"].items())),
        ]
    store = status["store"]
    kept = store["kind"]
    if store["url"]:
        waits = (
            f"commits wait for {store['standbys']}" if store["standbys"] else "commits wait for no standby"
        )
        kept = f"{kept}, {store['url']}; {waits}"
    rows += [("Store", kept), *(("Warning", words) for words in store["warnings"])]
    rows += [("Disk", f"{approximate_size(status['disk_free_bytes'])} free"), ("Home", status["home"])]
    return [(name, printable(text)) for name, text in rows if text]


def _stored(status: Json) -> list[Row]:
    if status["accounts"] is None:
        return [("Accounts", "not known: the store does not answer"), ("Waiting", "not known")]
    return [
        ("Accounts", f"{status['accounts']:,} with {status['mailboxes']:,} mailboxes"),
        ("Waiting", f"{status['queued']:,} messages, {approximate_size(status['queued_bytes'])}"),
    ]


def node_lines(nodes: Sequence[Json], now: float) -> list[str]:
    """A table of the nodes of a mediator, and what is to be said about some of them."""
    header = ("NODE", "LINK ADDRESS", "STATE", "FOR", "LINKS", "SOCKETS", "LIVE", "CHANNELS", "VERSION")
    rows = [
        (
            *(node["id"], node["url"], _node_state(node), approximate_time(max(0.0, now - node["since"]))),
            ",".join(str(number) for number in node.get("links", ())) or "-",
            *(node.get(figure, "-") for figure in ("sockets", "delivers", "channels")),
            node["version"],
        )
        for node in nodes
    ]
    clocks = [(node["id"], node.get("clock_ahead", 0.0)) for node in nodes if node["there"]]
    skewed = [
        f"The clock of node {number} is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}."
        for number, ahead in clocks
        if abs(ahead) >= SKEW
    ]
    return [*table(header, rows), *skewed]


def _node_state(node: Json) -> str:
    if not node["there"]:
        return "gone"
    return "this one" if node["this"] else "there"


def status_line(status: Json) -> str:
    """The same in one line, where there is no terminal to draw on."""
    names = ("accounts", "queued", "sockets", "live", "messages_in", "messages_out")
    known = {name: status[name] for name in names if status.get(name) is not None}
    return "  ".join(f"{name} {value}" for name, value in known.items())


def _state(status: Json, now: float) -> str:
    if not status["running"]:
        return "stopped. Start it: didmpc mediator start"
    ready = ", not ready: " + ", ".join(status["obstacles"]) if status["obstacles"] else ", ready"
    return f"running for {approximate_time(now - status['since'])} as process {status['pid']}{ready}"


def _largest(counts: Mapping[str, Any]) -> str:
    largest = sorted(counts.items(), key=lambda item: -item[1])
    told = ", ".join(f"{name} {number:,}" for name, number in largest[:MOST_REFUSALS] if number)
    return f"{told}, ..." if len(largest) > MOST_REFUSALS else told
