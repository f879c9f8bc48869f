"""`didmpc mediator`: start, did, invite."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from didmpc.mediator.home import DEFAULT_PORT, Home, check_public_url
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.one_line import OneLine

DONE, FAILED, INTERRUPTED = 0, 1, 130
LEVELS = ("debug", "info", "warning", "error")


class _Group(TyperGroup):
    """Run on its own (not below `didmpc`), it turns errors into words itself."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except DidmpcError as error:
            _report(error)
            sys.exit(FAILED)


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Host a mediator: it takes in messages for agents and relays their sessions, unread.",
)

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="Where keys and mail are kept.", show_default="DIDMPC_HOME"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def start(
    home: HomeOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="0: any free one.", show_default=f"the last one used, else {DEFAULT_PORT}"
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
    log_level: Annotated[str, typer.Option(help=f"{', '.join(LEVELS)}.")] = "warning",
    as_json: JsonOption = False,
) -> None:
    """Run a mediator until Ctrl-C. The first time, it makes its keys.

    Example:  didmpc mediator start --host 0.0.0.0 --public-url https://mediator.example.org
    """
    import asyncio
    import signal

    from didmpc.mediator.app import Running, serve

    if log_level not in LEVELS:
        raise typer.BadParameter(f"one of {', '.join(LEVELS)}", param_hint="--log-level")
    log_handler = logging.StreamHandler(sys.stderr)
    log_handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[log_handler], level=log_level.upper())
    place = Home.locate(home)

    def on_ready(mediator: Running) -> None:
        settings = mediator.settings
        if as_json:
            nist = settings.nist_identity
            ready = {"did": mediator.did, "invitation": settings.invitation, "url": settings.url}
            _line(json.dumps({**ready, "nist_did": nist.did if nist else None}))
        else:
            _welcome(mediator, place)

    serving = serve(
        place,
        host=host,
        port=port,
        public_url=check_public_url(public_url) if public_url else public_url,
        on_ready=on_ready,
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        ended_by = runner.run(serving)
    if ended_by == signal.SIGINT:
        typer.echo("Stopped.", err=True)
        raise typer.Exit(INTERRUPTED)


@app.command()
def did(
    home: HomeOption = None,
    nist: Annotated[
        bool, typer.Option("--nist", help="The one for clients that have keys of P-256 or P-384 alone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the mediator's DID, alone on one line."""
    settings = Home.locate(home).require()
    identity = settings.nist_identity if nist else settings.identity
    if identity is None:
        raise LocalMisuse(
            "This mediator has no keys of P-256 or P-384.",
            why="It was made by a version that gave a mediator one key of X25519 alone.",
            fix="Use its DID for all clients; or start a new mediator in another --home.",
        )
    value = identity.did
    _line(json.dumps({"did": value}) if as_json else value)


@app.command()
def invite(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print the invitation to use this mediator: a URL, alone on one line.

    For  didmpc agent start --mediator URL
    """
    settings = Home.locate(home).require()
    value = settings.invitation
    _line(json.dumps({"invitation": value, "url": settings.url}) if as_json else value)


def _welcome(mediator: Any, home: Home) -> None:
    settings = mediator.settings
    lines = [
        f"  Mediator    {settings.url}",
        f"  DID         {mediator.did}",
        f"  Keys, mail  {home.root}",
        "  To use it:",
        f"    didmpc agent start --mediator '{settings.invitation}'",
    ]
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


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _report(error: DidmpcError) -> None:
    typer.echo("\n".join(part for part in (error.what, error.why, error.fix) if part), err=True)


if __name__ == "__main__":
    os.umask(0o077)
    app(prog_name="didmpc mediator")
