"""`didmpc rehearse`: all parties of a computation on this machine, before anybody is invited."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from didmpc.agent.cli.compute import Wire
from didmpc.agent.cli.errors import WrongUsage, write_json
from didmpc.agent.cli.options import (
    JsonOption,
    MemoryOption,
    NoPrivacyOption,
    NoPrssOption,
    NoSandboxOption,
    TimeLimitOption,
    examples,
    size_in_bytes,
    time_in_seconds,
)
from didmpc.agent.cli.programs import DASHES, ProgramCommand, program_text
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import duration, plural, size
from didmpc.protocols.errors import DidmpcError

MOST = 25


def rehearse(
    context: typer.Context,
    program: Annotated[
        str,
        typer.Argument(metavar="PROGRAM", help="An MPyC program, unmodified: whatever  didmpc run  takes."),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- ARGUMENTS", help="For the program; they stand after two dashes."),
    ] = None,
    parties: Annotated[
        int, typer.Option("--parties", min=2, max=MOST, metavar="N", help="How many parties.")
    ] = 3,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="FILE,...",
            help="What each party reads, in the order of the parties: as many files, or a folder of them, "
            "or one for all.",
        ),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            "--threshold", min=0, metavar="T", help="Private unless T+1 work together. (default: most)"
        ),
    ] = None,
    free_threshold: Annotated[
        bool, typer.Option("--free-threshold", help="Let the program set another threshold.")
    ] = False,
    no_privacy: NoPrivacyOption = False,
    no_prss: NoPrssOption = False,
    wire: Annotated[Wire, typer.Option("--wire", help="As with  didmpc run.")] = Wire.binary,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show the output of every party. (default: of party 0)")
    ] = False,
    once: Annotated[
        bool,
        typer.Option("--once", help="Run it once: no count of rounds, and no time to expect elsewhere."),
    ] = False,
    memory: MemoryOption = None,
    time_limit: TimeLimitOption = None,
    no_sandbox: NoSandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try a program with all its parties on this machine, before inviting anyone.

    A mediator and an agent for each party are started, with real sessions between them, and all of it is
    gone afterwards. You learn whether it works, how many rounds and bytes it takes, and how long it will take
    between people who are far apart: for that it runs a second time, with a delay put between the parties.
    The output of party 0 goes to stdout, everything else to stderr.
    """
    from didmpc.agent.rehearsal import RehearsalFailed

    if arguments and not context.meta.get(DASHES):
        raise WrongUsage(
            f"Got {arguments[0]!r} after the program.",
            why="Arguments for the program stand behind two dashes.",
            fix=f"didmpc rehearse {program} -- {arguments[0]} ...",
        )
    options: dict[str, Any] = {
        "arguments": list(arguments or []),
        "inputs": _inputs(input_, parties),
        "threshold": threshold,
        "free_threshold": free_threshold,
        "no_privacy": no_privacy,
        "no_prss": no_prss,
        "wire": wire.value,
        "memory": size_in_bytes(memory),
        "time_limit": time_in_seconds(time_limit),
        "no_sandbox": no_sandbox,
        "once": once,
    }
    import asyncio

    screen = Screen.standard()
    show = _Show(screen, quiet=as_json, every=show_all)
    try:
        report = asyncio.run(_interruptible(program_text(program), parties, options, show))
    except RehearsalFailed as failure:
        if as_json:
            _write(failure.parts, ok=False, failure=failure)
            screen.error(failure.what, failure.why, failure.fix)
            raise typer.Exit(1) from None
        show.rest(failure.parts)
        raise
    show.rest(report.parts)
    for line in _figures(report):
        screen.line(line)
    if as_json:
        _write(report.parts, ok=True, report=report)


