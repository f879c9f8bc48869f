"""The plots of a report, as SVG: needs matplotlib (`didmpc[report]`).

They are narrow, with names above what they name, so that they can be read on a phone; their colours are CSS
variables, light or dark as the reader has it, in a page and as files of their own alike.
"""

import importlib.util
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from didmpc.bench.compare import sheets
from didmpc.protocols.errors import LocalMisuse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a87400", "#2f9bd8", "#000000")
_DARK = ("#4aa3df", "#f58a45", "#2fc89b", "#e39cc6", "#e6b030", "#9ad4ff", "#ffffff")
"""After Okabe and Ito: told apart by the colour-blind as well; marks differ besides."""
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_INK, _FAINT, _PAPER = "#010101", "#020202", "#030303"
"""What matplotlib is told, and CSS variables take the place of."""
_VARIABLES = {_INK: "--ink", _FAINT: "--faint", _PAPER: "--paper"} | {
    colour: f"--series{number}" for number, colour in enumerate(_LIGHT)
}
LIGHT = {"--ink": "#222222", "--faint": "#8a8a8a", "--paper": "#ffffff"}
DARK = {"--ink": "#e4e4e4", "--faint": "#7d7d7d", "--paper": "#15171a"}
WIDTH = 4.2
"""Inches: 400 pixels."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.4,
    "legend.frameon": False,
    "legend.handletextpad": 0.3,
    "legend.columnspacing": 1.0,
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
    "grid.color": _FAINT,
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color"), _INK)
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture: its caption, and an SVG element that can stand in a page beside others, or alone."""

    name: str
    caption: str
    svg: str

    def file(self) -> str:
        """Its content as a file of its own."""
        return f'<?xml version="1.0" encoding="utf-8"?>\n{self.svg}\n'


