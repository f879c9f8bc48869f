"""The figures as tables, for people and as Markdown for docs/performance.md, and whether the aims are met."""

from collections.abc import Iterable, Sequence
from typing import Any

Result = dict[str, Any]
Row = Sequence[str]

SECTIONS = ("messages", "relayed", "computing", "delayed")

MESSAGES = {
    "bare": "AES-GCM alone, seal and open",
    "binary X25519": "session, binary form, X25519",
    "binary X25519MLKEM768": "session, binary form, X25519MLKEM768",
    "relayed": "the same with both hops, all three",
    "json": "session, JSON form",
    "json-forward": "JSON form in a forward, all three",
    "didcomm": "DIDComm, authcrypt and forward, all three",
    "pypi": "PyPI didcomm, the same",
}
WAYS = {
    "direct": "TCP, direct",
    "tls": "TLS, direct",
    "relay": "raw TCP relay",
    "tls-relay": "TLS relay",
    "session": "session, mediator",
}
NETWORKS = {"tcp": "MPyC's TCP", "relay": "raw relay", "session": "didmpc"}
WORK = {
    "rounds": "{rounds:,} multiplications, one by one",
    "parallel": "{parallel:,} multiplications at once, x 5",
    "bulk": "{bulk:,} bytes to each party, x 3",
    "aes": "demo aes -1",
    "id3gini": "demo id3gini",
}
WORK_AIMS = {"rounds": 1.6, "parallel": 1.1, "bulk": 1.5, "aes": 1.35, "id3gini": 1.35}
DELAYED_ROUNDS_AIM = 1.05
PROCESSES = {
    "messages": "one process, without sockets; PyPI didcomm in one of its own",
    "relayed": "two ends, and a mediator, a raw relay or nothing between them; all on uvloop",
    "computing": "per party an agent, a channel and a program process, and one mediator, against one process"
    " per party, and a relay; all on uvloop",
}


# --- aims


def aims(result: Result) -> list[Result]:
    """What is aimed at, and whether it is met; only of what was measured."""
    found: list[Result] = []
    if "messages" in result:
        us = {name: way["us"] for name, way in result["messages"]["ways"].items()}
        found.append(_aim("seal and open a 64 B record, us", "at most", 4.0, us["binary X25519"]))
        if "pypi" in us:
            times = result["messages"]["ways"]["pypi"]["times_relayed"]
            found.append(_aim("PyPI didcomm's cryptography, times a session's", "at least", 200.0, times))
    if "relayed" in result:
        trips = result["relayed"]["round_trip_ratio"]
        if "64" in trips:
            found.append(
                _aim("relayed round trip of 64 B, times raw", "at most", 1.5, trips["64"]["session"])
            )
        rate = result["relayed"]["throughput_ratio"]["session"]
        found.append(_aim("relayed 256 KiB records, share of raw", "at least", 0.6, rate))
    for name, times in _times(result, "computing").items():
        found.append(_aim(f"{name}, times raw relay", "at most", WORK_AIMS[name], times))
    delayed = _times(result, "delayed")
    if "rounds" in delayed:
        trip = result["delayed"]["round_trip_ms"]
        what = f"rounds at {trip} ms, times raw relay"
        found.append(_aim(what, "at most", DELAYED_ROUNDS_AIM, delayed["rounds"]))
    return found


def _times(result: Result, section: str) -> dict[str, float]:
    ratios = result.get(section, {}).get("ratio_to_relay", {})
    return {name: each["session"] for name, each in ratios.items()}


def _aim(what: str, bound: str, aim: float, value: float) -> Result:
    met = value <= aim if bound == "at most" else value >= aim
    return {"what": what, "bound": bound, "aim": aim, "value": value, "met": met}


# --- tables


def lines(result: Result) -> list[str]:
    """For people."""
    return _write(result, _plain, "{}")


