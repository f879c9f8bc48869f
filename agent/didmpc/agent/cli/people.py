"""Getting to know the people you compute with: invite, accept, contacts, ping."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from didmpc.agent.cli.client import ask
from didmpc.agent.cli.completion import contact_names
from didmpc.agent.cli.config import home_of
from didmpc.agent.cli.errors import WrongUsage, write_json
from didmpc.agent.cli.options import HomeOption, JsonOption, examples
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import duration, milliseconds, moment, plural, short_did
from didmpc.local.private_files import write_private
from didmpc.protocols.errors import DidmpcError

LONGEST_INVITATION = 65_536
ACCEPT_WITHIN = 90.0
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
PING_TIMEOUT = 10.0


def invite(
    qr: Annotated[bool, typer.Option("--qr", help="Show a QR code even without a terminal.")] = False,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Also write the link to FILE.")
    ] = None,
    uses: Annotated[int, typer.Option("--uses", min=1, max=1000, help="How many people may accept it.")] = 1,
    long: Annotated[
        bool, typer.Option("--long", help="The link that holds the whole invitation, not a short one.")
    ] = False,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="How long it holds: 30m, 24h, 7d.")
    ] = "24h",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a link by which somebody becomes your contact.

    Send it over any channel you trust. The link stands alone on stdout.
    """
    place = home_of(home)
    seconds = _lifetime(expires)
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise WrongUsage(
            f"The link cannot be written to {file}.", why="It is a folder, or its folder is missing."
        )
    answer = ask(place, "invite", {"expires": seconds, "uses": uses})
    url = str(answer["long_url" if long else "url"])
    if file is not None:
        try:
            write_private(file.absolute(), url.encode() + b"\n")
        except OSError as problem:
            raise DidmpcError(
                f"The link cannot be written to {file}.", why=f"{problem.strerror}."
            ) from problem
    screen = Screen.standard()
    if as_json:
        write_json(answer)
    else:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()
    if screen.terminal or qr:
        _show_qr(url, screen, forced=qr)
    people = "one person" if uses == 1 else f"up to {uses} people"
    screen.line(
        f"Send this link to {people} (expires in {duration(seconds)}). They type:  didmpc accept LINK"
    )


def accept(
    invitation: Annotated[
        str, typer.Argument(metavar="URL|FILE", help="The link you were sent, or a file with it.")
    ],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Call this contact NAME.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept somebody's invitation: afterwards each of you is the other's contact."""
    place = home_of(home)
    if name is not None and (not name.strip() or len(name) > 64 or not name.isprintable() or "," in name):
        raise WrongUsage("A name must have 1 to 64 printable characters and no comma.")
    text = _invitation_text(invitation)
    contact = ask(place, "accept", {"invitation": text, "name": name}, timeout=ACCEPT_WITHIN)
    screen = Screen.standard()
    screen.line(f"{contact['name']} is now your contact, and you are theirs.", "green")
    screen.line(f"See how far away:  didmpc ping {_quoted(contact['name'])}")
    if as_json:
        write_json(contact)


def contacts(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the people you can compute with."""
    answer = ask(home_of(home), "contacts")
    if as_json:
        write_json(answer)
        return
    screen = Screen.standard()
    known = answer.get("contacts") or []
    if not known:
        screen.line("No contacts yet. Invite somebody:  didmpc invite")
        return
    screen.table(
        ("Name", "Calls itself", "Since", "DID"),
        [(c["name"], c.get("label") or "-", _since(c.get("since")), short_did(c["did"])) for c in known],
    )


def ping(
    contact: Annotated[
        str,
        typer.Argument(metavar="CONTACT", help="A name from  didmpc contacts", autocompletion=contact_names),
    ],
    count: Annotated[int, typer.Option("--count", "-c", min=1, max=1000, help="How many times.")] = 3,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0.1, max=600, metavar="SECONDS", help="Patience for each answer."),
    ] = PING_TIMEOUT,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Ask a contact's agent for a sign of life, through the mediators, and time it."""
    place = home_of(home)
    screen = Screen.standard()
    times: list[float] = []
    host: str | None = None

    def show(event: dict[str, Any]) -> None:
        nonlocal host
        if event.get("event") == "lost":
            screen.line(f"{contact}: no answer within {duration(timeout)}", "yellow")
        elif event.get("event") == "pong":
            times.append(float(event["ms"]))
            host = host or _mediator_host(place)
            screen.line(f"{contact}: {milliseconds(times[-1])} via {host}")

    params = {"contact": contact, "count": count, "timeout": timeout}
    result = ask(place, "ping", params, timeout=count * (timeout + 1.0) + 30.0, on_event=show)
    sent, received = int(result["sent"]), int(result["received"])
    if received:
        low, mean, high = (milliseconds(float(result[key])) for key in ("min", "avg", "max"))
        screen.line(f"{received} of {sent} came back: least {low}, average {mean}, most {high}", "green")
    else:
        screen.error(
            f"{contact} did not answer ({plural(sent, 'ping')}).",
            "Their agent may be off; messages wait for it at its mediator.",
            "Ask them to type  didmpc agent status  and check your own side:  didmpc doctor",
        )
    if as_json:
        write_json({"ok": received > 0, "contact": contact, "times_ms": times, **result})
    return 0 if received else 1


