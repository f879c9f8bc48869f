"""`didmpc session`: one session, looked at."""

from typing import Annotated

import typer

from didmpc.agent.cli import narration
from didmpc.agent.cli.client import ask
from didmpc.agent.cli.config import home_of
from didmpc.agent.cli.errors import write_json
from didmpc.agent.cli.options import HomeOption, JsonOption, examples
from didmpc.agent.cli.screen import Screen

HELP = "Look at one session: what it runs, who takes part, who proposed it."

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
