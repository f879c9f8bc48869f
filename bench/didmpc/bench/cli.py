"""`didmpc bench`: measurements that anyone can repeat, on their own machine."""

import enum
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from didmpc.protocols.errors import LocalMisuse

if TYPE_CHECKING:
    from didmpc.bench.compare.fleet.plan import Fleet

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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


class Part(enum.StrEnum):
    """What can be measured of a session."""

    messages = "messages"
    relayed = "relayed"
    computing = "computing"
    delayed = "delayed"


@app.command()
def session(
    parts: Annotated[
        list[Part] | None,
        typer.Argument(
            metavar="[SECTION]...", help="messages, relayed, computing, delayed.", show_default="all"
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Less of everything: half a minute in all, and rough figures.")
    ] = False,
    legs: Annotated[
        int | None, typer.Option(min=1, help="How often all take their turns.", show_default="7, quick 2")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Multiplications that wait for each other.")] = 500,
    parallel: Annotated[int, typer.Option(min=0, help="Multiplications at once.")] = 500,
    transfer: Annotated[int, typer.Option(min=0, help="Bytes of a transfer of MPyC.")] = 4 * 1024 * 1024,
    bulk: Annotated[
        int | None,
        typer.Option(min=1, help="Bytes of each leg, in quarters.", show_default="64 MiB, quick 16 MiB"),
    ] = None,
    trips: Annotated[int, typer.Option(min=1, help="Round trips of small messages in each leg.")] = 500,
    round_trip: Annotated[
        int, typer.Option(min=2, max=1000, help="Milliseconds of the section delayed.")
    ] = 10,
    demos: Annotated[bool, typer.Option("--demos/--no-demos", help="Time demos of MPyC as well.")] = True,
    directory: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="A folder; all is deleted afterwards.")
    ] = Path("/var/tmp"),  # noqa: S108  (a folder of our own is made in it)
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Tables for a document.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure what a session costs, as ratios of what is measured beside it in the same run.

    messages: cryptography and bytes of one message. relayed: round trips and throughput through a mediator.
    computing: MPyC's work over didmpc, over a raw TCP relay, and over its own TCP; delayed: the same with a
    delay box. Nothing of your own mediators or agents is touched.

    Example:  didmpc bench session messages relayed --legs 3
    """
    from didmpc.bench.mediator.machine import machine  # noqa: PLC0415
    from didmpc.bench.session import computing, messages, relayed, report  # noqa: PLC0415

    if sys.platform != "linux":
        raise LocalMisuse("The bench runs on Linux only.", why="It reads CPU time and memory from /proc.")
    wanted = parts or list(Part)
    legs = legs or (2 if quick else 7)
    work = computing.Work(rounds=rounds, parallel=parallel, bulk=transfer, demos=demos)

    def say(text: str) -> None:
        typer.echo(f"... {text}", err=True)

    with _folder(directory) as name:
        folder = Path(name)
        result: dict[str, Any] = {"machine": machine(folder)}
        if Part.messages in wanted:
            say("messages")
            result["messages"] = messages.measure(legs=legs, seconds=0.1 if quick else 0.3)
        if Part.relayed in wanted:
            size = bulk or (16 if quick else 64) * 1024 * 1024
            result["relayed"] = relayed.measure(folder, legs=legs, trips=trips, bulk=size, say=say)
        if Part.computing in wanted:
            place = folder / "computing"
            place.mkdir()
            result["computing"] = computing.measure(place, work, legs=legs, say=say)
        if Part.delayed in wanted:
            place = folder / "delayed"
            place.mkdir()
            result["delayed"] = computing.measure(place, work, legs=legs, round_trip_ms=round_trip, say=say)
        result["machine"]["load_after"] = round(os.getloadavg()[0], 2)
    result["aims"] = report.aims(result)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        shown = report.markdown(result) if as_markdown else report.lines(result)
        sys.stdout.write("\n".join(shown) + "\n")


@app.command()
def cluster(
    quick: Annotated[
        bool, typer.Option("--quick", help="Less of everything: under a minute, and rough figures.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="About how long each load lasts.", show_default="4, quick 1")
    ] = None,
    nodes: Annotated[
        list[int] | None,
        typer.Option("--nodes", min=1, max=20, help="How many; repeatable.", show_default="1, 2, 3"),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A PostgreSQL to measure with, in a database of its own.",
            show_default="one of its own, where it is installed",
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Bytes of content in each message.")] = 1000,
    recipients: Annotated[int, typer.Option(min=1, help="Mailboxes that take part.")] = 24,
    connections: Annotated[int, typer.Option(min=1, help="Connections of the load.")] = 48,
    sockets: Annotated[
        int | None, typer.Option(min=1, help="Idle WebSockets.", show_default="1000, quick 300")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1, help="Live deliveries per second.", show_default="a quarter of the forwards it takes in"
        ),
    ] = None,
    directory: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="A folder on the disk to measure; all is deleted afterwards."
        ),
    ] = Path("/var/tmp"),  # noqa: S108  (a folder of our own is made in it)
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Tables for a document.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure several nodes on one PostgreSQL, beside a mediator alone on SQLite.

    Durable forwards, live delivery and relayed packets, each also with its two ends on different nodes. All
    are real processes; what arrives must be what was sent, else there are no figures but an error. The JSON
    is what  didmpc bench capacity --figures FILE  calculates with. Nothing of your own is touched.

    Example:  didmpc bench cluster --quick

    Example:  didmpc bench cluster --quick --nodes 2 --rate 10
    """
    from didmpc.bench.mediator.host import Generators  # noqa: PLC0415
    from didmpc.bench.mediator.machine import machine  # noqa: PLC0415
    from didmpc.mediator.store.errors import NoDriver  # noqa: PLC0415

    try:
        from didmpc.bench.nodes import measure, report  # noqa: PLC0415
        from didmpc.bench.nodes.database import database  # noqa: PLC0415
    except ImportError:
        raise NoDriver from None
    if sys.platform != "linux":
        raise LocalMisuse("The bench runs on Linux only.", why="It reads CPU time and memory from /proc.")
    with (
        _folder(directory) as name,
        Generators("didmpc.bench.nodes.load") as generators,
        database(Path(name), store) as postgres,
    ):
        plan = measure.Plan(
            directory=Path(name),
            seconds=seconds or (1.0 if quick else 4.0),
            size=size,
            recipients=recipients,
            connections=connections,
            sockets=min(sockets or (300 if quick else 1000), generators.open_files - 256),
            rate=rate,
            counts=tuple(nodes or (1, 2, 3)),
            generators=generators,
            say=lambda text: typer.echo(f"... {text}", err=True),
        )
        result: dict[str, Any] = {"machine": machine(plan.directory)}
        result["places"] = measure.measure(plan, postgres)
        result["store"] = measure.store(plan, postgres)
        result["machine"]["load_after"] = round(os.getloadavg()[0], 2)
        result["figures"] = report.figures(result["places"], result["store"])
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        shown = report.markdown(result) if as_markdown else report.lines(result)
        sys.stdout.write("\n".join(shown) + "\n")


@app.command()
def capacity(
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            metavar="FILE",
            dir_okay=False,
            help="What  didmpc bench cluster --json  has written.",
            show_default="those that come with didmpc",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=NUMBER", help="Another value; repeatable. See --values."),
    ] = None,
    sizes: Annotated[
        list[int] | None,
        typer.Option(
            "--size",
            min=1,
            max=1_000_000,
            help="As many users as so many mediators serve; repeatable.",
            show_default="1, 2, 10, 100, 1000, 10000",
        ),
    ] = None,
    messages: Annotated[
        int,
        typer.Option(min=0, max=10_000_000, help="Messages to play out at each load; 0: none."),
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 1,
    show_values: Annotated[
        bool, typer.Option("--values", help="Only list every value of the model, and what it means.")
    ] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Tables for a document.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what a number of users needs: nodes, database, links; and what is full first.

    A model, calculated from figures that were measured, what users do, and what machines have; the way of a
    message over nodes and database is also played out, event by event. Nothing is measured here.

    Examples:  didmpc bench capacity
               didmpc bench capacity --set messages_per_day=200 --set database_cores=32 --size 50
               didmpc bench cluster --json > mine.json; didmpc bench capacity --figures mine.json
    """
    from didmpc.bench.capacity import report  # noqa: PLC0415
    from didmpc.bench.capacity.values import Figures, Values  # noqa: PLC0415

    measured, machine = Figures.read(figures)
    values = Values(measured).with_settings(settings or ())
    if show_values:
        rows = list(values.rows())
        if as_json:
            sys.stdout.write(
                json.dumps(
                    {
                        name: {"group": group, "value": value, "about": about}
                        for group, name, value, about in rows
                    }
                )
                + "\n"
            )
            return
        for group, name, value, about in rows:
            sys.stdout.write(f"{group:<9} {name:<21}{value:>12,.10g}  {about}\n")
        return
    result = report.answer(
        values,
        machine,
        sizes=sizes or report.SIZES,
        messages=messages,
        seed=seed,
        say=lambda text: typer.echo(f"... {text}", err=True),
    )
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        shown = report.markdown(result) if as_markdown else report.lines(result)
        sys.stdout.write("\n".join(shown) + "\n")


@app.command("list")
def list_contenders(
    as_json: Annotated[
        bool, typer.Option("--json", help="All that is known, with versions, as JSON on stdout.")
    ] = False,
) -> None:
    """Ways to connect MPC parties that `didmpc bench compare` knows, and what is not installed here.

    Example:  didmpc bench list --json
    """
    from didmpc.bench.compare.command import list_contenders as show  # noqa: PLC0415

    show(as_json=as_json)


def _open_fleet(
    hosts: Path | None, *, profile: list[str] | None, from_captures: dict[str, bool]
) -> "Fleet | None":
    """Raises LocalMisuse for what hosts elsewhere cannot do."""
    if hosts is None:
        return None
    from didmpc.bench.compare.fleet.plan import read  # noqa: PLC0415
    from didmpc.bench.compare.fleet.wire import raise_unless_possible  # noqa: PLC0415

    unfit = ["--profile"] if profile else []
    unfit += [name for name, wanted in from_captures.items() if wanted]
    if unfit:
        raise LocalMisuse(
            f"{', '.join(unfit)} cannot be had with --hosts.",
            why="The network of a fleet is as it is: nothing is delayed, captured, cut or put behind a NAT.",
            fix="Leave it away, or measure on test hosts of this machine: without --hosts, as root.",
        )
    raise_unless_possible()
    return read(hosts)


_HOSTS = typer.Option(
    "--hosts",
    exists=True,
    dir_okay=False,
    metavar="FILE",
    help="On other machines over SSH: a TOML file says which (docs/comparison-bench.md shows one).",
)


@app.callback(invoke_without_command=True)
def bench(ctx: typer.Context, hosts: Annotated[Path | None, _HOSTS] = None) -> None:
    """Measure on this machine what the documentation gives figures for."""
    if ctx.invoked_subcommand is None:
        if hosts is None:
            typer.echo(ctx.get_help())
        else:
            ctx.invoke(compare, ctx=ctx, hosts=hosts)
    elif hosts is None:
        return
    elif ctx.invoked_subcommand == "compare":
        ctx.meta[__name__] = hosts
    else:
        raise LocalMisuse(
            f"--hosts says nothing to `didmpc bench {ctx.invoked_subcommand}`.",
            why="Only contenders are compared on other machines.",
            fix="didmpc bench --hosts FILE",
        )


@app.command()
def compare(
    ctx: typer.Context,
    contenders: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONTENDER]...", help="See  didmpc bench list", show_default="all"),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(help="loopback (without root), lan, metro, world, mobile; repeat for several."),
    ] = None,
    hosts: Annotated[Path | None, _HOSTS] = None,
    parties: Annotated[
        list[int] | None, typer.Option(min=2, max=9, help="How many; repeatable.", show_default="3")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each work, paired with plain TCP.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the round-bound benchmark.")] = 100,
    size: Annotated[int, typer.Option(min=16, help="Bytes in a block of the bulk benchmark.")] = 1 << 20,
    program: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Also time this MPyC program; repeatable."),
    ] = None,
    no_timing: Annotated[
        bool, typer.Option("--no-timing", help="No runs by the clock: only --exposure, --cut, --nat.")
    ] = False,
    exposure: Annotated[
        bool, typer.Option("--exposure", help="Capture what can be seen on the way.")
    ] = False,
    cut: Annotated[bool, typer.Option("--cut", help="Cut one party off for 10 s in the middle.")] = False,
    nat: Annotated[bool, typer.Option("--nat", help="Try behind each kind of NAT and firewall.")] = False,
    directory: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="All in it of ours is deleted afterwards.")
    ] = Path("/var/tmp"),  # noqa: S108  (a folder of our own is made in it)
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Every single figure, as CSV.")] = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", help="Plots, tables and evidence: one page that needs no other file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare didmpc with other ways to connect MPC parties, each set up with real software.

    The parties are network namespaces of this machine, which needs root; as another user, name
    --profile loopback. Nothing outside of the namespaces is touched.

    With --hosts they are other machines that you can log in to with a key. What is begun there is taken back,
    also when this is killed.

    Examples:  sudo didmpc bench compare tcp relay didmpc wireguard --profile metro
               didmpc bench compare tcp relay didmpc --hosts hosts.toml --parties 3
    """
    from didmpc.bench.compare import command  # noqa: PLC0415
    from didmpc.bench.compare.compare import Plan, chosen, chosen_networks  # noqa: PLC0415
    from didmpc.bench.compare.isolate import work_folder  # noqa: PLC0415

    outputs = command.Outputs(csv=csv_file, html=html_file)
    outputs.check()
    if no_timing and (hosts or profile or not (exposure or cut or nat)):
        raise LocalMisuse(
            "--no-timing leaves nothing to do here.",
            why="It takes away what --profile and --hosts are for.",
            fix="Add --exposure, --cut or --nat, and leave --profile and --hosts away.",
        )
    captured = {"--exposure": exposure, "--cut": cut, "--nat": nat}
    fleet = _open_fleet(hosts or ctx.meta.get(__name__), profile=profile, from_captures=captured)
    names, networks = chosen(contenders or ()), chosen_networks(profile or ())
    with work_folder(directory) as folder:
        plan = Plan(
            folder=folder,
            names=names,
            profiles=() if no_timing else networks,
            parties=tuple(parties or (min(3, len(fleet.parties)) if fleet else 3,)),
            fleet=fleet,
            repeats=repeats,
            rounds=rounds,
            size=size,
            demos=tuple((path.resolve(), ()) for path in program or ()),
            exposure=exposure,
            cut=cut,
            nat=nat,
            say=lambda text: typer.echo(f"... {text}", err=True),
        )
        result = command.run(plan)
    command.show(result, as_json=as_json)
    outputs.write(result)


@app.command()
def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...", help="What  didmpc bench compare --json  has written; several become one."
        ),
    ],
    html_file: Annotated[
        Path | None,
        typer.Option("--html", help="Plots, tables and evidence: one page that needs no other file."),
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="The tables, as a document of a repository.")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Every single figure, as CSV.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="The result, of several: as one.")] = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Plots as SVG files, which the document of --markdown shows."),
    ] = None,
) -> None:
    """Write the reports of a comparison that was kept; without options, its tables on the terminal.

    Examples:  didmpc bench report result.json --html report.html
               didmpc bench report lan.json metro.json --json both.json --markdown both.md
               didmpc bench report both.json --markdown both.md --plots .
    """
    from didmpc.bench.compare.command import Outputs, report_of  # noqa: PLC0415

    report_of(
        results,
        Outputs(csv=csv_file, html=html_file, markdown=markdown_file, json=json_file, plots=plots),
    )


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
