"""The result as tables on a terminal, as CSV, and read again from a JSON file."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from didmpc.bench.compare import sheets
from didmpc.bench.compare.aims import aims
from didmpc.protocols.errors import LocalMisuse

Json = dict[str, Any]
MOST_BYTES = 64 * 1024 * 1024
_COLUMNS = ("part", "network", "parties", "contender", "work", "run", "reference", "figure", "value")
_PARTS = {
    "runs": list,
    "exposure": list,
    "cut": list,
    "nat": list,
    "machine": dict,
    "date": str,
    "command": str,
}


def print_tables(result: Json, console: Console) -> None:
    """All that was found."""
    for sheet in sheets.sheets(result):
        table = Table(title=sheet.title, title_justify="left")
        for number, heading in enumerate(sheet.headings):
            # Words are broken over lines, figures are not.
            table.add_column(heading, overflow="fold", min_width=12 if number == 0 else None)
        for row in sheet.rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
        for note in sheet.notes:
            console.print(note, markup=False)
    for failure in sheets.failures(result):
        console.print(failure, style="red", markup=False)


def rows(result: Json) -> Iterator[Json]:
    """One for each figure: what was measured in each run, and what was found of each contender."""
    for entry in result["runs"]:
        where = {name: entry[name] for name in ("network", "parties", "contender")}
        if "figures" not in entry:
            yield from _values({"part": "runs"} | where, entry, ("skipped", "failed"))
            continue
        for number, run in enumerate(entry["measured"]):
            for name, found in run.items():
                if name != "work":
                    reference = "" if name == entry["contender"] else name
                    about = {"part": "runs", "work": run["work"], "run": number, "reference": reference}
                    yield from _values(about | where, found)
        for reference, ratios in entry["ratios"].items():
            for what, ratio in ratios.items():
                work, _, figure = what.partition(" ")
                about = {"part": "ratios", "work": work, "reference": reference}
                for kind, value in ratio.items():
                    yield about | where | {"figure": f"{figure} {kind}", "value": value}
        yield from _values(
            {"part": "set-up"} | where, entry, ("setup_seconds", "added_round_ms", "processes")
        )
        yield from _values({"part": "set-up"} | where, entry["effort"]["most_of_a_party"])
        yield from _values({"part": "cpu", "work": "micro"} | where, entry.get("cpu_by_process", {}))
    for part in ("exposure", "cut", "nat"):
        for entry in result[part]:
            about = {"part": part, "network": entry.get("site", ""), "contender": entry["contender"]}
            yield from _values(about, _flat(entry, without=("site", "contender", "title", "reference")))
    for aim in aims(result):
        yield {
            "part": "aims",
            "network": aim.where,
            "contender": "didmpc",
            "figure": aim.what,
            "value": aim.value,
        }


def _values(about: Json, found: Json, names: Iterable[str] | None = None) -> Iterator[Json]:
    for name in found if names is None else names:
        if found.get(name) is not None:
            yield about | {"figure": name, "value": found[name]}


def _flat(found: Json, *, without: Iterable[str] = ()) -> Json:
    """Values in values, each by the names that lead to it; of lists the words, in one."""
    flat: Json = {}
    for name, value in found.items():
        if isinstance(value, dict):
            flat |= {f"{name} {inner}": each for inner, each in _flat(value).items()}
        elif name not in without:
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def as_csv(result: Json) -> str:
    """Every single figure, one on each line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(rows(result))
    return text.getvalue()


def read(path: Path) -> Json:
    """A result that `didmpc bench compare --json` has written. Raises LocalMisuse."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
        result = json.loads(path.read_text())
    except OSError as error:
        raise LocalMisuse(f"{path} cannot be read.", why=f"{error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise no_result(path, f"{error}") from None
    if not isinstance(result, dict):
        raise no_result(path, "it holds no JSON object")
    if wrong := [name for name, kind in _PARTS.items() if not isinstance(result.get(name), kind)]:
        raise no_result(path, f"these parts of it are missing or of another kind: {', '.join(wrong)}")
    return result


def merged(results: Sequence[Json]) -> Json:
    """Several results of one machine as one: their commands after one another, all that was found."""
    first, *more = results
    if not more:
        return first
    whole = first | {
        "command": " && ".join(result["command"] for result in results),
        "date": f"{min(each['date'] for each in results)} to {max(each['date'] for each in results)}",
        # The load before later ones is that of those before them.
        "machine": first["machine"]
        | {"other_work": max(float(result["machine"].get("other_work", 0)) for result in results)},
        "software": {name: found for each in results for name, found in each["software"].items()},
    }
    for part in ("runs", "exposure", "cut", "nat"):
        whole[part] = [entry for result in results for entry in result[part]]
    whole["aims"] = [aim.as_json() for aim in aims(whole)]
    return whole


def no_result(path: object, why: str) -> LocalMisuse:
    """What to say of a file that is something else."""
    return LocalMisuse(
        f"{path} is not a result of the comparison.",
        why=f"{why[:1].upper()}{why[1:]}.",
        fix="didmpc bench compare --json > result.json  writes one.",
    )
