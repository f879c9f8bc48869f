"""The commands `didmpc bench compare`, `report` and `list`."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from didmpc.bench.compare import cpu, markdown, page, plots, report, sheets, software
from didmpc.bench.compare.aims import aims
from didmpc.bench.compare.compare import LOOPBACK, Plan, compare, merge, observe, shares
from didmpc.bench.compare.contender import contenders
from didmpc.bench.compare.isolate import raise_unless_root, run_isolated
from didmpc.bench.mediator.machine import machine
from didmpc.protocols.errors import LocalMisuse

Json = dict[str, Any]
OBSERVERS = 4
"""For each core."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files that the result is to be written to."""

    csv: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    json: Path | None = None
    plots: Path | None = None
    """A folder."""

    def check(self) -> None:
        """Raises LocalMisuse for what could not be written after minutes of measuring."""
        if self.html is not None or self.plots is not None:
            plots.raise_unless_possible()
        if self.plots is not None and not self.plots.is_dir():
            raise LocalMisuse(f"There is no folder {self.plots}.", fix=f"mkdir {self.plots}")
        for path in (self.csv, self.html, self.markdown, self.json):
            if path is not None:
                place = path if path.exists() else path.absolute().parent
                if path.is_dir() or not os.access(place, os.W_OK):
                    raise LocalMisuse(
                        f"{path} cannot be written.",
                        why="It is a folder." if path.is_dir() else f"{place} is missing or not writable.",
                        fix="Name a file in a folder of yours.",
                    )

    def write(self, result: Json, *, source: str = "result.json") -> None:
        """Raises LocalMisuse."""
        command = f"didmpc bench report {source} --markdown {self.markdown}"
        pictures: list[tuple[str, str]] = []
        if self.plots is not None:
            command += f" --plots {self.plots}"
            pictures = self._draw(self.plots, result)
        makers: tuple[tuple[Path | None, Callable[[], str]], ...] = (
            (self.json, lambda: f"{as_json(result)}\n"),
            (self.csv, lambda: report.as_csv(result)),
            (self.html, lambda: page.page(result)),
            (
                self.markdown,
                lambda: markdown.document(result, source=source, command=command, pictures=pictures),
            ),
        )
        for path, make in makers:
            if path is not None:
                _write(path, make())

    def _draw(self, folder: Path, result: Json) -> list[tuple[str, str]]:
        """Write each plot as a file; its caption, and where it is from the document on."""
        document = (self.markdown or folder / "x").parent.resolve()
        pictures = []
        for plot in plots.plots(result):
            path = folder / f"{plot.name}.svg"
            _write(path, plot.file())
            pictures.append((plot.caption, Path(os.path.relpath(path.resolve(), document)).as_posix()))
        return pictures


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise LocalMisuse(f"{path} cannot be written.", why=f"{error.strerror}.") from None


def as_json(result: Json) -> str:
    """One line."""
    return json.dumps(result)


def known_contenders() -> list[Json]:
    """What there is to compare, what of it is installed, and how to install the rest."""
    found = []
    for name, each in contenders().items():
        missing = each.missing()
        packages = " ".join(sorted({one.package for one in missing}))
        found.append(
            {
                "name": name,
                "title": each.title,
                "needs_root": not each.on_loopback,
                "relayed": each.relayed,
                "installed": not missing,
                "missing": [one.command for one in missing],
                "install": f"apt install {packages}" if missing else None,
                "versions": each.versions(),
                "reference": each.reference or None,
            }
        )
    return found


def list_contenders(*, as_json: bool) -> None:
    """On stdout."""
    found = known_contenders()
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    table = Table("name", "what", "root", "here")
    for each in found:
        here = "installed" if each["installed"] else f"install: {each['install']}"
        table.add_row(each["name"], each["title"], "yes" if each["needs_root"] else "no", here)
    Console().print(table)


def run(plan: Plan) -> Json:
    """Compare; on test hosts of our own if anything in the plan needs them. Raises DidmpcError."""
    known = contenders()
    if plan.exposure or plan.cut or plan.nat:
        raise_unless_root()  # and not after minutes of timing
    about: Json = {
        "command": shlex.join(["didmpc", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(plan.folder) | software.revision(),
        "software": {}
        if plan.fleet
        else {name: known[name].versions() for name in plan.names if not known[name].missing()},
    }
    others = cpu.Others()
    if plan.fleet is not None or set(plan.profiles) <= {LOOPBACK}:
        result = compare(plan)
    else:
        kept = plan.folder / "result.json"
        run_isolated(lambda: _keep(kept, compare(plan)))
        result = json.loads(kept.read_text())
    if result["runs"] and plan.fleet is None:
        about["machine"]["other_work"] = round(others.share(), 2)
    if plan.exposure or plan.cut or plan.nat:
        result |= observed(plan)
    whole = about | result
    return whole | {"aims": [aim.as_json() for aim in aims(whole)]}


def observed(plan: Plan) -> Json:
    """Several contenders at once: there is mostly waiting to do."""
    each = shares(plan)
    for one in each:
        one.folder.mkdir()
    run_isolated(*(partial(_keep_observed, one) for one in each), at_once=OBSERVERS * (os.cpu_count() or 1))
    return merge(plan, (json.loads((one.folder / "result.json").read_text()) for one in each))


def _keep_observed(plan: Plan) -> None:
    _keep(plan.folder / "result.json", observe(plan))


def _keep(path: Path, result: Json) -> None:
    path.write_text(json.dumps(result))


def show(result: Json, *, as_json: bool) -> None:
    """On stdout."""
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    report.print_tables(result, console)
    about = result["machine"]
    console.print(f"{result['date']}, {about['cores']} cores of {about['processor']}", markup=False)
    console.print(f"load average before: {about['load_before']}", markup=False)
    if caution := sheets.caution(result):
        console.print(caution, style="yellow", markup=False)


def report_of(paths: Sequence[Path], outputs: Outputs) -> None:
    """Write anew what kept results say, as one; without a file to write, on stdout. Raises LocalMisuse."""
    outputs.check()
    results = [report.read(path) for path in paths]
    try:
        result = report.merged(results)
        if outputs == Outputs():
            show(result, as_json=False)
        outputs.write(result, source=str(outputs.json or paths[0]))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        names = " or ".join(map(str, paths))
        raise report.no_result(names, f"something in it is not as it should be: {error!r}") from None
