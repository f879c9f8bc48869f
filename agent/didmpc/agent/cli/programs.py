"""Programs on the command line: a file, demo:NAME or git+URL@COMMIT#PATH, and arguments behind two dashes."""

import os
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from didmpc.agent.cli.errors import WrongUsage, write_json
from didmpc.agent.cli.options import JsonOption, examples
from didmpc.agent.cli.screen import Screen

DASHES = "didmpc.dashes"  # whether `--` stood on the command line
ELSEWHERE = ("demo:", "git+")


class ProgramCommand(TyperCommand):
    """Remembers whether `--` was given: what belongs to the program stands behind it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[DASHES] = "--" in args
        return super().parse_args(ctx, args)


def program_text(typed: str) -> str:
    """What the agent is told: an absolute path, or where else the program is. Raises `WrongUsage`."""
    return typed if typed.startswith(ELSEWHERE) else file_text(Path(typed), "The program")


def file_text(path: Path, what: str) -> str:
    """The absolute path of a file that can be read. Raises `WrongUsage`."""
    path = path.expanduser()
    if path.is_dir():
        raise WrongUsage(f"{what} {path} is a folder.", fix="Name the file in it.")
    if not path.exists():
        raise WrongUsage(f"{what} {path} does not exist.", fix="See where you are and what is here:  pwd; ls")
    if not os.access(path, os.R_OK):
        raise WrongUsage(f"{what} {path} cannot be read.", fix=f"chmod u+r {path}")
    return str(path.absolute())


def demos(as_json: JsonOption = False) -> None:
    """List the demo programs that come with didmpc; run one by its name."""
    from didmpc.agent.program import shipped

    known = shipped.demos()
    if as_json:
        value = [{"name": each.name, "title": each.title, "path": str(each.path)} for each in known]
        write_json({"demos": value})
        return
    screen = Screen.standard()
    if not known:
        screen.error(
            "No demos are installed.", fix="Name a program's file:  didmpc run PROGRAM --with NAME,..."
        )
        raise typer.Exit(1)
    screen.table(("Demo", "What it computes"), [(f"demo:{each.name}", each.title) for each in known])
    screen.line("Run one:  didmpc run demo:salary --with NAME,... --input FILE")


def add_to(app: typer.Typer, panel: str) -> None:
    """Add the command of this file."""
    app.command(
        rich_help_panel=panel, epilog=examples("didmpc demos", "didmpc run demo:salary --with bob,carol")
    )(demos)
