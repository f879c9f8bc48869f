"""The tree of commands, in the order in which somebody new needs them.

Other source roots add commands by the entry point group `didmpc.commands`; they are imported only when
they are asked for.
"""

import contextlib
import sys
from importlib import metadata
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from didmpc.agent.cli import agent, compute, doctor, people, programs, receipt, rehearse, session
from didmpc.protocols.errors import DidmpcError

ENTRY_POINTS = "didmpc.commands"

# A newcomer types them in this order.
ORDER = (
    "agent",
    "invite",
    "accept",
    "contacts",
    "ping",
    "demos",
    "rehearse",
    "run",
    "join",
    "sessions",
    "session",
    "verify",
    "doctor",
)

YOU = "1. You"
PEOPLE = "2. The people you compute with"
COMPUTE = "3. Computing together"
HELP = "When something does not work"
OTHERS = "For whoever hosts the meeting point"


class LazyGroup(TyperGroup):
    """Commands of ours, then those that entry points add."""

    def list_commands(self, ctx: Any) -> list[str]:
        ours = sorted(self.commands, key=ORDER.index)
        return [*ours, *sorted({entry.name for entry in _added()} - set(ours))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        ours = super().get_command(ctx, cmd_name)
        if ours is not None:
            return ours
        for entry in _added():
            if entry.name == cmd_name:
                command: Any = typer.main.get_command(_loaded(entry))
                command.name = cmd_name
                command.rich_help_panel = OTHERS
                command.no_args_is_help = False  # it would show help on stdout, though it is a mistake
                return command
        return None


def _loaded(entry: metadata.EntryPoint) -> typer.Typer:
    """The commands behind an entry point. One that cannot be imported must not take the others with it."""
    try:
        return cast("typer.Typer", entry.load())
    except (ImportError, AttributeError) as problem:
        error = DidmpcError(
            f"The command  didmpc {entry.name}  cannot be loaded.",
            why=f"{type(problem).__name__}: {problem}.",
            fix="Install didmpc again: pip install --force-reinstall didmpc",
        )

    broken = typer.Typer(add_completion=False)

    @broken.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def tell() -> None:
        """(cannot be loaded; type it to see why)"""
        raise error

    return broken


def _added() -> metadata.EntryPoints:
    return metadata.entry_points(group=ENTRY_POINTS)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"didmpc {metadata.version('didmpc')}")
        raise typer.Exit


def help_on_stderr(context: typer.Context) -> None:
    """A group without a command: show its help, as a mistake (exit status 2, nothing on stdout)."""
    if context.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):
            text = context.get_help()
            if text:
                print(text)
        raise typer.Exit(2)


def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Compute together without showing each other your data.

    Start an agent, exchange one link with each person, run a program with them.

    First type  didmpc agent start  and, in another terminal,  didmpc invite
    """
    help_on_stderr(context)


def command() -> Any:
    """The whole command, as a click command."""
    app = typer.Typer(
        cls=LazyGroup,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback(invoke_without_command=True)(_start)
    agent.app.callback(invoke_without_command=True, help=agent.HELP)(help_on_stderr)
    app.add_typer(agent.app, name="agent", rich_help_panel=YOU)
    people.add_to(app, PEOPLE)
    programs.add_to(app, COMPUTE)
    rehearse.add_to(app, COMPUTE)
    compute.add_to(app, COMPUTE)
    session.app.callback(invoke_without_command=True, help=session.HELP)(help_on_stderr)
    app.add_typer(session.app, name="session", rich_help_panel=COMPUTE)
    receipt.add_to(app, COMPUTE)
    doctor.add_to(app, HELP)
    return typer.main.get_command(app)