def add_to(app: typer.Typer, panel: str) -> None:
    """Add the commands of this file."""
    app.command(
        rich_help_panel=panel,
        epilog=examples(
            "didmpc invite", "didmpc invite --expires 7d --uses 3", "didmpc invite --file for-bob.txt"
        ),
    )(invite)
    app.command(
        rich_help_panel=panel,
        epilog=examples(
            "didmpc accept 'https://mediator.example.org?_oob=eyJ...' --as Bob", "didmpc accept from-bob.txt"
        ),
    )(accept)
    app.command(rich_help_panel=panel, epilog=examples("didmpc contacts", "didmpc contacts --json"))(contacts)
    app.command(rich_help_panel=panel, epilog=examples("didmpc ping Bob", "didmpc ping Bob --count 10"))(ping)


def _lifetime(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text.strip())
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if not 60 <= seconds <= 365 * 86400:
        raise WrongUsage(
            "--expires must be from one minute to a year, like 30m, 24h or 7d.", why=f"It is {text[:40]!r}."
        )
    return seconds


def _invitation_text(given: str) -> str:
    """What was given, or the content of the file that was named."""
    if given.lstrip().startswith(("http://", "https://", "{", "did:")):
        return given.strip()
    path = Path(given).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_INVITATION + 1)
    except (OSError, ValueError) as problem:
        raise DidmpcError(
            f"{given[:100]!r} is not an invitation.",
            why="It is neither a link, nor a file that can be read.",
            fix="Paste the whole link, in quotes:  didmpc accept 'https://...'",
        ) from problem
    try:
        if len(content) > LONGEST_INVITATION:
            raise ValueError
        return content.decode().strip()
    except ValueError as problem:
        raise DidmpcError(
            f"The file {path} is not an invitation.",
            why="It is too long, or no text.",
            fix="Ask for a new one:  didmpc invite --file FILE",
        ) from problem


def _show_qr(url: str, screen: Screen, *, forced: bool) -> None:
    import io
    import shutil

    import segno

    code = segno.make(url, error="l", micro=False, boost_error=False)
    columns = code.symbol_size(border=2)[0]
    room = shutil.get_terminal_size().columns
    if not forced and columns > room:
        screen.line(
            f"(A QR code of this link needs {columns} columns, this window has {room}: --qr shows it anyway.)"
        )
        return
    picture = io.StringIO()
    code.terminal(picture, border=2, compact=True)
    screen.raw(picture.getvalue())


def _mediator_host(home: Any) -> str:
    return str((ask(home, "status").get("mediator") or {}).get("host") or "the mediator")


def _since(value: Any) -> str:
    return moment(value) if isinstance(value, int | float) else str(value or "-")


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)
