"""`didmpc session`: one session, looked at."""

from typing import Annotated

import typer

from didmpc.agent.cli import narration, verification
from didmpc.agent.cli import receipt as receipts
from didmpc.agent.cli.client import ask
from didmpc.agent.cli.config import home_of
from didmpc.agent.cli.errors import WrongUsage, write_json
from didmpc.agent.cli.options import HomeOption, JsonOption, examples
from didmpc.agent.cli.screen import Screen

HELP = "Look at one session: what it runs, who takes part; compare its words."

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

SessionArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SESSION",
        help="The beginning of its name, as `didmpc sessions` shows it. (default: the newest)",
    ),
]


@app.command(epilog=examples("didmpc session show", "didmpc session show 3fa2c1d0 --json"))
def show(session: SessionArgument = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a session: a proposal that waits for your answer, one that runs, or one that is over."""
    found = ask(home_of(home), "session-show", {"session": session})
    if as_json:
        write_json(found)
        return
    screen = Screen.standard()
    for text, style in narration.session(found):
        screen.line(text, style)


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
