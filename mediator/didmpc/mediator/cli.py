"""`didmpc mediator`: start, config, did, unit, and the commands of its operator."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from didmpc.mediator.host.configuration import LOG_FORMATS, LOG_LEVELS, REGISTRATIONS, Configuration
from didmpc.mediator.host.home import DEFAULT_PORT, Home
from didmpc.mediator.migration.command import migrate
from didmpc.mediator.operator import commands, view
from didmpc.mediator.operator.commands import HomeOption, JsonOption, NistOption
from didmpc.mediator.operator.control import call
from didmpc.protocols.errors import DidmpcError

DONE, FAILED, INTERRUPTED = 0, 1, 130

log = logging.getLogger(__name__)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings.", show_default="mediator.toml in the home"),
]


class _Group(TyperGroup):
    """Run on its own (not below `didmpc`), it turns errors into words itself."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except DidmpcError as error:
            _report(error)
            sys.exit(getattr(error, "exit_code", FAILED))


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Host a mediator: it takes in messages for agents and relays their sessions, unread.",
)


@app.command()
def start(
    home: HomeOption = None,
    config_file: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="0: any free one.", show_default=f"the last one used, else {DEFAULT_PORT}"
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Keep mail in PostgreSQL: postgresql://USER@HOST/DATABASE. No password here: PGPASSFILE.",
            show_default="a file in the home",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where others reach it, if not there. Kept; '' takes it back.",
            show_default=False,
        ),
    ] = None,
    registration: Annotated[
        str | None,
        typer.Option(
            metavar="WHO", help=f"Who may open an account: {', '.join(REGISTRATIONS)}.", show_default="open"
        ),
    ] = None,
    allow_private: Annotated[
        bool | None,
        typer.Option(
            "--allow-private/--no-allow-private",
            help="Connect to private addresses too. One that only this machine can reach always may.",
            show_default="no",
        ),
    ] = None,
    onward: Annotated[
        str | None,
        typer.Option(
            metavar="on|off", help="Pass mail on whose recipient takes it elsewhere.", show_default="on"
        ),
    ] = None,
    relay: Annotated[
        str | None,
        typer.Option(
            metavar="on|off",
            help="Relay the sessions of agents. Without, they go through mailboxes, which is slower.",
            show_default="on",
        ),
    ] = None,
    node_listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Where other nodes on the same PostgreSQL reach this one.",
            show_default="for nodes of this machine",
        ),
    ] = None,
    node_url: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The same, if they reach it under another address.",
            show_default=False,
        ),
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Serve /metrics there. Without it: on the port above, to this machine only.",
            show_default=False,
        ),
    ] = None,
    operator_listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Serve the operator's page there; see  didmpc mediator page",
            show_default=False,
        ),
    ] = None,
    proxies: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK,...",
            help="Reverse proxies on other machines, whose X-Forwarded-For is believed.",
            show_default=False,
        ),
    ] = None,
    contact: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Who runs it and how to reach them, for its web page.", show_default=False
        ),
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(
            metavar="on|off", help="off lifts rates and quotas, for tests and benchmarks.", show_default="on"
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Set one limit, such as mail-seconds=14d. All of them: didmpc mediator config.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help=f"{', '.join(LOG_LEVELS)}.", show_default="warning"),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORM", help=f"{', '.join(LOG_FORMATS)}.", show_default="text")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a mediator until Ctrl-C. The first time, it makes its keys.

    Each setting can also be said in the environment (DIDMPC_MEDIATOR_HOST=...) or in mediator.toml in the
    home; see  didmpc mediator config

    Example:  didmpc mediator start --host 0.0.0.0 --public-url https://mediator.example.org

    Example:  didmpc mediator start --store postgresql://didmpc@db.example.org/didmpc
    """
    import asyncio
    import signal

    from didmpc.mediator.app import Running, serve
    from didmpc.mediator.host import logs

    place = Home.locate(home)
    flags = {
        "host": host,
        "port": port,
        "store": store,
        "public-url": public_url,
        "registration": registration,
        "allow-private": allow_private,
        "onward": onward,
        "relay": relay,
        "node-listen": node_listen,
        "node-url": node_url,
        "metrics-listen": metrics_listen,
        "operator-listen": operator_listen,
        "proxies": proxies,
        "contact": contact,
        "limits": limits,
        "limit": limit or None,
        "log-level": log_level,
        "log-format": log_format,
    }
    configuration = Configuration.load(place, flags=flags, file=config_file)
    place.prepare()
    logs.start(
        logs.Names(place.log_key()), level=configuration["log-level"], form=configuration["log-format"]
    )
    for warning in configuration.warnings():
        log.critical(warning)

    def on_ready(mediator: Running) -> None:
        settings = mediator.settings
        if as_json:
            nist = settings.nist_identity
            ready = {"did": mediator.did, "invitation": settings.invitation, "url": settings.url}
            nist_did = nist.did if nist else None
            _line(json.dumps({**ready, "nist_did": nist_did, "metrics": mediator.metrics_url}))
        elif configuration["log-format"] == "text":
            _welcome(mediator, place, configuration)
        log.info("ready at %s", settings.url)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        ended_by = runner.run(serve(place, configuration, on_ready))
    if ended_by == signal.SIGINT:
        typer.echo("Stopped.", err=True)
        sys.exit(INTERRUPTED)  # not by `Exit`: `didmpc` would say once more that it was stopped


@app.command()
def config(
    home: HomeOption = None,
    config_file: ConfigOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="What the next start would take, not what runs now.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every setting and every limit in force, and where each value came from.

    Of the mediator that runs in this home; where none runs, or with --check, of the next start. A setting
    is taken from the command line, else from the environment (DIDMPC_MEDIATOR_...), else from mediator.toml
    in the home, else it has its default.
    """
    place = Home.locate(home)
    found = None if check or config_file else call(place.root, "config")
    shown = found or Configuration.load(place, file=config_file).to_json()
    if not as_json:
        typer.echo("In force in the mediator that runs:" if found else "For the next start:", err=True)
    if as_json:
        _line(json.dumps({"running": found is not None, **shown}))
        return
    settings = [(key, _shown(item["value"]), item["source"]) for key, item in shown["settings"].items()]
    limits = [(key, item["value"], item["source"], item["what"]) for key, item in shown["limits"].items()]
    _line("\n".join(view.table(("SETTING", "VALUE", "FROM"), settings)))
    _line("")
    _line("\n".join(view.table(("LIMIT", "VALUE", "FROM", "WHAT"), limits)))


