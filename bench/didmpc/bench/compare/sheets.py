"""What a result says, as tables of text: `sheets`. The terminal, HTML and Markdown show the same ones.

Every column is a figure or an observation of this result; `source` says what it was taken from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from didmpc.bench.compare.aims import Aim, aims

Json = dict[str, Any]
BUSY = 3.0
"""A load average from which on the other work of a machine is in the figures."""
BUSY_SHARE = 0.15
"""The same, of the CPU time of all cores; of it some hundredths are the kernel's own for test hosts."""

AIMS = "Aims"
"""The title of the first sheet, if anything is aimed at."""
MOST_PORTS = 6
MOST_WORDS = 200
"""Of what failed; the result has all that was said."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table; its first column names the contender."""

    title: str
    source: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)


def sheets(result: Json) -> list[Sheet]:
    """Those that the result has anything for."""
    found = [_aims(aimed)] if (aimed := aims(result)) else []
    for group, entries in grouped(result["runs"]).items():
        found.append(_figures(*group, entries))
        if any(entry.get("ratios") for entry in entries):
            found.append(_ratios(*group, entries))
        if any(entry.get("cpu_by_process") for entry in entries):
            found.append(_where(*group, entries))
    found += [_ease(entries) for entries in [_with_effort(result)] if entries]
    if result["exposure"]:
        found += [_security(result["exposure"]), _privacy(result["exposure"])]
    if result["cut"] or result["nat"]:
        found.append(_reach(result))
    if result.get("software"):
        found.append(_software(result))
    if result.get("hosts"):
        found.append(_hosts(result["hosts"]))
    return found


def caution(result: Json) -> str:
    """A sentence about a machine that was busy, or nothing."""
    busy = [
        f"{about.get('host', 'the machine')}: load average {load:g} on {about['cores']} cores"
        for about in result.get("hosts") or [result["machine"]]
        if (load := max(float(about.get(name, 0)) for name in ("load_before", "load_after"))) >= BUSY
    ]
    if (share := float(result["machine"].get("other_work", 0))) >= BUSY_SHARE:
        busy.append(f"meanwhile others had {share:.0%} of its CPU time")
    if not busy:
        return ""
    return (
        f"There was other work ({'; '.join(busy)}): "
        "only ratios of the same pair mean anything here, and those that depend on CPU little."
    )


def grouped(entries: list[Json]) -> dict[tuple[str, int], list[Json]]:
    """Runs by network and number of parties."""
    groups: dict[tuple[str, int], list[Json]] = {}
    for entry in entries:
        groups.setdefault((entry["network"], entry["parties"]), []).append(entry)
    return groups


def steps(result: Json) -> Iterator[tuple[str, list[str]]]:
    """Of each contender: what was done on which host to get connected, in order."""
    for entry in _with_effort(result):
        evidence = entry["effort"]["evidence"]
        yield entry["title"], [f"{each['host']} ({each['kind']}) {each['text']}" for each in evidence]


def failures(result: Json) -> Iterator[str]:
    """What went wrong, in the words that were said."""
    for part in ("runs", "exposure", "cut", "nat"):
        for entry in result[part]:
            where = entry.get("network") or entry.get("site") or part
            if "failed" in entry:
                yield f"{entry['title']} failed twice ({where}): {_brief(entry['failed'])}"
            elif "failed_at_first" in entry:
                words = _brief(entry["failed_at_first"])
                yield f"{entry['title']} failed, and worked when it was set up anew ({where}): {words}"


def figures(entry: Json, work: str) -> Json:
    """The medians of one contender's work; none if it took no part."""
    found: Json = entry.get("figures", {}).get(work, {})
    return found


# --- time


def _demos(entries: list[Json]) -> list[str]:
    return sorted({what for entry in entries for what in entry.get("figures", {}) if what != "micro"})


def _figures(network: str, parties: int, entries: list[Json]) -> Sheet:
    demos = _demos(entries)
    headings = (
        "contender", "connected s", "round ms", "added ms", "bulk Mbit/s", *(f"{demo} s" for demo in demos),
        "CPU s", "processes",
    )  # fmt: skip
    rows = []
    for entry in entries:
        if "figures" not in entry:
            rows.append(_absent(entry, headings))
            continue
        micro = entry["figures"]["micro"]
        added = entry["added_round_ms"]
        rows.append(
            (
                entry["title"],
                f"{entry['setup_seconds']:.1f}",
                f"{micro['round_ms']:.2f}",
                "-" if added is None else f"{added:+.2f}",
                f"{micro['bulk_mbit_per_party']:.0f}",
                *(_seconds(figures(entry, demo).get("program_seconds")) for demo in demos),
                f"{micro['cpu_seconds']:.1f}",
                str(entry.get("processes", "-")),
            )
        )
    return Sheet(
        f"Figures: {network}, {parties} parties",
        "Medians. Connected: from nothing to a first program that has run. Added: what a round takes longer "
        "than over plain TCP in the same pair. Mbit/s: what each party sends. CPU and processes: of all "
        "parties and servers, both micro-benchmarks.",
        headings,
        rows,
        [f"{entry['title']} skipped: {entry['skipped']}" for entry in entries if "skipped" in entry],
    )


