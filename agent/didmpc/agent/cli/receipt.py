"""Receipts: `didmpc verify RECEIPT`, which needs no agent, and `didmpc session receipt`."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from didmpc.agent.cli.client import ask
from didmpc.agent.cli.errors import WrongUsage, write_json
from didmpc.agent.cli.options import JsonOption, examples
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import listing
from didmpc.agent.wallet.home import Home
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError

INCOMPLETE = 3
MAX_OUTPUT = 1 << 30

PROVES = (
    "It proves that the holders of these session DIDs agreed to this program, these parties, arguments and"
    " threshold, and what each of them claimed as its output, and when by its own clock."
)
PROVES_NOT = (
    "It does not prove that a result is right: MPyC is secure against parties that follow the program. Nor"
    " who the people are: that is what the words were compared for."
)

Lines = list[tuple[str, str]]


def verify(
    receipt: Annotated[
        Path, typer.Argument(metavar="RECEIPT", help="The file that  didmpc run  or  join  named.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="What your program wrote to stdout: check that it is what you committed to (-: stdin).",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt: who agreed to what, and who claimed which output when. Needs no agent.

    Exit status: 0 all of it holds and all have signed; 1 something does not hold, and is named; 3 what is
    there holds, but signatures are missing.
    """
    from didmpc.protocols.mpc.receipt import MAX_RECEIPT, Receipt

    raw = _read(receipt, "receipt", MAX_RECEIPT)
    try:
        read = Receipt.decode(raw)
    except MessageError as error:
        raise DidmpcError(
            f"{receipt} is no sound receipt: {error.what}", why=error.why, fix="Ask its owner for it again."
        ) from error
    verdict = read.verify()
    opened = None if output is None else read.opens(_read(output, "output", MAX_OUTPUT))
    status = 1 if not verdict.holds or opened is False else 0 if verdict.complete else INCOMPLETE
    if as_json:
        write_json(_facts(read, verdict, opened, status))
    else:
        screen = Screen.standard()
        for text, style in described(read, verdict, opened):
            screen.line(text, style)
    raise typer.Exit(status)


def receipt(home: Home, session: str | None, *, own: bool, as_json: bool) -> None:
    """Print the receipt of a session on stdout; where it is, on stderr."""
    from didmpc.protocols.mpc.receipt import MAX_RECEIPT, Receipt

    found = ask(home, "session-receipt", {"session": session, "wait": 0})
    facts = found.get("receipt")
    if not facts:
        running = found["state"] == "running"
        raise LocalMisuse(
            f"Session {str(found['attempt'])[:8]} has no receipt{' yet' if running else ''}.",
            why="Receipts are made at the end of runs that went well, by agents that run then.",
            fix="See your sessions:  didmpc sessions",
        )
    if as_json:
        write_json({"attempt": found["attempt"], **facts})
        return
    path = Path(str(facts["path"]))
    read = Receipt.decode(_read(path, "receipt", MAX_RECEIPT))
    sys.stdout.buffer.write((read if own else read.public()).encode())
    sys.stdout.buffer.flush()
    screen = Screen.standard()
    screen.line(f"Your own copy, with the salt that opens your commitment:  {path}")
    if not own:
        screen.line("What was printed has no salt: it can be given away.")
    if facts.get("missing"):
        screen.line(f"Not signed by {listing([str(name) for name in facts['missing']])}.", "yellow")


def add_to(app: typer.Typer, panel: str) -> None:
    """Add the commands of this file."""
    app.command(
        rich_help_panel=panel,
        epilog=examples(
            "didmpc verify receipt.json",
            "didmpc verify receipt.json --output result.txt",
            "didmpc verify receipt.json --json",
        ),
    )(verify)


def described(read: Any, verdict: Any, opened: bool | None) -> Lines:
    """What a receipt says and is worth: lines, each with a style."""
    manifest = read.manifest
    program = manifest.program
    names = [party.name for party in manifest.roster]
    lines: Lines = []
    if program["title"]:
        lines.append((str(program["title"]), "bold"))
    lines += [
        (f"{program['entry']}, sha256 {program['sha256']}", ""),
        (f"Session {manifest.attempt}, {manifest.m} parties, threshold {manifest.threshold}", ""),
    ]
    if verdict.words:
        lines.append((f"Words that were there to compare: {' '.join(verdict.words)}", ""))
    for pid, name in enumerate(names):
        lines.append((f"{pid}  {name}: {_said(read, verdict, pid, names)}", _style(verdict, pid)))
    lines += [(fault.what, "bold red") for fault in verdict.faults]
    if opened is not None:
        lines.append(
            ("The output is the one that you committed to.", "green")
            if opened
            else ("This output is NOT the one that you committed to.", "bold red")
        )
    if not verdict.holds:
        lines.append(("This receipt was changed or forged: it proves nothing.", "bold red"))
        return lines
    if verdict.complete:
        lines.append(("Everything in it holds, and all have signed.", "bold green"))
    else:
        missing = [names[pid] for pid in verdict.missing]
        lacks = f"{listing(missing)} did not sign" if missing else "some signed before all outputs were there"
        lines.append((f"What is in it holds, but it is not complete: {lacks}.", "bold yellow"))
    return [*lines, (PROVES, ""), (PROVES_NOT, "")]


def _said(read: Any, verdict: Any, pid: int, names: Sequence[str]) -> str:
    claim, endorsement = read.claims.get(pid), read.endorsements.get(pid)
    if claim is None:
        return "agreed; claimed no output and signed no list."
    if pid not in verdict.claimed:
        return "its claim does not hold."
    when = datetime.fromtimestamp(claim.at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    said = f"agreed; claimed output {claim.commitment.hex()[:16]}... on {when}"
    if endorsement is None:
        return f"{said}; signed no list."
    if pid not in verdict.signed:
        return f"{said}; its signature of the list does not hold."
    lacking = [name for other, name in enumerate(names) if other not in endorsement.covers]
    return f"{said}; signed the list{f' without {listing(lacking)}' if lacking else ''}."


def _style(verdict: Any, pid: int) -> str:
    if any(fault.pid == pid for fault in verdict.faults):
        return "bold red"
    return "yellow" if pid in verdict.missing or pid in verdict.partial else "green"


def _facts(read: Any, verdict: Any, opened: bool | None, status: int) -> dict[str, Any]:
    manifest = read.manifest
    return {
        "ok": status == 0,
        "holds": verdict.holds,
        "complete": verdict.complete,
        "faults": [{"party": fault.pid, "what": fault.what} for fault in verdict.faults],
        "attempt": manifest.attempt,
        "manifest_sha256": read.manifest_sha256,
        "program": manifest.program["entry"],
        "sha256": manifest.program["sha256"],
        "threshold": manifest.threshold,
        "words": None if verdict.words is None else list(verdict.words),
        "parties": [
            {
                "pid": pid,
                "name": party.name,
                "did": party.did,
                "commitment": None if (claim := read.claims.get(pid)) is None else claim.commitment.hex(),
                "at": None if claim is None else claim.at,
                "claimed": pid in verdict.claimed,
                "signed": pid in verdict.signed,
            }
            for pid, party in enumerate(manifest.roster)
        ],
        "missing": [manifest.roster[pid].name for pid in verdict.missing],
        "output_matches": opened,
    }


def _read(path: Path, what: str, limit: int) -> bytes:
    """A file, or stdin for `-`, of at most `limit` bytes and one more."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(limit + 1)
        with path.expanduser().open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise WrongUsage(
            f"The {what} {path} cannot be read.", why=f"{error.strerror}.", fix="didmpc session receipt"
        ) from error