def markdown(result: Result) -> list[str]:
    """For docs/performance.md."""
    return _write(result, _piped, "**{}**")


def _write(result: Result, table: Any, title: str) -> list[str]:
    out = _machine(result)
    for name, rows in _tables(result):
        out += ["", title.format(name), "", *table(rows)]
    skipped = [
        text
        for section in result.values()
        if isinstance(section, dict)
        for text in section.get("skipped", ())
    ]
    return out + [""] * bool(skipped) + list(dict.fromkeys(skipped))


def _machine(result: Result) -> list[str]:
    machine = result["machine"]
    return [
        f"didmpc {machine['didmpc']}, {machine['cores']} cores ({machine['processor']}), {machine['system']},"
        f" Python {machine['python']}, {machine['event_loop']}, aiohttp {machine['aiohttp']},"
        f" cryptography {machine['cryptography']}; load {machine['load_before']} before,"
        f" {machine['load_after']} after",
    ]


def _tables(result: Result) -> Iterable[tuple[str, list[Row]]]:
    if "messages" in result:
        yield f"One message of 64 bytes ({PROCESSES['messages']})", _messages(result["messages"])
    if "relayed" in result:
        found = result["relayed"]
        yield f"Round trips, us, and times the raw relay ({PROCESSES['relayed']})", _trips(found)
        yield f"{found['bulk'] >> 20} MiB one way, in records of 256 KiB", _rates(found)
    for section in ("computing", "delayed"):
        if section in result:
            found = result[section]
            trip = f" with a round trip of {found['round_trip_ms']} ms" if found["round_trip_ms"] else ""
            yield f"MPyC, {found['parties']} parties{trip} ({PROCESSES['computing']})", _work(found)
    if result["aims"]:
        yield "Aims", [("", "", "measured", "aim"), *map(_aim_row, result["aims"])]


def _messages(found: Result) -> list[Row]:
    ways = found["ways"]
    rows: list[Row] = [("", "CPU us", "times a relayed session", "bytes")]
    for name, way in ways.items():
        rows.append(
            (MESSAGES[name], f"{way['us']:,.2f}", f"{way['times_relayed']:,.2f}", f"{way['bytes']:,}")
        )
    return rows


def _trips(found: Result) -> list[Row]:
    sizes = list(found["round_trip_us"])
    rows: list[Row] = [("", *(f"{int(size):,} B" for size in sizes))]
    for way, said in WAYS.items():
        cells = (
            f"{found['round_trip_us'][size][way]:,.0f} ({found['round_trip_ratio'][size][way]:.2f})"
            for size in sizes
        )
        rows.append((said, *cells))
    return rows


def _rates(found: Result) -> list[Row]:
    rows: list[Row] = [("", "MB/s", "share of the raw relay")]
    for way, said in WAYS.items():
        rate, share = found["bytes_per_second"][way], found["throughput_ratio"][way]
        rows.append((said, f"{rate / 1e6:,.0f}", f"{share:.2f}"))
    return rows


def _work(found: Result) -> list[Row]:
    head = [f"{said}, s" for said in NETWORKS.values()]
    rows: list[Row] = [("", *head, "didmpc / raw relay", "didmpc / TCP")]
    for name, seconds in found["seconds"].items():
        rows.append(
            (
                WORK[name].format(**found["amounts"]),
                *(f"{seconds[way]:.3f}" for way in NETWORKS),
                f"{found['ratio_to_relay'][name]['session']:.2f}",
                f"{found['ratio_to_tcp'][name]:.2f}",
            )
        )
    return rows


def _aim_row(aim: Result) -> Row:
    met = "met" if aim["met"] else "missed"
    return aim["what"], met, f"{aim['value']:,.2f}", f"{aim['bound']} {aim['aim']:g}"


def _plain(rows: list[Row]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _piped(rows: list[Row]) -> list[str]:
    head, *body = rows
    rule = ["---", *("---:" for _ in head[1:])]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]
