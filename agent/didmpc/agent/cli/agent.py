"""`didmpc agent`: start, look at and stop the agent of this machine's user."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from didmpc.agent.cli import passphrase as passphrases
from didmpc.agent.cli.client import ask
from didmpc.agent.cli.config import Settings, home_of
from didmpc.agent.cli.errors import WrongUsage, write_json
from didmpc.agent.cli.options import HomeOption, JsonOption, examples
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import duration, milliseconds, short_did
from didmpc.agent.wallet.home import Home
from didmpc.local import unix_socket
from didmpc.protocols.errors import DidmpcError

HELP = "Start, look at and stop your agent: it holds your keys and talks to the others for you."
STOP_WITHIN = 15.0
LONGEST_INVITATION = 65_536
LONGEST_LABEL = 64

app = typer.Typer(no_args_is_help=False)


@app.command(
    epilog=examples(
        "didmpc agent start                                  in this terminal; Ctrl-C stops it",
        "didmpc agent start --detach                         in the background",
        "didmpc agent start --mediator https://mediator.example.org?_oob=eyJ...",
    )
)
def start(
    home: HomeOption = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="NAME", help="What others see. (default: you and this machine)"),
    ] = None,
    mediator: Annotated[
        str | None,
        typer.Option(
            "--mediator",
            metavar="INVITATION|DID",
            help="Where others reach you: a mediator's invitation (link or file) or DID. "
            "(default: the one used last, else a small one on this machine)",
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file", metavar="FILE", help="Encrypt the keys under the passphrase in FILE."
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background; return when ready.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Start your agent. It must run while you invite people and compute.

    With --json one line is printed when it is ready: its did, label and mediator.
    """
    place = home_of(home)
    options = options_of(place, label=label, mediator=mediator, passphrase_file=passphrase_file)
    screen = Screen.standard()

    def ready(facts: dict[str, Any]) -> None:
        _show_ready(facts, screen, detached=detach)
        if as_json:
            write_json({name: facts.get(name) for name in ("did", "label", "mediator")})

    from didmpc.agent.cli import background

    if detach:
        background.start(options, place, on_ready=ready, on_notice=lambda text: screen.line(text, "yellow"))
        return 0
    return background.serve(options, on_ready=ready, on_notice=lambda text: screen.line(text, "yellow"))


@app.command(epilog=examples("didmpc agent status", "didmpc agent status --json"))
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show whether your agent runs, as whom, and whether its mediator is reachable."""
    facts = ask(home_of(home), "status")
    if as_json:
        write_json(facts)
        return
    mediator = facts.get("mediator") or {}
    connection = "connected" if mediator.get("connected") else "not connected; it keeps trying"
    if not mediator.get("connected") and not mediator.get("admitted", True):
        connection = "gives this agent no account; what to do: didmpc doctor"
    if mediator.get("connected") and mediator.get("rtt_ms") is not None:
        connection += f", {milliseconds(mediator['rtt_ms'])} away"
    screen = Screen.standard()
    screen.facts(
        [
            (str(facts.get("label")), [short_did(str(facts.get("did")))]),
            ("Mediator", [str(mediator.get("host")), connection]),
            ("Keys", [str(facts.get("home")), f"encrypted ({facts.get('encryption')})"]),
            ("Contacts", [str(facts.get("contacts"))]),
            ("Running", [duration(float(facts.get("uptime") or 0)), f"process {facts.get('pid')}"]),
        ]
    )


@app.command(epilog=examples("didmpc agent stop"))
def stop(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Stop your agent. Messages to you wait at the mediator until it starts again."""
    place = home_of(home)
    ask(place, "stop")
    deadline = time.monotonic() + STOP_WITHIN
    while place.socket.exists():
        if time.monotonic() > deadline:
            raise DidmpcError(
                f"The agent in {place.root} still runs {STOP_WITHIN:.0f} s after it was told to stop.",
                fix=f"See {place.log}",
            )
        time.sleep(0.05)
    Screen.standard().line("The agent has stopped.")
    if as_json:
        write_json({"ok": True, "stopped": True})


@app.command(epilog=examples("didmpc agent did"))
def did(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print your agent's DID, alone on one line."""
    value = ask(home_of(home), "did")["did"]
    if as_json:
        write_json({"did": value})
    else:
        sys.stdout.write(f"{value}\n")


def options_of(
    place: Home, *, label: str | None, mediator: str | None, passphrase_file: Path | None
) -> dict[str, Any]:
    """How an agent is to be started: by flags, else by settings; a passphrase may be asked for."""
    settings = Settings.of(place)
    file = settings.file_path("passphrase-file", passphrase_file)
    return {
        "home": str(place.root),
        "label": _label(settings.text("label", label)),
        "mediator": _mediator(settings.text("mediator", mediator)),
        "passphrase": passphrases.read(file) if file is not None else _ask_if_needed(place),
    }


def _label(chosen: str | None) -> str | None:
    """What others see; the agent keeps or makes one where none is named."""
    if chosen is None:
        return None
    label = " ".join(chosen.split())
    if not label or len(label) > LONGEST_LABEL or not label.isprintable():
        raise WrongUsage(
            f"A label must have 1 to {LONGEST_LABEL} printable characters.",
            fix='didmpc agent start --label "Alice"',
        )
    return label


def _mediator(named: str | None) -> str | None:
    """A DID or an invitation; a file's content where a file was named."""
    if named is None or named.startswith(("did:", "http://", "https://")):
        return named
    path = Path(named).expanduser()
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(LONGEST_INVITATION).strip()
    except (OSError, ValueError) as problem:
        raise WrongUsage(
            f"{named[:100]!r} names no mediator.",
            why="It is neither a DID, nor a link, nor a file that can be read.",
            fix="Ask its host for the link that  didmpc mediator invite  prints.",
        ) from problem


def _ask_if_needed(home: Home) -> str | None:
    # An agent that runs already says so itself; nobody has to type a passphrase for that.
    if unix_socket.is_served(home.socket) or not _under_passphrase(home):
        return None
    return passphrases.ask()


def _under_passphrase(home: Home) -> bool:
    from didmpc.agent.wallet.keystore import Sealed

    try:
        return Sealed.parse(home.wallet.read_bytes()).description.get("kind") == "passphrase"
    except (OSError, DidmpcError):
        return False  # the agent itself says what is wrong with its wallet


def _show_ready(facts: dict[str, Any], screen: Screen, *, detached: bool) -> None:
    connection = "not reachable yet; it keeps trying"
    if facts.get("connected"):
        connection = f"connected in {float(facts.get('connect_seconds') or 0):.1f} s"
        if facts.get("rtt_ms") is not None:
            connection += f", {milliseconds(facts['rtt_ms'])} away"
    screen.facts(
        [
            (str(facts.get("label")), [short_did(str(facts.get("did")))]),
            ("Mediator", [str(facts.get("host")), connection]),
            ("Keys", [_tilde(str(facts.get("home"))), f"encrypted ({facts.get('encryption')})"]),
        ]
    )
    stop_by = "didmpc agent stop" if detached else "Ctrl-C, or didmpc agent stop"
    screen.line(f"Ready. Invite someone:  didmpc invite          Stop:  {stop_by}", "green")


def _tilde(path: str) -> str:
    own = str(Path.home())
    return "~" + path[len(own) :] if path.startswith(own + "/") else path
