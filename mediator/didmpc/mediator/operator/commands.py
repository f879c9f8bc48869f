"""What an operator types: `didmpc mediator status`, `ready`, `page`, `accounts`, `evict`, `backup`...

Each asks the mediator that runs in the home; where none runs it opens the home itself.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from didmpc.mediator.host.home import Home
from didmpc.mediator.operator import view
from didmpc.mediator.operator.control import Json, call
from didmpc.protocols.errors import LocalMisuse

LONG_SECONDS = 3600.0
"""For what takes as long as there is much of it."""
WATCH_PATIENCE = 10.0
READY_SECONDS = 10.0
DEFAULT_TICKET = "7 d"
LONGEST_TICKET = 366 * 86400

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Where keys and mail are kept.",
        show_default="DIDMPC_MEDIATOR_HOME, else DIDMPC_HOME",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
NistOption = Annotated[
    bool, typer.Option("--nist", help="For clients that have keys of P-256 or P-384 alone.")
]
Who = Annotated[
    str, typer.Argument(metavar="DID", help="A DID, or the name of an account as logs and lists have it.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands, in the order in which an operator needs them."""
    for command in (
        status,
        ready,
        nodes,
        page,
        invite,
        accounts,
        allow,
        deny,
        rules,
        evict,
        messages,
        backup,
        restore,
    ):
        app.command()(command)


