"""The answers as plain values, and as tables for a terminal or a document."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from didmpc.bench.capacity import delivery, limits
from didmpc.bench.capacity.values import Values
from didmpc.protocols.errors import LocalMisuse

Result = dict[str, Any]

SIZES = (1, 2, 10, 100, 1_000, 10_000)
LOADS = (0.5, 1.0, 1.5)
"""Of the users that a cluster was planned for."""
MOST_PLAYED = 20
"""Nodes: what is played out takes time, and nodes are alike."""
SHOWN_SENSITIVE = 12


def answer(
    values: Values,
    machine: Result,
    *,
    sizes: Sequence[int],
    messages: int,
    seed: int,
    say: Callable[[str], None],
) -> Result:
    """Everything, from the values alone; the same seed, the same answer."""
    users, full = limits.users_per_mediator(values)
    if users < 1:
        raise LocalMisuse(
            "With these values a mediator does not serve a single user.",
            why=f"Its {full} is used up before.",
            fix="Look at what each value means:  didmpc bench capacity --values",
        )
    say("sizes")
    ends = limits.ends(values)
    rows: list[Result] = []
    for count in sizes:
        found = limits.size(values, users * count)
        clusters = (
            max(1, math.ceil(found.users / ends[0].users - limits.PRECISION)) if ends[0].users else None
        )
        rows.append(
            {
                "mediators": count,
                "users": found.users,
                "nodes": found.nodes,
                "fits": found.fits,
                "bottleneck": found.bottleneck.name,
                "fullness": {part.name: part.fullness for part in found.parts},
                "asked": {part.name: {"asked": part.asked, "unit": part.unit} for part in found.parts[1:]},
                "clusters": clusters,
                **found.figures,
            }
        )
    say("sensitivity")
    sensitivity = [asdict(row) for row in limits.sensitivity(values)]
    return {
        "machine": machine,
        "values": {
            group: {name: value for known, name, value, _ in values.rows() if known == group}
            for group, _ in values.groups()
        },
        "users_per_mediator": users,
        "mediator_full_of": full,
        "sizes": rows,
        "ends": [{"part": end.name, "users": end.users, "mediators": end.users / users} for end in ends],
        "sensitivity": sensitivity,
        "delivery": _played(values, users, ends[0].users, messages, seed, say) if messages else None,
    }


def _played(
    values: Values, users: float, most: float, messages: int, seed: int, say: Callable[[str], None]
) -> Result:
    """A cluster that fits, with as many nodes as can be played out."""
    planned = min(most, users * MOST_PLAYED)
    serving = limits.size(values, planned).serving
    while serving > MOST_PLAYED:
        planned *= MOST_PLAYED / serving * 0.99
        serving = limits.size(values, planned).serving
    found: list[Result] = []
    for load in LOADS:
        say(f"{serving} nodes played out at {load:.0%} of what they are planned for")
        of = delivery.work(values, planned * load, serving)
        played, expected = delivery.play(of, messages, seed), delivery.expected(of)
        found.append(
            {
                "load": load,
                "node_busy": played.node_busy,
                "database_busy": played.database_busy,
                "commits_per_second": played.commits_per_second,
                "messages": played.messages,
                **{
                    f"{name}_{end}_ms": 1e3 * value
                    for name, times, mean, form in (
                        ("accepted", played.accepted, played.mean_accepted, expected.accepted),
                        ("delivered", played.delivered, played.mean_delivered, expected.delivered),
                    )
                    for end, value in (
                        ("mean", mean),
                        ("expected", form),
                        ("p50", delivery.percentile(times, 0.5)),
                        ("p99", delivery.percentile(times, 0.99)),
                    )
                },
            }
        )
    return {"nodes": serving, "users": planned, "seed": seed, "loads": found}


# --- tables

Table = tuple[str, list[str], list[list[str]]]
"""Title, heads, rows."""


def tables(result: Result) -> list[Table]:
    sizes = result["sizes"]
    return [
        (
            "What so many mediators' worth of users need, on one cluster",
            [
                *("mediators' worth", "users", "nodes", "first bottleneck", "full to"),
                *("one cluster", "clusters that fit"),
            ],
            [
                [
                    number(row["mediators"]),
                    number(row["users"]),
                    number(row["nodes"]) if row["nodes"] is not None else "none is enough",
                    row["bottleneck"],
                    f"{row['fullness'][row['bottleneck']]:.0%}",
                    "fits" if row["fits"] else "does not fit",
                    number(row["clusters"]) if row["clusters"] else "none",
                ]
                for row in sizes
            ],
        ),
        (
            "At the busiest time",
            [
                *("mediators' worth", "forwards/s", "database rows/s", "commits/s", "connections"),
                *("database cores", "log MB/s", "disk GB", "network Mbit/s", "live rows"),
            ],
            [
                [
                    number(row["mediators"]),
                    *(
                        number(row[name])
                        for name in (
                            "forwards_per_second",
                            "database_rows_written_per_second",
                            "database_commits_per_second",
                            "database_connections",
                        )
                    ),
                    *(
                        number(row["asked"][f"database {name}"]["asked"])
                        for name in ("CPU", "log", "disk", "network")
                    ),
                    number(row["live_rows"]),
                ]
                for row in sizes
            ],
        ),
        (
            "Between nodes",
            [
                *("mediators' worth", "links", "links of a node", "doorbells/s", "packets/s"),
                *("of them between nodes/s", "node full of", "full to"),
            ],
            [
                [
                    number(row["mediators"]),
                    *(
                        number(row[name])
                        for name in (
                            "links",
                            "links_per_node",
                            "doorbells_per_second",
                            "packets_per_second",
                            "packets_between_nodes_per_second",
                        )
                    ),
                    (part := next(iter(row["fullness"]))).removeprefix("node "),
                    f"{row['fullness'][part]:.0%}",
                ]
                for row in sizes
            ],
        ),
        (
            "Where each part of one cluster ends, the first one first",
            ["part", "users", "mediators' worth"],
            [
                [each["part"], number(each["users"]), number(each["mediators"])]
                for each in result["ends"]
                if math.isfinite(each["users"])
            ],
        ),
        (
            "Users of one cluster when a value is half, or twice, of what it is",
            ["value", "half", "first bottleneck", "twice", "first bottleneck"],
            [
                [
                    row["name"],
                    f"{row['users'][0]:.0%}",
                    row["first"][0],
                    f"{row['users'][1]:.0%}",
                    row["first"][1],
                ]
                for row in result["sensitivity"][:SHOWN_SENSITIVE]
            ],
        ),
        *_delivery_table(result),
    ]


def _delivery_table(result: Result) -> list[Table]:
    played = result["delivery"]
    if played is None:
        return []
    return [
        (
            f"Played out: {played['nodes']} nodes planned for {number(played['users'])} users,"
            " in ms (mean, in closed form, p99)",
            ["load", "nodes busy", "database busy", "forward durable", "", "", "delivered", "", ""],
            [
                [
                    f"{row['load']:.0%}",
                    f"{row['node_busy']:.0%}",
                    f"{row['database_busy']:.0%}",
                    *(
                        _ms(row[f"{name}_{end}_ms"])
                        for name in ("accepted", "delivered")
                        for end in ("mean", "expected", "p99")
                    ),
                ]
                for row in played["loads"]
            ],
        )
    ]


def _ms(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "grows"


def number(value: float) -> str:
    """Three digits, which is more than the model knows; small whole numbers as they are."""
    if value == int(value) and abs(value) < 100_000:
        return f"{value:,.0f}"
    places = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):,.{min(2, max(0, places))}f}"


def lines(result: Result) -> list[str]:
    """For people, at a terminal."""
    out = _introduction(result)
    for title, heads, rows in tables(result):
        widths = [
            max(len(heads[column]), *(len(row[column]) for row in rows)) if rows else len(heads[column])
            for column in range(len(heads))
        ]
        out += ["", title]
        out += [
            "  " + "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in (heads, *rows)
        ]
    return out


def markdown(result: Result) -> list[str]:
    """For a document."""
    out = [" ".join(_introduction(result))]
    for title, heads, rows in tables(result):
        out += ["", f"**{title}**", "", f"| {' | '.join(heads)} |", "|" + " ---: |" * len(heads)]
        out += [f"| {' | '.join(row)} |" for row in rows]
    return out


def _introduction(result: Result) -> list[str]:
    machine = result["machine"]
    first = result["ends"][0]
    return [
        f"Figures measured on {machine.get('cores', '?')} cores ({machine.get('processor', 'unknown')}).",
        f"One mediator on SQLite serves {number(result['users_per_mediator'])} such users, then its"
        f" {result['mediator_full_of']} is used up.",
        f"One cluster serves {number(first['users'])}, {number(first['mediators'])} times as many;"
        f" what ends it is: {first['part']}.",
    ]