def raise_unless_possible() -> None:
    """Raises LocalMisuse where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise LocalMisuse(
            "The plots of the report need matplotlib, which is not installed.",
            why="It is not needed to run didmpc, so it is not installed with it.",
            fix="In a checkout: make install-report. Elsewhere: pip install 'didmpc[report]'",
        )


def plots(result: Json) -> list[Plot]:
    """Those that the result has figures for. Raises LocalMisuse without matplotlib."""
    raise_unless_possible()
    import matplotlib as mpl  # noqa: PLC0415  (optional, and slow to load)

    with mpl.rc_context(_STYLE):
        return [
            Plot(f"plot{number}", caption, _svg(figure, f"plot{number}"))
            for number, (caption, figure) in enumerate(_figures(result), 1)
        ]


def _figures(result: Json) -> Iterator[tuple[str, "Figure"]]:
    works = sorted({what for entry in result["runs"] for what in entry.get("figures", {})})
    compared = [("micro round_ms", "Round time"), ("micro bulk_seconds", "Bulk transfer time")]
    compared += [(f"{what} program_seconds", f"Program {what}") for what in works if what != "micro"]
    for figure, title in compared:
        for reference, name in (("tcp", "plain TCP"), ("relay", "the raw TCP relay")):
            series = _ratios(result, figure, reference)
            if series:
                caption = f"{title} divided by that over {name} in the same run: median, least, largest."
                yield caption, _dots(series, f"{title}: ratio to {name}")
    groups = sheets.grouped(result["runs"])
    cpu = {_group(*key): _micro(entries, "cpu_seconds") for key, entries in groups.items()}
    if cpu := {name: values for name, values in cpu.items() if values}:
        yield "CPU time of all processes, both micro-benchmarks: median.", _bars(cpu, "CPU seconds")
    ready = {
        _group(*key): {
            entry["title"]: float(entry["setup_seconds"]) for entry in entries if "setup_seconds" in entry
        }
        for key, entries in groups.items()
    }
    if ready := {name: values for name, values in ready.items() if values}:
        yield "From nothing (no keys, no processes) to a first program that has run.", _bars(ready, "Seconds")
    if effort := _effort(result):
        yield "What the party who has most to do has to do.", _bars(effort, "Steps and lines", stacked=True)
    wire = {
        entry["title"]: float(entry["bytes_per_payload_byte"])
        for entry in result["exposure"]
        if "bytes_per_payload_byte" in entry
    }
    if wire:
        caption = "Bytes on all links for each byte that a program sent in bulk, from packet captures."
        yield caption, _bars({"": wire}, "Bytes per payload byte")


# --- what is shown


def _group(network: str, parties: int) -> str:
    return f"{network}, {parties} parties"


def _ratios(result: Json, figure: str, reference: str) -> dict[str, dict[str, Json]]:
    found: dict[str, dict[str, Json]] = {}
    for entry in result["runs"]:
        ratio = entry.get("ratios", {}).get(reference, {}).get(figure)
        if ratio:
            found.setdefault(_group(entry["network"], entry["parties"]), {})[entry["title"]] = ratio
    return found


def _micro(entries: list[Json], figure: str) -> dict[str, float]:
    return {
        entry["title"]: float(entry["figures"]["micro"][figure]) for entry in entries if "figures" in entry
    }


def _effort(result: Json) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    kinds = {"command": "commands", "daemon": "daemons", "exchange": "things handed over"}
    for kind, shown in (kinds | {"configuration": "configuration lines"}).items():
        for entry in result["runs"]:
            if "effort" in entry:
                most = entry["effort"]["most_of_a_party"]
                found.setdefault(shown, {}).setdefault(entry["title"], float(most[kind]))
    return found


# --- how


def _titles(series: dict[str, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(title for values in series.values() for title in values))


def _axes(titles: list[str], heading: str, lines: int) -> tuple["Figure", "Axes"]:
    """A row for each title, which stands above what belongs to it; `lines`: the most that a row holds."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    # No pyplot: it would look for a display, and keep the figures.
    height = 0.22 + 0.1 * max(lines, 2)
    figure = Figure(figsize=(WIDTH, 1.0 + height * len(titles)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks([])
    axes.set_ylim(len(titles) - 0.4, -0.6)
    axes.set_xlabel(heading)
    on_paper = {"facecolor": _PAPER, "edgecolor": "none", "pad": 0.8}
    for number, title in enumerate(titles):
        at = axes.get_yaxis_transform()
        axes.text(0, number - 0.5, title, transform=at, va="top", zorder=5, bbox=on_paper)
    return figure, axes


_ROOM, _BELOW = 0.5, 0.15
"""Of a row: below its title, and below that before the next one."""


def _place(number: int, count: int) -> float:
    """Of a row's middle, where the one of `count` lines is that has this number."""
    return 0.5 - _BELOW - _ROOM * (1 - (number + 0.5) / count)


def _legend(figure: "Figure", names: Iterable[str]) -> None:
    """What has no name needs none."""
    if count := sum(bool(name) for name in names):
        figure.legend(loc="outside upper left", ncols=min(count, 2))


def _dots(series: dict[str, dict[str, Json]], heading: str) -> "Figure":
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    titles = _titles(series)
    figure, axes = _axes(titles, heading, len(series))
    for number, (name, values) in enumerate(series.items()):
        shift = _place(number, len(series))
        medians = [each["median"] for each in values.values()]
        reach = [
            [each["median"] - each["min"] for each in values.values()],
            [each["max"] - each["median"] for each in values.values()],
        ]
        axes.errorbar(
            medians,
            [titles.index(title) + shift for title in values],
            xerr=reach,
            fmt=_MARKS[number % len(_MARKS)],
            color=_LIGHT[number % len(_LIGHT)],
            markersize=4.5,
            elinewidth=1,
            capsize=2,
            label=name,
        )
    axes.axvline(1.0, color=_INK, linewidth=0.8, linestyle="--")
    everything = [
        each[end] for values in series.values() for each in values.values() for end in ("min", "max")
    ]
    if max(everything) > 5:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    _legend(figure, series)
    return figure


def _bars(series: dict[str, dict[str, float]], heading: str, *, stacked: bool = False) -> "Figure":
    titles = _titles(series)
    lines = 1 if stacked else len(series)
    figure, axes = _axes(titles, heading, lines)
    height = 0.9 * _ROOM / lines
    base = dict.fromkeys(titles, 0.0)
    for number, (name, values) in enumerate(series.items()):
        shift = _place(0 if stacked else number, lines)
        axes.barh(
            [titles.index(title) + shift for title in values],
            list(values.values()),
            height,
            left=[base[title] for title in values] if stacked else None,
            color=_LIGHT[number % len(_LIGHT)],
            label=name,
        )
        for title, value in values.items():
            base[title] += value
    _legend(figure, series)
    return figure


def _svg(figure: "Figure", name: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):  # the same result makes the same file
        figure.savefig(text, format="svg", metadata=_NOTHING)
    element = text.getvalue()
    element = element[element.index("<svg") :].strip()
    # Several stand in one page, where an id must be the only one.
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", element)
    element = re.sub("|".join(_VARIABLES), lambda found: f"var({_VARIABLES[found[0]]})", element)
    return re.sub("<svg([^>]*)>", rf'<svg class="plot"\1>\n<style>{style(".plot")}</style>', element, count=1)


def style(selector: str) -> str:
    """CSS: the colours, dark where the reader likes it dark."""
    light, dark = (
        "; ".join(f"{name}: {value}" for name, value in (shades | series).items())
        for shades, series in (
            (LIGHT, {f"--series{number}": colour for number, colour in enumerate(_LIGHT)}),
            (DARK, {f"--series{number}": colour for number, colour in enumerate(_DARK)}),
        )
    )
    return (
        f"{selector} {{ {light}; }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ {selector} {{ {dark}; }} }}\n"
    )
