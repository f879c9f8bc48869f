"""The result for people (tables) and for programs (CSV; JSON is the result itself)."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Json = dict[str, Any]
_COLUMNS = (
    "network", "parties", "contender", "work", "run", "reference",
    "round_ms", "bulk_seconds", "bulk_mbit_per_party", "program_seconds", "cpu_seconds",
)  # fmt: skip


def print_tables(result: Json, console: Console) -> None:
    """All that was found."""
    for (network, parties), entries in _grouped(result["runs"]).items():
        console.print(_times(f"{network}, {parties} parties", entries))
    if result["exposure"]:
        console.print(_exposure(result["exposure"]))
    if result["cut"] or result["nat"]:
        console.print(_reach(result))
    for entry in (each for part in ("runs", "exposure", "cut") for each in result[part] if "failed" in each):
        console.print(f"{entry['title']} failed: {entry['failed']}", style="red", markup=False)


def _grouped(entries: list[Json]) -> dict[tuple[str, int], list[Json]]:
    groups: dict[tuple[str, int], list[Json]] = {}
    for entry in entries:
        groups.setdefault((entry["network"], entry["parties"]), []).append(entry)
    return groups


def _times(title: str, entries: list[Json]) -> Table:
    table = Table(title=title, title_justify="left")
    demos = sorted({what for entry in entries for what in entry.get("figures", {}) if what != "micro"})
    table.add_column("contender")
    for heading in (
        "steps", "connected s", "round ms", "added", "x tcp (min-max)", "x relay", "bulk Mbit/s", "x tcp",
        "x relay",
        *(f"{demo} x {reference}" for demo in demos for reference in ("tcp", "relay")), "CPU s",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for entry in entries:
        if "figures" not in entry:
            table.add_row(entry["title"], f"skipped: {entry['skipped']}" if "skipped" in entry else "failed")
            continue
        micro, ratios = entry["figures"]["micro"], entry["ratios"]
        tcp, relay = ratios.get("tcp", {}), ratios.get("relay", {})
        table.add_row(
            entry["title"],
            str(entry["effort"]["most_of_a_party"]["steps"]),
            f"{entry['setup_seconds']:.1f}",
            f"{micro['round_ms']:.2f}",
            "-" if entry["added_round_ms"] is None else f"{entry['added_round_ms']:+.2f}",
            _spread(tcp.get("micro round_ms")),
            _median(relay.get("micro round_ms")),
            f"{micro['bulk_mbit_per_party']:.0f}",
            _median(tcp.get("micro bulk_seconds")),
            _median(relay.get("micro bulk_seconds")),
            *(_median(each.get(f"{demo} program_seconds")) for demo in demos for each in (tcp, relay)),
            f"{micro['cpu_seconds']:.1f}",
        )
    return table


def _exposure(entries: list[Json]) -> Table:
    table = Table(title="On the wire, from packet captures", title_justify="left")
    for heading in (
        "contender", "bytes per payload byte", "bytes per round", "opened from outside",
        "contents: eavesdropper", "contents: server", "pairs an eavesdropper sees", "sizes",
    ):  # fmt: skip
        table.add_column(heading)
    for entry in entries:
        if "eavesdropper" not in entry:
            table.add_row(entry["title"], "skipped" if "skipped" in entry else "failed")
            continue
        seen, servers = entry["eavesdropper"], entry["servers"].values()
        table.add_row(
            entry["title"],
            f"{entry['bytes_per_payload_byte']:.2f}",
            f"{entry['bytes_per_round_and_party']:.0f}",
            "; ".join(f"{host} {' '.join(ports)}" for host, ports in entry["opened_from_outside"].items()),
            _readable(seen["contents_readable"]),
            _readable(any(each["contents_readable"] for each in servers)) if servers else "no server",
            ", ".join(seen["pairs"]),
            str(seen["sizes"]),
        )
    return table


def _reach(result: Json) -> Table:
    sites = list(dict.fromkeys(entry["site"] for entry in result["nat"]))
    cuts = {entry["contender"]: entry for entry in result["cut"]}
    table = Table(title="What it works behind, and what it survives", title_justify="left")
    for heading in ("contender", *sites, *(["10 s cut"] if cuts else [])):
        table.add_column(heading)
    works = {(entry["contender"], entry["site"]): entry for entry in result["nat"]}
    titles = {entry["contender"]: entry["title"] for part in ("nat", "cut") for entry in result[part]}
    for name, title in titles.items():
        row = [_yes(works.get((name, site), {}).get("works")) for site in sites]
        table.add_row(title, *row, *([_yes(cuts.get(name, {}).get("survived"))] if cuts else []))
    return table


def rows(result: Json) -> Iterator[Json]:
    """One for each run of a contender and of its references."""
    for entry in result["runs"]:
        for number, run in enumerate(entry.get("measured", ())):
            for name, figures in run.items():
                if name != "work":
                    yield {
                        "network": entry["network"],
                        "parties": entry["parties"],
                        "contender": entry["contender"],
                        "work": run["work"],
                        "run": number,
                        "reference": "" if name == entry["contender"] else name,
                        **figures,
                    }


def as_csv(result: Json) -> str:
    """Every single run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(rows(result))
    return text.getvalue()


def _median(ratio: Json | None) -> str:
    return f"{ratio['median']:.2f}" if ratio else "-"


def _spread(ratio: Json | None) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})" if ratio else "-"


def _readable(value: bool) -> str:
    return "readable" if value else "not readable"


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"