def status(
    home: HomeOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.2, max=3600, help="How often, with --watch.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Show what the mediator is doing: mail that waits, sockets, traffic, refusals.

    Example:  didmpc mediator status --watch
    """
    place = _place(home)
    if not watch:
        found = _ask(place, "status")
        _print(json.dumps(found) if as_json else _lines(view.status_rows(found, time.time())))
        return
    snapshots = _snapshots(place, every)
    if as_json:
        for found in snapshots:
            _print(json.dumps(found))
    elif sys.stdout.isatty():
        _draw(snapshots)
    else:
        for found in snapshots:
            _print(view.status_line(found))


def ready(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say whether the mediator takes in mail now: ends with 0 if so, else with 1 and says why.

    For health checks and scripts.

    Example:  until didmpc mediator ready; do sleep 1; done
    """
    place = Home.locate(home)
    found = call(place.root, "ready", timeout=READY_SECONDS)
    obstacles = ["not running"] if found is None else found["obstacles"]
    if as_json:
        _print(json.dumps({"ready": not obstacles, "obstacles": obstacles}))
    elif obstacles:
        _tell(f"The mediator takes in no mail: {', '.join(obstacles)}.")
    else:
        _tell("The mediator takes in mail.")
    sys.exit(1 if obstacles else 0)


def nodes(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the nodes of this mediator, which share a PostgreSQL database, as each told it of itself last.

    A node that is gone, or cut off from the database, is listed for a minute more.

    Example:  didmpc mediator nodes --home /var/lib/didmpc-mediator
    """
    place = _place(home)
    found = call(place.root, "nodes")
    if found is None:
        raise _not_running(place)
    _print(json.dumps(found) if as_json else "\n".join(view.node_lines(found["nodes"], time.time())))


def page(
    home: HomeOption = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make a new token first; the old one opens nothing any more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the link to the operator's page: plots of accounts, mail, rates and sessions, as they go on.

    It is served where operator-listen says, to whoever has the token that is part of the link. Whoever has
    it can see figures and names of accounts, and change nothing.

    Example:  didmpc mediator start --operator-listen 127.0.0.1:8766
    """
    place = _place(home)
    found = call(place.root, "page", {"renew": renew})
    if found is None:
        raise _not_running(place)
    if as_json:
        _print(json.dumps(found))
        return
    _print(f"{found['url']}/#{found['token']}")
    port = found["url"].rpartition(":")[2]
    _tell(f"From another machine:  ssh -N -L {port}:127.0.0.1:{port} USER@SERVER  and open the link there.")
    _tell("Whoever has the link can watch this mediator. If it got about:  didmpc mediator page --renew")


def accounts(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List all accounts: their names in the logs, their DIDs, and what waits for them."""
    place = _place(home)
    rows = list(_pages(place, "accounts", "accounts", 0))
    if as_json:
        _print(json.dumps({"accounts": rows}))
        return
    header = ("NAME", "SINCE", "DIDS", "WAITING", "BYTES", "DID")
    cells = [
        (
            *(row["name"], view.moment(row["created"]), row["keys"], row["messages"], row["bytes"]),
            view.short_did(row["did"]),
        )
        for row in rows
    ]
    _print("\n".join(view.table(header, cells)) if rows else "No accounts yet.")


def allow(
    did: Who,
    home: HomeOption = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was said of this DID.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a DID open an account, whatever --registration says.

    Example:  didmpc mediator allow did:web:wallet.example.org
    """
    _set_rule(_place(home), did, "none" if undo else "allow", as_json)


def deny(
    did: Who,
    home: HomeOption = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was said of this DID.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Refuse a DID: it can open no account, and use none that it has. Its mail stays; see evict."""
    _set_rule(_place(home), did, "none" if undo else "deny", as_json)


def rules(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the DIDs that are allowed or denied."""
    rows = list(_pages(_place(home), "rules", "rules", ""))
    if as_json:
        _print(json.dumps({"rules": rows}))
        return
    _print("\n".join(f"{row['rule']:5}  {row['did']}" for row in rows) if rows else "No rules.")


def evict(did: Who, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Delete an account, with its mail and channels. It may come back, unless it is denied too."""
    gone = _ask(_place(home), "evict", {"did": did}, timeout=LONG_SECONDS)
    if as_json:
        _print(json.dumps(gone))
        return
    _tell(f"Gone: {view.short_did(gone['did'])}")
    _tell(f"With it {gone['messages']} messages; {gone['sockets']} of its sockets were closed here.")
    _tell(f"So that it does not come back:  didmpc mediator deny {gone['did']}")


def invite(
    home: HomeOption = None,
    uses: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Accounts that may be opened with it.", show_default="1"),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it ends: 2 h, 7 d ...", show_default=DEFAULT_TICKET),
    ] = None,
    nist: NistOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print an invitation to use this mediator: a URL, alone on one line.

    For  didmpc agent start --mediator URL

    With --uses or --expires, or where registration is by invitation, each one is new and opens so many
    accounts. Otherwise it is always the same.
    """
    place = _place(home)
    settings = place.require()
    registration = _registration(place)
    if uses is None and expires is None and registration != "invitation":
        result: Json = {"invitation": settings.inviting(nist=nist), "url": settings.url}
    else:
        params = {"uses": uses or 1, "seconds": _ticket_seconds(expires or DEFAULT_TICKET), "nist": nist}
        result = _ask(place, "ticket", params)
    if as_json:
        _print(json.dumps(result))
        return
    _print(result["invitation"])
    if registration == "allow-list":
        _tell("Only DIDs on the list get an account:  didmpc mediator allow DID")


def messages(
    home: HomeOption = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete what was shown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what users wrote to you (basicmessage), oldest first."""
    place = _place(home)
    found = _ask(place, "messages")["messages"]
    if as_json:
        _print(json.dumps({"messages": found}))
    else:
        for item in found:
            _print(f"{view.moment(item['at'])}  {item['name']}  {view.printable(item['did'])}")
            _print(f"    {view.printable(item['text'])}")
        if not found:
            _tell("No messages.")
    if remove and found:
        _ask(place, "remove_messages", {"ids": [item["id"] for item in found]})


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    home: HomeOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write everything into one file, while the mediator runs or not: keys, accounts, waiting mail.

    Whoever has the file can be this mediator: keep it as safe as the mediator itself.

    Example:  didmpc mediator backup /backups/mediator-$(date +%F).tar
    """
    params = {"file": str(file.expanduser().absolute()), "force": force}
    made = _ask(_place(home), "backup", params, timeout=LONG_SECONDS)
    if as_json:
        _print(json.dumps(made))
        return
    _tell(f"{made['file']}: {made['accounts']} accounts, {made['messages']} messages, {made['size']} bytes.")
    _tell("It holds the mediator's private keys. To put it back:  didmpc mediator restore FILE")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that backup wrote.")],
    home: HomeOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the mediator that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into a home. The mediator must be stopped; the file is checked first.

    Example:  didmpc mediator restore /backups/mediator-2026-11-21.tar --home /var/lib/mediator
    """
    from dataclasses import asdict

    from didmpc.mediator.host.configuration import Configuration
    from didmpc.mediator.operator import backup as backups

    place = Home.locate(home)
    if url := Configuration.load(place)["store"]:
        raise LocalMisuse(
            "This mediator's mail is in PostgreSQL, and a backup is of a mediator that has it in its home.",
            why=f"Its settings say: store = {url}",
            fix="Give the database back with pg_restore, or restore into another home: --home DIR.",
        )
    found = backups.restore(place, file.expanduser(), force=force)
    if as_json:
        _print(json.dumps({"home": str(place.root), **asdict(found)}))
        return
    made = view.moment(found.made)
    _tell(f"{place.root}: {found.accounts} accounts and {found.messages} messages as of {made}.")
    _tell(f"Start it:  didmpc mediator start --home {place.root}")


# --- asking


def _place(home: Path | None) -> Home:
    place = Home.locate(home)
    place.require()
    return place


def _ask(place: Home, method: str, params: Json | None = None, *, timeout: float = 30.0) -> Json:
    result = call(place.root, method, params, timeout=timeout)
    return _alone(place, method, params or {}) if result is None else result


def _alone(place: Home, method: str, params: Json) -> Json:
    """Do it on the home of a mediator that does not run, holding its lock."""
    import asyncio

    from didmpc.mediator.host.configuration import Configuration
    from didmpc.mediator.limits import Limits
    from didmpc.mediator.operator.methods import Operator
    from didmpc.mediator.store.opening import open_store

    async def work() -> Json:
        store = await open_store(place, Limits(), Configuration.load(place).store_url)
        try:
            return await Operator(place, place.require(), store).methods()[method](params)
        finally:
            await store.close()

    with place.locked():
        return asyncio.run(work())


def _pages(place: Home, method: str, name: str, after: object) -> Iterator[Json]:
    while after is not None:
        page = _ask(place, method, {"after": after})
        yield from page[name]
        after = page["next"]


def _snapshots(place: Home, every: float) -> Iterator[Json]:
    """The mediator's state, again and again until Ctrl-C, which is taken only in the pause between two.

    An exception that arrives anywhere could arrive in a finalizer, where Python drops it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        while True:
            found = call(place.root, "status", timeout=WATCH_PATIENCE)
            if found is None:
                raise _not_running(place)
            yield found
            if signal.sigtimedwait({signal.SIGINT}, every) is not None:
                raise KeyboardInterrupt
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _not_running(place: Home) -> LocalMisuse:
    fix = f"Start it: didmpc mediator start --home {place.root}"
    return LocalMisuse("No mediator runs in this home.", fix=fix)


def _set_rule(place: Home, did: str, rule: str, as_json: bool) -> None:
    done = _ask(place, "rule", {"did": did, "rule": rule})
    if as_json:
        _print(json.dumps(done))
        return
    told = {"allow": "Allowed", "deny": "Denied", "none": "No rule any more for"}
    _tell(f"{told[rule]}: {done['did']}")
    if rule == "deny" and done["has_account"]:
        _tell(f"Its account and mail are still there. To delete them:  didmpc mediator evict {done['did']}")


def _registration(place: Home) -> str:
    from didmpc.mediator.host.configuration import Configuration

    found = call(place.root, "status")
    if found is not None and "registration" in found["settings"]:
        return str(found["settings"]["registration"])
    return str(Configuration.load(place)["registration"])


def _ticket_seconds(text: str) -> int:
    from didmpc.mediator.host.quantities import duration

    try:
        return int(duration(text, 60, LONGEST_TICKET))
    except ValueError as problem:
        raise typer.BadParameter(f"must be {problem}", param_hint="--expires") from None


# --- telling


def _draw(snapshots: Iterator[Json]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def panel(found: Json) -> Table:
        grid = Table.grid(padding=(0, 2))
        for name, text in view.status_rows(found, time.time()):
            grid.add_row(Text(name, style="bold"), Text(text))
        return grid

    with Live(console=Console(), auto_refresh=False, screen=False) as live:
        for found in snapshots:
            live.update(panel(found), refresh=True)


def _lines(rows: list[view.Row]) -> str:
    return "\n".join(f"{name:11} {text}" for name, text in rows)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _tell(text: str) -> None:
    typer.echo(text, err=True)