async def _interruptible(program: str, parties: int, options: dict[str, Any], show: "_Show") -> Any:
    """SIGTERM ends it as Ctrl-C does: with all processes and files gone."""
    import asyncio

    from didmpc.agent.rehearsal import rehearse as rehearsing

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await rehearsing(program, parties, on_step=show.step, **options)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class _Show:
    """What is told while it runs."""

    def __init__(self, screen: Screen, *, quiet: bool, every: bool) -> None:
        self._screen = screen
        self._quiet = quiet
        self._every = every
        self._shown = 0

    def step(self, step: Any) -> None:
        from didmpc.agent.api.events import Printed, Started

        event = step.event
        if step.text:
            self._screen.line(step.text)
        elif isinstance(event, Printed) and step.pid == 0 and not self._every:
            self._shown += len(event.data)
            _write_out(1 if event.stream == "stdout" and not self._quiet else 2, event.data, self._quiet)
        elif isinstance(event, Started) and step.pid == 0:
            self._screen.line("Running.")

    def rest(self, parts: Any) -> None:
        """The output of every party where that was asked for; what went wrong at others, in any case."""
        if self._quiet:
            return
        for part in parts:
            if self._every:
                for number, text in ((1, part.output), (2, part.errors)):
                    for line in text.splitlines():
                        _write_out(number, f"{part.name}: {line}\n".encode(), False)
            elif part.pid and not part.ok and part.errors.strip():
                for line in part.errors.strip().splitlines()[-12:]:
                    self._screen.line(f"{part.name}: {line}", "yellow")


def _write_out(number: int, data: bytes, quiet: bool) -> None:
    if quiet:
        return
    stream = sys.stdout if number == 1 else sys.stderr
    stream.buffer.write(data)
    stream.flush()


def _inputs(given: list[str] | None, parties: int) -> list[str]:
    names = [name.strip() for part in given or [] for name in part.split(",")]
    if len(names) == 1 and Path(names[0]).expanduser().is_dir():
        folder = Path(names[0]).expanduser()
        names = sorted(str(path) for path in folder.iterdir() if path.is_file())[:parties]
    if len(names) == 1:
        names *= parties
    if names and len(names) != parties:
        raise WrongUsage(
            f"{len(names)} inputs for {parties} parties.",
            why="Each party reads one: the first file is for party 0.",
            fix=f"--input FILE,... with {parties} files, or one for all, or --parties {max(2, len(names))}",
        )
    for name in names:
        if not Path(name).expanduser().is_file():
            raise WrongUsage(f"The input {name} is no file that can be read.")
    return names


def _figures(report: Any) -> list[str]:
    said = f"{plural(report.parties, 'party', 'parties')}, threshold {report.threshold}: " + (
        "NOTHING STAYS PRIVATE."
        if report.threshold < 1
        else f"private unless {report.threshold + 1} work together."
    )
    rounds = f"{plural(report.rounds, 'round')}, " if report.rounds is not None else ""
    lines = [
        said,
        f"{rounds}{plural(report.messages, 'message')}, {size(report.bytes)} of MPyC; "
        f"{size(report.sealed_bytes)} in {plural(report.packets, 'packet')} on the network (all parties).",
    ]
    took = f"{_exact(report.seconds)} here."
    if report.forecasts:
        each = (f"{_exact(one.seconds)} at {one.round_trip:.0f} ms" for one in report.forecasts)
        took += f" To expect, by the round trip between two parties: {', '.join(each)}."
    return [*lines, took]


def _exact(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 9.995 else duration(seconds)


def _write(parts: Any, *, ok: bool, report: Any = None, failure: DidmpcError | None = None) -> None:
    value: dict[str, Any] = {"ok": ok}
    if report is not None:
        value |= {  # "rounds" is null where it ran once
            "threshold": report.threshold,
            "seconds": report.seconds,
            "rounds": report.rounds,
            "messages": report.messages,
            "bytes": report.bytes,
            "packets": report.packets,
            "sealed_bytes": report.sealed_bytes,
            "expected": [
                {"round_trip_ms": each.round_trip, "seconds": each.seconds} for each in report.forecasts
            ],
        }
    if failure is not None:
        value["error"] = {"what": failure.what, "why": failure.why, "fix": failure.fix}
    value["parties"] = [
        {
            "pid": part.pid,
            "name": part.name,
            "ok": part.ok,
            "output": part.output,
            "errors": part.errors,
            "cause": None
            if part.problem is None
            else {"what": part.problem.what, "why": part.problem.why, "fix": part.problem.fix},
            "stats": dict(part.stats),
        }
        for part in parts
    ]
    write_json(value)


def add_to(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    app.command(
        rich_help_panel=panel,
        cls=ProgramCommand,
        epilog=examples(
            "didmpc rehearse demos/salary.py --input demos/inputs/salary",
            "didmpc rehearse sort.py --parties 5 -- 10",
            "didmpc rehearse vote.py --parties 25 --no-prss --json",
        ),
    )(rehearse)