@app.command()
def did(
    home: HomeOption = None,
    nist: NistOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the mediator's DID, alone on one line."""
    value = Home.locate(home).require().speaking(nist=nist).did
    _line(json.dumps({"did": value}) if as_json else value)


@app.command()
def unit(
    home: Annotated[
        Path, typer.Option("--home", metavar="DIR", help="Where keys and mail are to be kept.")
    ] = Path("/var/lib/didmpc-mediator"),
    user: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Who runs it.", show_default="a user of its own that systemd makes"
        ),
    ] = "",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen on.", show_default=f"as start: {DEFAULT_PORT}"),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where others reach it.", show_default=False)
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Have systemd-analyze check it, and say how exposed it is.")
    ] = False,
) -> None:
    """Print a hardened systemd unit that runs this mediator as a service.

    Settings that are not options here go into mediator.toml in its home, or as DIDMPC_MEDIATOR_... into
    /etc/didmpc-mediator.env, which may hold PGPASSWORD as well: root alone needs to read it.

    Example:  didmpc mediator unit --check --public-url https://mediator.example.org > didmpc-mediator.service
    """
    from pathlib import PurePosixPath

    from didmpc.mediator.host.home import check_public_url
    from didmpc.mediator.host.unit import Unit, checked, installed

    executable, needs = installed()
    url = check_public_url(public_url) if public_url else ""
    made = Unit(executable, PurePosixPath(home), user, port, url, needs)
    said = checked(made) if check else ""
    _line(made.text.rstrip("\n"))
    for line in (*made.warnings, *([said] if said else [])):
        typer.echo(line, err=True)


commands.add_to(app)
app.command()(migrate)


def _welcome(mediator: Any, home: Home, configuration: Configuration) -> None:
    settings = mediator.settings
    lines = [
        f"  Mediator    {settings.url}",
        f"  DID         {mediator.did}",
        *(
            (f"  Keys        {home.root}", f"  Mail        {configuration['store']}")
            if configuration["store"]
            else (f"  Keys, mail  {home.root}",)
        ),
    ]
    match configuration["registration"]:
        case "invitation":
            lines.append("  To let somebody use it:  didmpc mediator invite")
        case "allow-list":
            lines.append("  To let somebody use it:  didmpc mediator allow DID")
        case _:
            lines.append("  To use it:")
            lines.append(f"    didmpc agent start --mediator '{settings.invitation}'")
    if settings.public_url is None and (mediator.host == "localhost" or mediator.host.startswith("127.")):
        lines.append(
            "  Only agents on this machine can reach it. For others: --host and --public-url (--help)."
        )
    lines.append("  Ready. Stop with Ctrl-C.")
    typer.echo("\n".join(lines), err=True)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value in (None, "") else str(value)


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _report(error: DidmpcError) -> None:
    typer.echo("\n".join(part for part in (error.what, error.why, error.fix) if part), err=True)


if __name__ == "__main__":
    os.umask(0o077)
    app(prog_name="didmpc mediator")
