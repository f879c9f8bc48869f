"""The commands `didmpc bench compare` and `didmpc bench list`."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from didmpc.bench.compare import report
from didmpc.bench.compare.compare import LOOPBACK, Plan, compare
from didmpc.bench.compare.contender import contenders
from didmpc.bench.compare.isolate import run_isolated
from didmpc.bench.mediator.machine import machine
from didmpc.protocols.errors import LocalMisuse

Json = dict[str, Any]


def list_contenders() -> None:
    """A table on stdout."""
    table = Table("name", "what", "root", "here")
    for name, each in contenders().items():
        missing = each.missing()
        packages = " ".join(sorted({one.package for one in missing}))
        here = f"install: apt install {packages}" if missing else "installed"
        table.add_row(name, each.title, "no" if each.on_loopback else "yes", here)
    Console().print(table)


def run(plan: Plan) -> Json:
    """Compare; on test hosts of our own if anything in the plan needs them. Raises DidmpcError."""
    about = {
        "command": " ".join(["didmpc", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(plan.folder),
    }
    if plan.profiles == (LOOPBACK,) and not (plan.exposure or plan.cut or plan.nat):
        return about | compare(plan)
    kept = plan.folder / "result.json"
    run_isolated(lambda: _keep(kept, compare(plan)))
    result: Json = json.loads(kept.read_text())
    return about | result


def _keep(path: Path, result: Json) -> None:
    path.write_text(json.dumps(result))


def write(result: Json, *, as_json: bool, csv_file: Path | None) -> None:
    """To stdout, and to a file if asked to. Raises LocalMisuse."""
    if csv_file is not None:
        try:
            csv_file.write_text(report.as_csv(result))
        except OSError as error:
            raise LocalMisuse(f"{csv_file} cannot be written.", why=f"{error.strerror}.") from None
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        report.print_tables(result, console)
        about = result["machine"]
        console.print(f"{result['date']}, {about['cores']} cores of {about['processor']}")
        console.print(f"load average before: {about['load_before']}")
