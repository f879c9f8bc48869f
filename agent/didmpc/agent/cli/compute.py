"""Computing together: run, join, sessions."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from didmpc.agent.cli.completion import contact_names, invitation_ids
from didmpc.agent.cli.config import Settings, home_of
from didmpc.agent.cli.errors import WrongUsage, described, exit_status, report, write_json, write_json_line
from didmpc.agent.cli.links import check_writable, invitation_text, lifetime, why_no_file
from didmpc.agent.cli.lobby import LobbyScreen, check_options
from didmpc.agent.cli.options import (
    HomeOption,
    InputOption,
    JsonLinesOption,
    JsonOption,
    MemoryOption,
    NoPrivacyOption,
    NoPrssOption,
    NoSandboxOption,
    OutputOption,
    ReceiptOption,
    TimeLimitOption,
    WaitOption,
    YesOption,
    examples,
    size_in_bytes,
    time_in_seconds,
)
from didmpc.agent.cli.programs import DASHES, ProgramCommand, file_text, program_text
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import duration, listing, moment
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.mpc.terms import (
    DEADLOCK_GRACE,
    DEADLOCK_GRACES,
    PARTIES,
    RESUME_LIMIT,
    RESUME_LIMITS,
    SETTINGS,
)

INTERRUPTED = 130


class Mode(StrEnum):
    session = "session"
    auto = "auto"
    didcomm = "didcomm"


class Start(StrEnum):
    auto = "auto"
    ask = "ask"


class Wire(StrEnum):
    binary = "binary"
    json = "json"


def run(
    context: typer.Context,
    program: Annotated[
        str,
        typer.Argument(
            metavar="PROGRAM",
            help="An MPyC program, unmodified: a file, demo:NAME, or git+https://...@COMMIT#PATH.",
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- ARGUMENTS", help="For the program; they stand after two dashes."),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME,...",
            help="The contacts to compute with. (default: all of them; with --parties none)",
            autocompletion=contact_names,
        ),
    ] = None,
    parties: Annotated[
        int | None,
        typer.Option(
            "--parties",
            min=2,
            max=PARTIES[1],
            metavar="N",
            help="How many take part, you among them. Who is not named by --with comes by a link.",
        ),
    ] = None,
    least: Annotated[
        int | None,
        typer.Option(
            "--at-least",
            min=2,
            max=PARTIES[1],
            metavar="N",
            help="With so many you may begin: by Enter, or when the link expires. (default: all)",
        ),
    ] = None,
    start: Annotated[
        Start, typer.Option("--start", help="auto: begin when all are ready; ask: when you press Enter.")
    ] = Start.auto,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Be asked whether to let in each who comes by the link.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="TIME", help="How long the link holds: 30m, 24h, 7d. (default: 24h)"
        ),
    ] = None,
    invitation_file: Annotated[
        Path | None,
        typer.Option("--invitation-file", metavar="FILE", help="Also write the link to FILE."),
    ] = None,
    qr: Annotated[
        bool, typer.Option("--qr", help="Show the link's QR code even without a terminal.")
    ] = False,
    reopen: Annotated[
        str | None,
        typer.Option(
            "--reopen",
            metavar="ID",
            help="Gather by a link that you made before, for the same program and terms.",
            autocompletion=invitation_ids,
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
    roles: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="NAME=ROLE,...",
            help="Who has which role of the program, or which number as a party.",
        ),
    ] = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="ROLE", help="Your own role, or number as a party.")
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option("--about", metavar="FILE", help="What the program does, where it does not say."),
    ] = None,
    learns: Annotated[
        str | None,
        typer.Option("--learns", metavar="TEXT", help="What each learns, where the program does not say."),
    ] = None,
    asks_for: Annotated[
        str | None,
        typer.Option(
            "--asks",
            metavar="TEXT",
            help="What it asks each for: 'number: your salary', 'csv(age,weight): patients', 'nothing'...",
        ),
    ] = None,
    input_: InputOption = None,
    output: OutputOption = None,
    receipt: ReceiptOption = None,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            help="session: sealed packets; didcomm: ordinary messages, slow, and no deadlock is suspected; "
            "auto: whichever all can.",
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
            help="How long all programs may wait for each other before that ends it; with sessions only.",
        ),
    ] = DEADLOCK_GRACE,
    wait: WaitOption = None,
    no_prss: NoPrssOption = False,
    no_privacy: NoPrivacyOption = False,
    memory: MemoryOption = None,
    time_limit: TimeLimitOption = None,
    no_sandbox: NoSandboxOption = False,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
    json_lines: JsonLinesOption = False,
) -> None:
    """Propose a program to your contacts, or to whoever comes by a link, and run it with them.

    Each of them types  didmpc join,  or  didmpc join LINK  as it is shown. The program's output goes to
    stdout, everything else to stderr.
    """
    place = home_of(home)
    if arguments and not context.meta.get(DASHES):
        raise WrongUsage(
            f"Got {arguments[0]!r} after the program.",
            why="Arguments for the program stand behind two dashes, contacts behind --with.",
            fix=f"didmpc run {program} --with NAME,... -- {arguments[0]} ...",
        )
    names = _names(with_)
    _check_threshold(threshold, names, parties, least)
    places = max(0, (parties or 0) - 1 - len(names or []))
    screen = Screen.standard()
    interactive = screen.terminal and sys.stdin is not None and sys.stdin.isatty()
    check_options(places, file=invitation_file, confirm=confirm, start=start.value, interactive=interactive)
    if invitation_file is not None:
        check_writable(invitation_file)
    if expires is not None and not places:
        raise WrongUsage(
            "--expires is for a link, and everybody is asked by name.",
            fix="Use --wait SECONDS, or --parties N.",
        )
    # People who are asked by name are waited for; a link holds as long as it holds.
    patience = Settings.of(place).wait(wait) if wait is not None or not places else lifetime(expires or "24h")
    params = {
        "program": program_text(program),
        "roles": _roles(roles),
        "as": as_,
        "about": None if about is None else file_text(about, "The file"),
        "learns": learns,
        "asks_for": asks_for,
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "stdin": stdin_kind(),
        "with": names,
        "parties": parties,
        "least": least,
        "start": start.value,
        "confirm": confirm,
        "lobby": reopen,
        "stays": True,
        "threshold": threshold,
        "free_threshold": free_threshold,
        "input": _input(input_),
        "output": _output(output),
        "no_prss": no_prss,
        "no_privacy": no_privacy,
        "memory": size_in_bytes(memory),
        "time_limit": time_in_seconds(time_limit),
        "no_sandbox": no_sandbox,
        "asks": not yes,
        "mode": mode.value,
        "wire": wire.value,
        "resume_limit": resume_limit,
        "deadlock_grace": deadlock_grace,
        "wait": patience,
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
        lobby=LobbyScreen(screen, invitation_file, qr, asks=interactive) if places else None,
    )


def join(
    link: Annotated[
        str | None,
        typer.Argument(
            metavar="LINK|FILE", help="The link you were sent, or a file with it.", show_default=False
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="NAME", help="Only a proposal of this contact.", autocompletion=contact_names
        ),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            metavar="PROGRAM",
            help="Take part only if the proposed program is this one: a file, demo:NAME or git+...",
        ),
    ] = None,
    fetch: Annotated[
        bool,
        typer.Option("--fetch", help="Fetch the program from the repository that is named, and compare."),
    ] = False,
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help="Pick a role of the program, or a number.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Trust this program with these arguments from now on.")
    ] = False,
    if_trusted: Annotated[
        bool,
        typer.Option("--yes-if-trusted", help="Agree without being asked to a program that you trust."),
    ] = False,
    input_: InputOption = None,
    output: OutputOption = None,
    receipt: ReceiptOption = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="NAME", help="With LINK, where no agent runs yet: what others see of it."
        ),
    ] = None,
    mediator: Annotated[
        str | None,
        typer.Option(
            "--mediator",
            metavar="INVITATION|DID",
            help="With LINK, where no agent runs yet: its mediator. (default: the one of the link)",
        ),
    ] = None,
    wait: WaitOption = None,
    no_privacy: NoPrivacyOption = False,
    memory: MemoryOption = None,
    time_limit: TimeLimitOption = None,
    no_sandbox: NoSandboxOption = False,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
    json_lines: JsonLinesOption = False,
) -> None:
    """Come to a computation by its link, or wait for a contact's proposal; see what it is, and take part.

    LINK is all that you need: where no agent of yours runs, one is started in the background.

    You are shown the program, the people and how private it is before anything of yours is used.
    """
    place = home_of(home)
    if link is None and (label is not None or mediator is not None):
        raise WrongUsage(
            "--label and --mediator are for the agent that  didmpc join LINK  starts.",
            fix="Start yours:  didmpc agent start --detach --label NAME --mediator INVITATION",
        )
    if link is not None and from_ is not None:
        raise WrongUsage("A link says whose proposal it is.", fix="Leave out --from.")
    invitation = None if link is None else invitation_text(link, "join")
    receipt = _receipt(receipt)
    params = {
        "invitation": invitation,
        "from": from_,
        "program": None if program is None else program_text(program),
        "fetch": fetch,
        "role": role,
        "stdin": stdin_kind(),
        "input": _input(input_),
        "output": _output(output),
        "no_privacy": no_privacy,
        "memory": size_in_bytes(memory),
        "time_limit": time_in_seconds(time_limit),
        "no_sandbox": no_sandbox,
        "asks": not (yes or if_trusted),
        # By a link people wait as long as it holds, unless they say otherwise.
        "wait": wait if invitation is not None else Settings.of(place).wait(wait),
    }
    if invitation is not None:
        _check_consent("join", yes or if_trusted, Screen.standard())
        from didmpc.agent.cli import own_agent

        own_agent.ensure(place, Screen.standard(), link=invitation, label=label, mediator=mediator)
    _take_part(
        "join",
        params,
        place,
        program="" if program is None else program,
        yes=yes,
        if_trusted=if_trusted,
        trusts=trust,
        as_json=as_json or json_lines,
        json_lines=json_lines,
        receipt=receipt,
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
            "didmpc run salary.py --parties 3 --input salary.txt",
            "didmpc run sort.py --with bob,carol --yes -- -n 10",
            "didmpc run demo:millionaires --with bob,carol --role bob=helper --input fortune.txt",
            "didmpc run git+https://example.org/demos.git@COMMIT#salary.py --with bob,carol",
        ),
    )(run)
    app.command(
        rich_help_panel=panel,
        epilog=examples(
            "didmpc join 'https://mediator.example.org/?_oobid=...' --input salary.txt",
            "didmpc join --input salary.txt",
            "didmpc join --from alice --program salaries.py --yes",
            "didmpc join --role helper",
            "didmpc join --yes-if-trusted --input salary.txt",
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


def _check_threshold(
    threshold: int | None, names: list[str] | None, parties: int | None, least: int | None
) -> None:
    surely = least or parties or (len(names) + 1 if names is not None else None)
    if threshold is None or surely is None:
        return
    parties = surely
    most = (parties - 1) // 2
    if threshold > most:
        raise WrongUsage(
            f"With {parties} parties the threshold can be at most {most}.",
            why="More than half of the parties must not be able to work together for the result to be right.",
            fix=f"--threshold {most}, or leave it out",
        )


def _input(path: Path | None) -> str | None:
    if path is None:
        return None
    text = file_text(path, "The input")
    if not Path(text).is_file():
        raise WrongUsage(
            f"The input {path} is no ordinary file.",
            why="The program reads it in another process.",
            fix="Leave --input out and use the shell's  < FILE  instead.",
        )
    return text


def stdin_kind() -> str:
    """Whether a program can read an input from our stdin: `terminal`, `data`, or `none`."""
    import stat

    try:
        if os.isatty(0):
            return "terminal"
        mode = os.fstat(0).st_mode
    except OSError:
        return "none"
    if stat.S_ISCHR(mode):  # the null device
        return "none"
    return "none" if stat.S_ISREG(mode) and os.fstat(0).st_size == 0 else "data"


def _roles(given: list[str] | None) -> dict[str, str]:
    roles: dict[str, str] = {}
    for each in (part for text in given or [] for part in text.split(",")):
        name, equals, role = (part.strip() for part in each.partition("="))
        if not (name and equals and role):
            raise WrongUsage(
                f"--role {each} does not say who has which role.",
                fix="--role bob=helper,carol=voter     Your own role:  --as ROLE",
            )
        if name in roles:
            raise WrongUsage(f"--role gives {name} two roles.", why="Each party takes part once.")
        roles[name] = role
    return roles


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
        why = why_no_file(path)
    else:
        why = "It is a file." if path.exists() else why_no_file(path.parent)
    if why:
        raise WrongUsage(f"Files of the program cannot be kept in {path}.", why=why, fix=fix)
    return str(path)


def _receipt(path: Path | None) -> Path | None:
    if path is None:
        return None
    path = path.expanduser().absolute()
    why = "Nothing is overwritten." if path.exists() else why_no_file(path.parent)
    if why:
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
    lobby: LobbyScreen | None = None,
    if_trusted: bool = False,
    trusts: bool = False,
) -> None:
    screen = Screen.standard() if lobby is None else lobby.screen
    _check_consent(method, yes or if_trusted, screen)
    import asyncio

    from didmpc.agent.cli.taking_part import Request

    request = Request(
        method=method,
        params=params,
        home=home,
        program=program,
        consented=yes,
        if_trusted=if_trusted,
        trusts=trusts,
        forwards_stdin=params["input"] is None,
        lobby=lobby,
        receipt=receipt,
        journal=write_json_line if json_lines else None,
    )
    status = asyncio.run(_attend(request, screen, as_json=as_json))
    # Not by `Exit`: a status of 130 with its own words, and nothing for the caller to add.
    raise SystemExit(status)


def _check_consent(method: str, yes: bool, screen: Screen) -> None:
    if not yes and not (screen.terminal and sys.stdin is not None and sys.stdin.isatty()):
        raise WrongUsage(
            "Nobody can be asked for consent here.",
            why="There is no terminal.",
            fix=f"Agree beforehand:  didmpc {method} --yes",
        )


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
                *(cause, request.program, others),
                host=request.host,
                parties=len(outcome.parties),
                by_link=bool(request.lobby or request.params.get("invitation")),
                arguments=request.params.get("arguments") or [],
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
