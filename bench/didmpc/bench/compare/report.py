"""The result as tables on a terminal, as CSV, and read again from a JSON file."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from didmpc.bench.compare import sheets
from didmpc.protocols.errors import LocalMisuse

Json = dict[str, Any]
MOST_BYTES = 64 * 1024 * 1024
_COLUMNS = (
    "network", "parties", "contender", "work", "run", "reference",
    "round_ms", "bulk_seconds", "bulk_mbit_per_party", "program_seconds", "cpu_seconds",
)  # fmt: skip
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


def no_result(path: Path, why: str) -> LocalMisuse:
    """What to say of a file that is something else."""
    return LocalMisuse(
        f"{path} is not a result of the comparison.",
        why=f"{why[:1].upper()}{why[1:]}.",
        fix="didmpc bench compare --json > result.json  writes one.",
    )
