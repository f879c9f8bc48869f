"""`didmpc bench`: measurements that anyone can repeat, on their own machine."""

import enum
import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from didmpc.protocols.errors import LocalMisuse

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measure on this machine what the documentation gives figures for.",
)


@app.callback()
def _bench() -> None:
    """Keeps `mediator` a sub-command while it is the only one."""


class Section(enum.StrEnum):
    """What can be measured."""

    forwards = "forwards"
    live = "live"
    pickup = "pickup"
    idle = "idle"
    status = "status"


TRAFFIC = (Section.forwards, Section.live, Section.pickup)


@app.command()
def mediator(
    sections: Annotated[
        list[Section] | None,
        typer.Argument(
            metavar="[SECTION]...", help="forwards, live, pickup, idle, status.", show_default="all"
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Less of everything: half a minute in all, and rough figures.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="About how long each load lasts.", show_default="5, quick 1")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1, help="Messages per second of live delivery.", show_default="half of the forwards measured"
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Bytes of content in each message.")] = 1000,
    recipients: Annotated[int, typer.Option(min=1, help="Mailboxes that take part.")] = 20,
    connections: Annotated[int, typer.Option(min=1, help="Connections of the load.")] = 64,
    sockets: Annotated[
        int | None, typer.Option(min=1, help="Idle WebSockets.", show_default="5000, quick 500")
    ] = None,
    mailboxes: Annotated[
        int | None, typer.Option(min=1, help="Mailboxes of status.", show_default="100000, quick 1000")
    ] = None,
    messages: Annotated[
        int | None, typer.Option(min=1, help="Messages in them.", show_default="1000000, quick 10000")
    ] = None,
    directory: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="A folder on the disk to measure; all is deleted afterwards."
        ),
    ] = Path("/var/tmp"),  # noqa: S108  (a folder of our own is made in it)
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure how much a mediator carries.

    A real mediator runs as a process of its own, with a fresh home; the load comes from other processes of
    this machine, packed before the clock runs. The limits of the same machine are measured beside it.
    Nothing of your own mediators or agents is touched.

    Example:  didmpc bench mediator forwards live --seconds 10
    """
    from didmpc.bench.mediator import report  # noqa: PLC0415  (the command's own help needs none of it)
    from didmpc.bench.mediator.host import Generators  # noqa: PLC0415
    from didmpc.bench.mediator.machine import machine  # noqa: PLC0415
    from didmpc.bench.mediator.sections import Plan, idle, status, traffic  # noqa: PLC0415

    if sys.platform != "linux":
        raise LocalMisuse("The bench runs on Linux only.", why="It reads CPU time and memory from /proc.")
    wanted = sections or list(Section)
    with _folder(directory) as folder, Generators() as generators:
        plan = Plan(
            directory=Path(folder),
            seconds=seconds or (1.0 if quick else 5.0),
            size=size,
            recipients=recipients,
            connections=connections,
            rate=rate,
            sockets=sockets or (500 if quick else 5000),
            mailboxes=mailboxes or (1000 if quick else 100_000),
            messages=messages or (10_000 if quick else 1_000_000),
            generators=generators,
            say=lambda text: typer.echo(f"... {text}", err=True),
        )
        result: dict[str, Any] = {"machine": machine(plan.directory)}
        if any(section in TRAFFIC for section in wanted):
            found, result["ceilings"] = traffic(plan, wanted)
            result |= found
        if Section.idle in wanted:
            result["idle"] = idle(plan)
        if Section.status in wanted:
            result["status"] = status(plan)
    result["aims"] = report.aims(result)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write("\n".join(report.lines(result)) + "\n")


def _folder(directory: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder that goes with all that is in it. Raises `LocalMisuse`."""
    try:
        return tempfile.TemporaryDirectory(prefix="didmpc-bench-", dir=directory)
    except OSError as problem:
        raise LocalMisuse(
            f"Nothing can be written in {directory}.",
            why=f"{problem.strerror}.",
            fix="Name a folder of yours on the disk to measure with --directory DIR.",
        ) from None
