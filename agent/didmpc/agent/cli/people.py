"""Getting to know the people you compute with: invite, accept, contacts, ping."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from didmpc.agent.cli.client import ask
from didmpc.agent.cli.completion import contact_names, invitation_ids
from didmpc.agent.cli.config import home_of
from didmpc.agent.cli.errors import WrongUsage, write_json
from didmpc.agent.cli.links import check_writable, invitation_text, lifetime, show_qr, write_link
from didmpc.agent.cli.options import HomeOption, JsonOption, examples
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import duration, milliseconds, moment, plural, short_did
from didmpc.agent.wallet.home import Home

ACCEPT_WITHIN = 90.0
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
    list_: Annotated[
        bool, typer.Option("--list", help="Show the invitations you gave away, of either kind.")
    ] = False,
    revoke: Annotated[
        str | None,
        typer.Option(
            "--revoke",
            metavar="ID",
            help="Take one back: nobody comes by it any more. ID as in --list, its beginning, or the link.",
            autocompletion=invitation_ids,
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a link by which somebody becomes your contact.

    Send it over any channel you trust. The link stands alone on stdout. For one computation with people who
    need not be contacts:  didmpc run PROGRAM --parties N
    """
    place = home_of(home)
    if list_:
        return _list(place, as_json=as_json)
    if revoke is not None:
        return _revoke(place, revoke, as_json=as_json)
    seconds = lifetime(expires)
    if file is not None:
        check_writable(file)
    answer = ask(place, "invite", {"expires": seconds, "uses": uses})
    url = str(answer["long_url" if long else "url"])
    if file is not None:
        write_link(file, url)
    screen = Screen.standard()
    if as_json:
        write_json(answer)
    else:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()
    if screen.terminal or qr:
        show_qr(url, screen, forced=qr)
    people = "one person" if uses == 1 else f"up to {uses} people"
    screen.line(
        f"Send this link to {people} (expires in {duration(seconds)}). They type:  didmpc accept LINK"
    )


def _list(place: Home, *, as_json: bool) -> None:
    answer = ask(place, "invitations")
    if as_json:
        write_json(answer)
        return
    screen = Screen.standard()
    known = answer.get("invitations") or []
    if not known:
        screen.line("No invitations yet. Make one:  didmpc invite     or  didmpc run PROGRAM --parties N")
        return
    rows = []
    for each in known:
        joint = each["for"] == "computation"
        used = plural(each["uses"], "place") if joint else f"{each['used']} of {each['uses']} used"
        what = f"compute: {each['about']}"[:50] if joint else "contact"
        rows.append((each["id"][:8], what, used, moment(each["expires"]), each["state"]))
    screen.table(("ID", "For", "", "Expires", "State"), rows)
    screen.line("Take one back:  didmpc invite --revoke ID")
    if any(each["for"] == "computation" and each["state"] == "open" for each in known):
        screen.line("Gather again where a command was lost: the same command, with  --reopen ID")


def _revoke(place: Home, wanted: str, *, as_json: bool) -> None:
    answer = ask(place, "revoke", {"invitation": wanted})
    if answer["state"] == "revoked":
        told = "Taken back. Whoever comes by it now is told so; who came before stays."
    else:
        told = f"Nobody could come by it any more: it is {answer['state']}."
    Screen.standard().line(told)
    if as_json:
        write_json(answer)


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
    text = invitation_text(invitation)
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
        ("Name", "Calls itself", "Since", "Words compared", "DID"),
        [
            (
                c["name"],
                c.get("label") or "-",
                _since(c.get("since")),
                _since(c.get("verified_at")) if c.get("verified_at") else "never",
                short_did(c["did"]),
            )
            for c in known
        ],
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
            "didmpc invite",
            "didmpc invite --expires 7d --uses 3",
            "didmpc invite --file for-bob.txt",
            "didmpc invite --list",
            "didmpc invite --revoke 3f2a8c01",
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


def _mediator_host(home: Any) -> str:
    return str((ask(home, "status").get("mediator") or {}).get("host") or "the mediator")


def _since(value: Any) -> str:
    return moment(value) if isinstance(value, int | float) else str(value or "-")


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)
