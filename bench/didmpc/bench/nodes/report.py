"""Tables, and the figures that `didmpc bench capacity` calculates with."""

from typing import Any

Result = dict[str, Any]

CONNECTION_MIB = 5.0
"""Where the server is on another machine, this is taken for it."""


def figures(places: list[Result], store: Result) -> Result:
    """The constants of the capacity model.

    Where several places measure the same, the least counts: whatever else a machine does only adds to it.
    What takes less than can be told from that counts as nothing.
    """
    single, *nodes = places
    first, many = nodes[0], nodes[-1]
    one, group = store["single"], store["grouped"]
    links = max(1, many["nodes"] - 1)

    def least(*path: str, of: list[Result] = nodes) -> float:
        found: list[float] = []
        for place in of:
            value: Any = place
            for name in path:
                value = value.get(name) if value is not None else None
            if value is not None:
                found.append(float(value))
        return min(found, default=0.0)

    def more(section: str, value: str) -> float:
        """How much more it is with its ends on two nodes."""
        near = least(section, "near", value)
        return max(0.0, least(section, "far", value) - near)

    return {
        "single_forward_us": single["forwards"]["node_cpu_us"],
        "single_live_us": single["live"]["near"]["node_cpu_us"],
        "single_pickup_us": single["pickup"]["node_cpu_us"],
        "forward_us": least("forwards", "node_cpu_us"),
        "live_us": least("live", "near", "node_cpu_us"),
        "pickup_us": least("pickup", "node_cpu_us"),
        "attach_us": least("attach", "node_cpu_us", of=places),
        "packet_us": least("relay", "near", "packet_cpu_us", of=places),
        "link_us": more("relay", "packet_cpu_us"),
        "doorbell_us": more("live", "node_cpu_us"),
        "socket_kib": first["idle"]["each_kib"],
        "link_kib": max(0.0, many["node_mib"] - first["node_mib"]) * 1024 / links,
        "node_mib": first["node_mib"],
        "idle_us": least("idle", "each_us_per_second", of=places),
        "idle_link_us": max(0.0, many["idle"]["nobody_cores"] - first["idle"]["nobody_cores"]) / links * 1e6,
        "link_hop_ms": more("relay", "round_trip_p50_us") / 2e3,
        "forward_bytes": single["forwards"]["bytes"],
        "stored_bytes": first["forwards"]["stored_bytes"],
        "wal_bytes": group["wal_bytes"],
        "database_us": group["cpu_us"] or 0.0,
        "commit_us": max(0.0, (one["cpu_us"] or 0.0) - (group["cpu_us"] or 0.0)) / 2,
        "commit_ms": one["enqueue_p50_ms"],
        "look_us": group["look_cpu_us"] or 0.0,
        "connection_mib": least("forwards", "connection_mib") or CONNECTION_MIB,
    }


Table = tuple[str, list[str], list[list[str]]]