def _ratios(network: str, parties: int, entries: list[Json]) -> Sheet:
    works = {"micro round_ms": "round", "micro bulk_seconds": "bulk"}
    works |= {f"{demo} program_seconds": demo for demo in _demos(entries)}
    headings = (
        "contender",
        *(f"{work} x {reference}" for work in works.values() for reference in ("tcp", "relay")),
    )
    rows = [
        (
            entry["title"],
            *(
                _spread(entry["ratios"].get(reference, {}).get(work))
                for work in works
                for reference in ("tcp", "relay")
            ),
        )
        for entry in entries
        if entry.get("ratios")
    ]
    repeats = sorted({_repeats(entry) for entry in entries if "measured" in entry})
    runs = f"{repeats[0]} to {repeats[-1]}" if len(repeats) > 1 else str(repeats[0])
    return Sheet(
        f"Times plain TCP, and times the raw relay: {network}, {parties} parties",
        f"Runs of each work: {runs}, each paired with plain TCP (and, if relayed, with the raw TCP relay) "
        "right before it. Ratios of time in the same pair: median (least-largest).",
        headings,
        rows,
    )


def _where(network: str, parties: int, entries: list[Json]) -> Sheet:
    return Sheet(
        f"Where the CPU time goes: {network}, {parties} parties",
        "CPU seconds of each kind of process, of all parties and servers together, in one more run of both "
        "micro-benchmarks. What a process uses in its last tenth of a second is not in it.",
        ("contender", "CPU seconds"),
        [
            (
                entry["title"],
                ", ".join(f"{name} {used:.2f}" for name, used in entry["cpu_by_process"].items()) or "-",
            )
            for entry in entries
            if "cpu_by_process" in entry
        ],
    )


def _repeats(entry: Json) -> int:
    return sum(run["work"] == "micro" for run in entry.get("measured", ()))


# --- what it is to show


def _aims(found: list[Aim]) -> Sheet:
    return Sheet(
        AIMS,
        f"{_count(found)} didmpc in session mode through one mediator beside the raw TCP relay, in the same"
        " pairs: what is aimed at as a median, and whether it is reached.",
        ("what", "where", "median (least-largest)", "at most", "verdict"),
        [
            (
                aim.what,
                aim.where,
                _spread({"median": aim.value, "min": aim.least, "max": aim.largest}),
                "-" if aim.wanted is None else f"{aim.wanted:g}",
                aim.verdict(),
            )
            for aim in found
        ],
    )


def _count(found: list[Aim]) -> str:
    wanted = [aim.met for aim in found if aim.met is not None]
    return f"Reached: {sum(wanted)} of {len(wanted)}." if wanted else ""


# --- ease of use


def _with_effort(result: Json) -> list[Json]:
    """Of each contender the first entry that says what had to be done."""
    first: dict[str, Json] = {}
    for entry in result["runs"]:
        if "effort" in entry:
            first.setdefault(entry["contender"], entry)
    return list(first.values())


def _ease(entries: list[Json]) -> Sheet:
    kinds = ("command", "daemon", "configuration", "exchange")
    rows = []
    for entry in entries:
        most, hosts = entry["effort"]["most_of_a_party"], entry["effort"]["hosts"]
        servers = [each for name, each in hosts.items() if name.startswith("vps")]
        rows.append(
            (
                entry["title"],
                *(str(most[kind]) for kind in kinds),
                str(most["steps"]),
                str(sum(each["steps"] for each in servers)),
                f"{entry['setup_seconds']:.1f}",
            )
        )
    return Sheet(
        "Ease of use",
        f"The steps that were really done for {entries[0]['parties']} parties, by the party who has most to "
        "do, each listed below; and the clock.",
        (
            "contender", "commands", "daemons", "configuration lines", "things handed over",
            "steps of a party", "steps on servers", "nothing to connected s",
        ),
        rows,
    )  # fmt: skip


# --- security and privacy


def _security(entries: list[Json]) -> Sheet:
    headings = (
        "contender", "contents on the wire", "contents in the server", "ports opened at parties",
        "ports opened at servers", "bytes per payload byte", "frames captured",
    )  # fmt: skip
    rows = []
    for entry in entries:
        if "eavesdropper" not in entry:
            rows.append(_absent(entry, headings))
            continue
        seen, servers = entry["eavesdropper"], entry["servers"].values()
        rows.append(
            (
                entry["title"],
                _readable(seen["contents_readable"]),
                _readable(any(each["contents_readable"] for each in servers)) if servers else "no server",
                _ports(entry["opened_from_outside"], "party"),
                _ports(entry["opened_from_outside"], "vps"),
                f"{entry['bytes_per_payload_byte']:.2f}",
                f"{seen['frames']} ({entry['frames_missed']} missed)",
            )
        )
    return Sheet(
        "Security",
        "Packets captured on all links and inside the servers while a known block was sent: readable where "
        "that block was found as it is. Opened is what a first packet or a connection came in for.",
        headings,
        rows,
    )


