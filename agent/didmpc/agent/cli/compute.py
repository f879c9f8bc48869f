"""Computing together: run, join, sessions."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from didmpc.agent.cli.completion import contact_names
from didmpc.agent.cli.config import Settings, home_of
from didmpc.agent.cli.errors import WrongUsage, described, exit_status, report, write_json, write_json_line
from didmpc.agent.cli.options import (
    HomeOption,
    InputOption,
    JsonLinesOption,
    JsonOption,
    NoPrivacyOption,
    NoPrssOption,
    NoSandboxOption,
    OutputOption,
    ReceiptOption,
    WaitOption,
    YesOption,
    examples,
)
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import duration, listing, moment
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.mpc.terms import DEADLOCK_GRACE, DEADLOCK_GRACES, RESUME_LIMIT, RESUME_LIMITS

INTERRUPTED = 130
DASHES = "didmpc.dashes"  # whether `--` stood on the command line


class Mode(StrEnum):
    session = "session"
    auto = "auto"
    didcomm = "didcomm"


class Wire(StrEnum):
    binary = "binary"
    json = "json"


class ProgramCommand(TyperCommand):
    """Remembers whether `--` was given: what belongs to the program stands behind it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[DASHES] = "--" in args
        return super().parse_args(ctx, args)


def run(
    context: typer.Context,
    program: Annotated[Path, typer.Argument(metavar="PROGRAM", help="An MPyC program, unmodified.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- ARGUMENTS", help="For the program; they stand after two dashes."),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME,...",
            help="The contacts to compute with. (default: all of them)",
            autocompletion=contact_names,
        ),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            "--threshold", min=0, metavar="T", help="Private unless T+1 work together. (default: most)"
        ),
    ] = None,
    free_threshold: Annotated[
        bool,
        typer.Option("--free-threshold", help="Let the program set another threshold. The others are told."),
    ] = False,
    input_: InputOption = None,
    output: OutputOption = None,
    receipt: ReceiptOption = None,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            help="session: sealed packets; didcomm: ordinary messages, slow; auto: whichever all can.",
        ),
    ] = Mode.session,
    wire: Annotated[
        Wire,
        typer.Option(
            "--wire",
            help="binary: packets through relays; json: ordinary envelopes, for any mediator, slower.",
        ),
    ] = Wire.binary,
    resume_limit: Annotated[
        int,
        typer.Option(
            "--resume-limit",
            min=RESUME_LIMITS[0],
            max=RESUME_LIMITS[1],
            metavar="SECONDS",
            help="How long the run waits for a party that stopped answering.",
        ),
    ] = RESUME_LIMIT,
    deadlock_grace: Annotated[
        int,
        typer.Option(
            "--deadlock-grace",
            min=DEADLOCK_GRACES[0],
            max=DEADLOCK_GRACES[1],
            metavar="SECONDS",
            help="How long all programs may wait for each other before that ends the run.",
        ),
    ] = DEADLOCK_GRACE,
    wait: WaitOption = None,
    no_prss: NoPrssOption = False,
    no_privacy: NoPrivacyOption = False,
    no_sandbox: NoSandboxOption = False,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
    json_lines: JsonLinesOption = False,
) -> None:
    """Propose a program to your contacts, and run it with them.

    Each of them types  didmpc join.  The program's output goes to stdout, everything else to stderr.
    """
    place = home_of(home)
    if arguments and not context.meta.get(DASHES):
        raise WrongUsage(
            f"Got {arguments[0]!r} after the program.",
            why="Arguments for the program stand behind two dashes, contacts behind --with.",
            fix=f"didmpc run {program} --with NAME,... -- {arguments[0]} ...",
        )
    names = _names(with_)
    _check_threshold(threshold, names)
    params = {
        "program": _file(program, "The program"),
        "with": names,
        "threshold": threshold,
        "free_threshold": free_threshold,
        "input": _input(input_),
        "output": _output(output),
        "no_prss": no_prss,
        "no_privacy": no_privacy,
        "no_sandbox": no_sandbox,
        "asks": not yes,
        "mode": mode.value,
        "wire": wire.value,
        "resume_limit": resume_limit,
        "deadlock_grace": deadlock_grace,
        "wait": Settings.of(place).wait(wait),
        "arguments": list(arguments or []),
        "cwd": os.getcwd(),
    }
    _take_part(
        "run",
        params,
        place,
        program=str(program),
        yes=yes,
        as_json=as_json or json_lines,
        json_lines=json_lines,
        receipt=_receipt(receipt),
    )


