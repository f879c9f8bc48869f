"""`didmpc session`: one session, looked at."""

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from didmpc.agent.cli import narration, verification
from didmpc.agent.cli import receipt as receipts
from didmpc.agent.cli.client import ask
from didmpc.agent.cli.completion import contact_names, session_ids, trusted_hashes
from didmpc.agent.cli.config import home_of
from didmpc.agent.cli.errors import WrongUsage, write_json
from didmpc.agent.cli.options import HomeOption, JsonOption, examples
from didmpc.agent.cli.programs import DASHES, ProgramCommand, program_text
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.source import listing
from didmpc.agent.cli.words import moment

HELP = "Look at one session: what it runs, who takes part; compare its words. Programs that you trust."

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

SessionArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SESSION",
        help="The beginning of its name, as `didmpc sessions` shows it. (default: the newest)",
        autocompletion=session_ids,
    ),
]


@app.command(
    epilog=examples(
        "didmpc session show", "didmpc session show --source | less", "didmpc session show 3fa2c1d0 --json"
    )
)
def show(
    session: SessionArgument = None,
    source: Annotated[
        bool, typer.Option("--source", help="Print the program, every file of it, on stdout.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a session: a proposal that waits for your answer, one that runs, or one that is over.

    With --source its program: before you agree to it, while it runs and after that. Nothing of it runs for
    that. What could steer your terminal is made visible; --json has every byte.
    """
    found = ask(home_of(home), "session-show", {"session": session, "source": source}, timeout=90.0)
    if as_json:
        write_json(found)
        return
    screen = Screen.standard()
    for text, style in narration.session(found):
        screen.line(text, style)
    if source:
        sys.stdout.write("".join(f"{line}\n" for line in listing(found.get("contents") or [])))


@app.command(
    cls=ProgramCommand,
    epilog=examples(
        "didmpc session trust demo:salary",
        "didmpc session trust salary.py --from alice",
        "didmpc session trust 9f2c41aa",
    ),
)
def trust(
    context: typer.Context,
    program: Annotated[
        str,
        typer.Argument(
            metavar="PROGRAM|HASH",
            help="A program's file, demo:NAME or git+URL@COMMIT#PATH; or its hash, of one that was proposed "
            "to you its first 8 digits.",
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- ARGUMENTS", help="Only with these arguments. (default: whatever they are)"
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="Only if this contact proposes it. (default: whoever does)",
            autocompletion=contact_names,
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a program:  didmpc join --yes-if-trusted  takes part in it without asking.

    What is trusted is the content, by its hash: one byte more or less is another program. Never taken part in
    without asking: threshold 0, a program that may set its threshold, no sandbox.
    """
    if arguments and not context.meta.get(DASHES):
        raise WrongUsage(
            "The program's arguments stand behind two dashes.", fix=f"... {program} -- ARGUMENTS"
        )
    is_hash = re.fullmatch("[0-9a-f]{8,64}", program) is not None and not Path(program).exists()
    params = {
        "program": program if is_hash else program_text(program),
        "hash": is_hash,
        "from": from_,
        "arguments": list(arguments or []) if context.meta.get(DASHES) else None,
    }
    new = ask(home_of(home), "trust", params, timeout=300.0)
    if as_json:
        write_json(new)
        return
    screen = Screen.standard()
    screen.line(f"Trusted: {_trusted(new)}.", "green")
    screen.line(f"No longer:  didmpc session forget {new['sha256'][:12]}")


@app.command(epilog=examples("didmpc session trusted", "didmpc session trusted --json"))
def trusted(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the programs that you trust, the newest first."""
    answer = ask(home_of(home), "trusted")
    if as_json:
        write_json(answer)
        return
    screen = Screen.standard()
    if answer.get("problem"):
        screen.line(str(answer["problem"]), "yellow")
    if not answer["trusted"]:
        screen.line("You trust no program. To:  didmpc session trust PROGRAM")
        return
    rows = [
        (
            moment(entry["since"]),
            entry["entry"] or "-",
            entry["title"][:40] or "-",
            entry["contact_name"] or "anyone",
            "any" if entry["arguments"] is None else shlex.join(entry["arguments"]) or "none",
            entry["sha256"][:12],
        )
        for entry in answer["trusted"]
    ]
    screen.table(("Since", "Program", "What", "From", "Arguments", "Hash"), rows)


@app.command(epilog=examples("didmpc session forget 9f2c41aa"))
def forget(
    digest: Annotated[
        str,
        typer.Argument(
            metavar="HASH",
            help="Of the program, or its first 8 digits or more.",
            autocompletion=trusted_hashes,
        ),
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a program no longer: you are asked again."""
    answer = ask(home_of(home), "forget-trust", {"hash": digest.lower()})
    if as_json:
        write_json(answer)
        return
    for entry in answer["forgotten"]:
        Screen.standard().line(f"No longer trusted: {_trusted(entry)}.")


def _trusted(entry: Mapping[str, Any]) -> str:
    """A trusted program in words."""
    who = f" from {entry['contact_name']}" if entry.get("contact_name") else " from whoever proposes it"
    given = entry.get("arguments")
    how = (
        ", whatever its arguments"
        if given is None
        else f", with the arguments {shlex.join(given) or '(none)'}"
    )
    return f"{entry.get('entry') or 'the program'} (sha256 {entry['sha256'][:12]}...){who}{how}"


@app.command(
    epilog=examples(
        "didmpc session verify",
        "didmpc session verify --json",
        "didmpc session verify 3fa2c1d0 --yes-they-match",
    )
)
def verify(
    session: SessionArgument = None,
    yes_they_match: Annotated[
        bool, typer.Option("--yes-they-match", help="Record without being asked: all read the same words.")
    ] = False,
    they_differ: Annotated[
        bool, typer.Option("--they-differ", help="Record that they differ; a session that runs is ended.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare words with the other people, aloud, and record whether they match.

    Everyone of a session is shown the same four words and two digits; whoever stands between you cannot
    make them match. It works in a second terminal during the run, and afterwards.
    """
    if yes_they_match and they_differ:
        raise WrongUsage("--yes-they-match and --they-differ exclude each other.")
    verification.verify(
        home_of(home),
        session,
        matched=True if yes_they_match else False if they_differ else None,
        as_json=as_json,
    )


@app.command(
    epilog=examples("didmpc session receipt > receipt.json", "didmpc session receipt 3fa2c1d0 --own --json")
)
def receipt(
    session: SessionArgument = None,
    own: Annotated[
        bool, typer.Option("--own", help="With the salt that opens your own commitment: keep it to yourself.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the receipt of a session, to be given away: who agreed to what, and who claimed which output.

    Whoever has it checks it without an agent:  didmpc verify receipt.json
    """
    receipts.receipt(home_of(home), session, own=own, as_json=as_json)