def tables(result: Result) -> list[Table]:
    places = result["places"]
    return [
        (
            "Forwards, durable when answered (CPU in us for each)",
            ["", "per second", "times SQLite", "p50 ms", "p99 ms", "nodes", "database"],
            [
                [
                    each["name"],
                    f"{each['forwards']['per_second']:,.0f}",
                    f"{each['forwards']['per_second'] / places[0]['forwards']['per_second']:.2f}",
                    f"{each['forwards']['p50_ms']:.1f}",
                    f"{each['forwards']['p99_ms']:.1f}",
                    f"{each['forwards']['node_cpu_us']:,.0f}",
                    f"{each['forwards']['database_cpu_us']:,.0f}",
                ]
                for each in places
            ],
        ),
        (
            "Live delivery, at that rate (ms from posting to arrival)",
            [
                "",
                "per second",
                "same node p50",
                "p99",
                "another node p50",
                "p99",
                "CPU us, nodes",
                "database",
            ],
            [
                [
                    each["name"],
                    f"{each['live']['near']['rate']:,.0f}",
                    *(
                        f"{each['live'][where][end]:.1f}" if where in each["live"] else "-"
                        for where in ("near", "far")
                        for end in ("p50_ms", "p99_ms")
                    ),
                    *(
                        f"{each['live'].get('far', each['live']['near'])[end]:,.0f}"
                        for end in ("node_cpu_us", "database_cpu_us")
                    ),
                ]
                for each in places
            ],
        ),
        (
            "Packets of a session relayed: round trips of 64 bytes in us, and MB/s of a transfer",
            [
                "",
                "same node p50",
                "p99",
                "two nodes p50",
                "p99",
                "MB/s, same",
                "MB/s, two",
                "CPU us a packet",
            ],
            [
                [
                    each["name"],
                    *(
                        f"{each['relay'][where][end]:,.0f}" if where in each["relay"] else "-"
                        for where in ("near", "far")
                        for end in ("round_trip_p50_us", "round_trip_p99_us")
                    ),
                    *(
                        f"{each['relay'][where]['bytes_per_second'] / 1e6:,.0f}"
                        if where in each["relay"]
                        else "-"
                        for where in ("near", "far")
                    ),
                    " / ".join(f"{way['packet_cpu_us']:,.0f}" for way in each["relay"].values()),
                ]
                for each in places
            ],
        ),
        (
            "Pickup, attaching, idle WebSockets",
            ["", "picked up/s", "CPU us, nodes", "attached/s", "CPU us, nodes", "KiB a socket", "MiB a node"],
            [
                [
                    each["name"],
                    f"{each['pickup']['per_second']:,.0f}",
                    f"{each['pickup']['node_cpu_us']:,.0f}",
                    f"{each['attach']['per_second']:,.0f}",
                    f"{each['attach']['node_cpu_us']:,.0f}",
                    f"{each['idle']['each_kib']:.1f}",
                    f"{each['node_mib']:.0f}",
                ]
                for each in places
            ],
        ),
        (
            "PostgreSQL alone: a message taken in, read and acknowledged",
            ["at once", "per second", "taken in p50 ms", "p99 ms", "CPU us", "log bytes"],
            [
                [
                    str(each["at_once"]),
                    f"{each['per_second']:,.0f}",
                    f"{each['enqueue_p50_ms']:.2f}",
                    f"{each['enqueue_p99_ms']:.2f}",
                    "-" if each["cpu_us"] is None else f"{each['cpu_us']:,.0f}",
                    f"{each['wal_bytes']:,.0f}",
                ]
                for each in (result["store"]["single"], result["store"]["grouped"])
            ],
        ),
    ]


def introduction(result: Result) -> list[str]:
    machine, store = result["machine"], result["store"]
    out = [
        f"didmpc {machine['didmpc']}, {machine['cores']} cores ({machine['processor']}), {machine['system']},"
        f" Python {machine['python']}, {machine['event_loop']}, SQLite {machine['sqlite']},"
        f" PostgreSQL {store['version']}; {machine['filesystem']};"
        f" load {machine['load_before']} before, {machine['load_after']} after.",
    ]
    most = max(each["nodes"] for each in result["places"])
    if machine["cores"] < most + 3:
        out.append(
            f"Nodes, database and load share {machine['cores']} cores: more nodes are no more power here,"
            " only more processes that wait for each other. Compare the CPU for each message; that more nodes"
            " carry more shows where each has cores of its own."
        )
    if not store["durable"]:
        out.append("This PostgreSQL does not wait for its disk: commits cost less than they do.")
    if machine["filesystem"] == "tmpfs":
        out.append("The folder is in memory: commits cost nothing here. Name one on a disk with --directory.")
    return out


def lines(result: Result) -> list[str]:
    """For people, at a terminal."""
    out = introduction(result)
    for title, heads, rows in tables(result):
        widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
        out += ["", title]
        for row in (heads, *rows):
            first, *rest = (text.rjust(width) for text, width in zip(row, widths, strict=True))
            out.append("  " + "  ".join((first.strip().ljust(widths[0]), *rest)).rstrip())
    return out


def markdown(result: Result) -> list[str]:
    """For a document."""
    out = [" ".join(introduction(result))]
    for title, heads, rows in tables(result):
        out += ["", f"**{title}**", "", f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
        out += [f"| {' | '.join(row)} |" for row in rows]
    return out