def _privacy(entries: list[Json]) -> Sheet:
    headings = (
        "contender", "pairs on the wire", "pairs in the server", "distinct sizes", "median gap ms",
        "bytes per round and party",
    )  # fmt: skip
    rows = []
    for entry in entries:
        if "eavesdropper" not in entry:
            rows.append(_absent(entry, headings))
            continue
        seen = entry["eavesdropper"]
        inside = sorted({pair for each in entry["servers"].values() for pair in each["pairs"]})
        gap = seen["median_gap_ms"]
        rows.append(
            (
                entry["title"],
                ", ".join(seen["pairs"]) or "-",
                ", ".join(inside) or "no server",
                str(seen["sizes"]),
                "-" if gap is None else f"{gap:g}",
                f"{entry['bytes_per_round_and_party']:.0f}",
            )
        )
    return Sheet(
        "Privacy",
        "The same captures: who was seen to talk with whom, frame sizes, and times between frames.",
        headings,
        rows,
    )


def _ports(opened: dict[str, list[str]], role: str) -> str:
    found = sorted({port for host, ports in opened.items() if host.startswith(role) for port in ports})
    more = len(found) - MOST_PORTS
    return " ".join(found[:MOST_PORTS]) + (f" and {more} more" if more > 0 else "") or "none"


# --- reach


def _reach(result: Json) -> Sheet:
    sites = list(dict.fromkeys(entry["site"] for entry in result["nat"]))
    cuts = {entry["contender"]: entry for entry in result["cut"]}
    works = {(entry["contender"], entry["site"]): entry for entry in result["nat"]}
    titles = {entry["contender"]: entry["title"] for part in ("nat", "cut") for entry in result[part]}
    rows = []
    for name, title in titles.items():
        row = [_reached(works.get((name, site), {})) for site in sites]
        rows.append((title, *row, *([_survived(cuts.get(name, {}))] if cuts else [])))
    said: dict[tuple[str, str], list[str]] = {}
    for entry in (*result["nat"], *result["cut"]):
        if entry.get("why"):
            said.setdefault((entry["title"], _brief(entry["why"])), []).append(entry.get("site", "10 s cut"))
    notes = [f"{title} ({', '.join(where)}): {why}" for (title, why), where in said.items()]
    return Sheet(
        "What it works behind, and what it survives",
        "A small program with the three parties behind such a NAT or firewall, tried once: whether it ran, "
        "and seconds from nothing to its end. And one during which a party could reach nobody for 10 s. "
        "Others were observed on the same machine meanwhile, so these seconds are no figures to compare.",
        ("contender", *sites, *(["10 s cut"] if cuts else [])),
        rows,
        notes,
    )


def _reached(entry: Json) -> str:
    if "works" not in entry:
        return "skipped" if "skipped" in entry else "-"
    return f"yes, {entry['seconds']:.1f} s" if entry["works"] else "no"


def _survived(entry: Json) -> str:
    if "survived" not in entry:
        return "skipped" if "skipped" in entry else "failed" if "failed" in entry else "-"
    return f"yes, {entry['seconds']:.0f} s" if entry["survived"] else "no"


# --- software


def _software(result: Json) -> Sheet:
    entries = {
        entry["contender"]: entry for part in ("runs", "exposure", "cut", "nat") for entry in result[part]
    }
    return Sheet(
        "Software and sources",
        "Versions of what was installed, as the package managers say, and where it is described.",
        ("contender", "versions", "described in"),
        [
            (
                entries[name]["title"] if name in entries else name,
                ", ".join(f"{what} {version}" for what, version in versions.items()),
                entries.get(name, {}).get("reference") or "-",
            )
            for name, versions in result["software"].items()
        ],
    )


# --- hosts of a fleet


def _hosts(hosts: list[Json]) -> Sheet:
    return Sheet(
        "Hosts",
        "The machines that took part, and how busy they were. Commands of the set-up came over SSH, which is "
        "in the time from nothing to connected.",
        ("host", "address", "where", "cores", "processor", "system", "Python", "load before", "after"),
        [
            (
                *(str(each[name] or "-") for name in ("host", "address", "label")),
                *(str(each[name]) for name in ("cores", "processor", "system", "python")),
                *(str(each[name]) for name in ("load_before", "load_after")),
            )
            for each in hosts
        ],
    )


# --- cells


def _absent(entry: Json, headings: Sequence[str]) -> tuple[str, ...]:
    return (entry["title"], "skipped" if "skipped" in entry else "failed", *("" for _ in headings[2:]))


def _brief(text: str) -> str:
    """How it begins and how it ends: the last words are mostly those that tell."""
    line = " ".join(text.split())
    half = MOST_WORDS // 2
    if len(line) <= MOST_WORDS:
        return line
    return f"{line[:half].rpartition(' ')[0]} ... {line[-half:].partition(' ')[2]}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _spread(ratio: Json | None) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})" if ratio else "-"


def _readable(value: bool) -> str:
    return "readable" if value else "not readable"