def join(
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="NAME", help="Only a proposal of this contact.", autocompletion=contact_names
        ),
    ] = None,
    program: Annotated[
        Path | None,
        typer.Option("--program", metavar="FILE", help="Take part only if the proposed program is this one."),
    ] = None,
    input_: InputOption = None,
    output: OutputOption = None,
    receipt: ReceiptOption = None,
    wait: WaitOption = None,
    no_privacy: NoPrivacyOption = False,
    no_sandbox: NoSandboxOption = False,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
    json_lines: JsonLinesOption = False,
) -> None:
    """Wait for the next proposal, see what it is, and take part.

    You are shown the program, the people and how private it is before anything of yours is used.
    """
    place = home_of(home)
    params = {
        "from": from_,
        "program": None if program is None else _file(program, "The program"),
        "input": _input(input_),
        "output": _output(output),
        "no_privacy": no_privacy,
        "no_sandbox": no_sandbox,
        "asks": not yes,
        "wait": Settings.of(place).wait(wait),
    }
    _take_part(
        "join",
        params,
        place,
        program="" if program is None else str(program),
        yes=yes,
        as_json=as_json or json_lines,
        json_lines=json_lines,
        receipt=_receipt(receipt),
    )


def sessions(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List running and past sessions, the newest first."""
    from didmpc.agent.cli.client import ask

    answer = ask(home_of(home), "sessions")
    if as_json:
        write_json(answer)
        return
    screen = Screen.standard()
    known = answer.get("sessions") or []
    if not known:
        screen.line("No sessions yet. Propose one:  didmpc run PROGRAM --with NAME,...")
        return
    screen.table(
        ("When", "What", "With", "State", "Took", "Session"), [_session_row(entry) for entry in known]
    )


def add_to(app: typer.Typer, panel: str) -> None:
    """Add the commands of this file."""
    app.command(
        rich_help_panel=panel,
        cls=ProgramCommand,
        epilog=examples(
            "didmpc run demos/salaries.py --with bob,carol --input salary.txt",
            "didmpc run sort.py --with bob,carol --yes -- -n 10",
        ),
    )(run)
    app.command(
        rich_help_panel=panel,
        epilog=examples(
            "didmpc join --input salary.txt", "didmpc join --from alice --program salaries.py --yes"
        ),
    )(join)
    app.command(rich_help_panel=panel, epilog=examples("didmpc sessions", "didmpc sessions --json"))(sessions)


# --- what was typed


def _names(given: list[str] | None) -> list[str] | None:
    if given is None or given == []:
        return None
    names = [name.strip() for part in given for name in part.split(",")]
    if not all(names):
        raise WrongUsage("--with needs names separated by commas.", fix="See them:  didmpc contacts")
    if len(set(names)) < len(names):
        raise WrongUsage("--with names somebody twice.", why="Each party takes part once.")
    return names


def _check_threshold(threshold: int | None, names: list[str] | None) -> None:
    if threshold is None or names is None:
        return
    parties = len(names) + 1
    most = (parties - 1) // 2
    if threshold > most:
        raise WrongUsage(
            f"With {parties} parties the threshold can be at most {most}.",
            why="More than half of the parties must not be able to work together for the result to be right.",
            fix=f"--threshold {most}, or leave it out",
        )


def _file(path: Path, what: str) -> str:
    path = path.expanduser()
    if path.is_dir():
        raise WrongUsage(f"{what} {path} is a folder.", fix="Name the file in it.")
    if not path.exists():
        raise WrongUsage(f"{what} {path} does not exist.", fix="See where you are and what is here:  pwd; ls")
    if not os.access(path, os.R_OK):
        raise WrongUsage(f"{what} {path} cannot be read.", fix=f"chmod u+r {path}")
    return str(path.absolute())


def _input(path: Path | None) -> str | None:
    if path is None:
        return None
    text = _file(path, "The input")
    if not Path(text).is_file():
        raise WrongUsage(
            f"The input {path} is no ordinary file.",
            why="The program reads it in another process.",
            fix="Leave --input out and use the shell's  < FILE  instead.",
        )
    return text


def _output(path: Path | None) -> str | None:
    if path is None:
        return None
    path = path.expanduser().absolute()
    fix = "Name a new folder:  --output results"
    if path.is_dir():
        if next(path.iterdir(), None) is not None:
            raise WrongUsage(
                f"The output folder {path} is not empty.", why="Nothing is overwritten.", fix=fix
            )
    elif path.exists() or not path.parent.is_dir():
        raise WrongUsage(f"The output folder {path} cannot be made.", fix=fix)
    return str(path)


def _receipt(path: Path | None) -> Path | None:
    if path is None:
        return None
    path = path.expanduser().absolute()
    if path.exists() or not path.parent.is_dir():
        why = "Nothing is overwritten." if path.exists() else "Its folder does not exist."
        raise WrongUsage(f"The receipt cannot be written to {path}.", why=why, fix="Name a new file.")
    return path


# --- taking part


def _take_part(
    method: str,
    params: dict[str, Any],
    home: Any,
    *,
    program: str,
    yes: bool,
    as_json: bool,
    json_lines: bool,
    receipt: Path | None,
) -> None:
    screen = Screen.standard()
    if not yes and not (screen.terminal and sys.stdin is not None and sys.stdin.isatty()):
        raise WrongUsage(
            "Nobody can be asked for consent here.",
            why="There is no terminal.",
            fix=f"Agree beforehand:  didmpc {method} --yes",
        )
    import asyncio

    from didmpc.agent.cli.taking_part import Request

    request = Request(
        method=method,
        params=params,
        home=home,
        program=program,
        consented=yes,
        forwards_stdin=params["input"] is None,
        receipt=receipt,
        journal=write_json_line if json_lines else None,
    )
    status = asyncio.run(_attend(request, screen, as_json=as_json))
    # Not by `Exit`: a status of 130 with its own words, and nothing for the caller to add.
    raise SystemExit(status)


async def _attend(request: Any, screen: Screen, *, as_json: bool) -> int:
    from didmpc.agent.cli import narration
    from didmpc.agent.cli.remedies import remedies
    from didmpc.agent.cli.streams import Captured, Output, Stdin
    from didmpc.agent.cli.taking_part import Outcome, TakingPart

    captured = Captured()
    outcome = Outcome()
    try:
        part = TakingPart(request, screen, captured if as_json else Output(1), Stdin(), outcome)
        await part.attend()
    except DidmpcError as error:
        report(error, screen)
        outcome.cause = {"party": None, **described(error)}
        status = exit_status(error)
    else:
        status = 0 if outcome.ok else INTERRUPTED if outcome.interrupted else 1
        if outcome.ok:
            screen.line(narration.done(outcome.stats or {}, len(outcome.parties)), "bold green")
            await part.await_receipt()
        elif not outcome.interrupted:
            cause = outcome.cause or {}
            others = request.params.get("with") or []
            next_, *more = remedies(
                cause, request.program, others, host=request.host, parties=len(outcome.parties)
            )
            screen.error(str(cause.get("what") or "The run failed."), str(cause.get("why") or ""), next_)
            for line in more:
                screen.line(line, "bold")
    if as_json:
        value: dict[str, Any] = {
            "ok": outcome.ok,
            "attempt": outcome.attempt,
            "parties": outcome.parties,
            "output": captured.text,
            "cause": outcome.cause,
            "stats": outcome.stats,
            "receipt": outcome.receipt,
        }
        if captured.truncated:
            value["truncated"] = True
        write_json(value if request.journal is None else {"event": "result", **value})
    return status


def _session_row(entry: dict[str, Any]) -> tuple[str, ...]:
    parties = [str(p.get("name", p) if isinstance(p, dict) else p) for p in entry.get("parties") or []]
    seconds = (entry.get("stats") or {}).get("seconds")
    return (
        moment(entry.get("started")),
        str(entry.get("title") or entry.get("program") or "-")[:60],
        listing(parties) or "-",
        str(entry.get("state", "-")) + (f": {entry['cause']}" if entry.get("cause") else ""),
        duration(seconds) if isinstance(seconds, int | float) else "-",
        str(entry.get("attempt", "-"))[:8],
    )
