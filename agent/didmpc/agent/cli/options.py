"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home", metavar="DIR", help="The agent's folder. (default: $DIDMPC_HOME, else the platform's)"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")]
JsonLinesOption = Annotated[
    bool,
    typer.Option(
        "--json-lines",
        help="Every event as a JSON object on a line of its own; the last is what --json prints.",
    ),
]
WaitOption = Annotated[
    int | None,
    typer.Option("--wait", metavar="SECONDS", help="How long to wait for the others. (default: 600)"),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Agree without being asked.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        help="Keep the files that the program writes in this folder, which is new or empty.",
    ),
]
ReceiptOption = Annotated[
    Path | None,
    typer.Option(
        "--receipt",
        metavar="FILE",
        help="Put the receipt of the run there, too. (default: in the agent's folder, receipts/)",
    ),
]
NoPrssOption = Annotated[
    bool,
    typer.Option(
        "--no-prss",
        help="Without pseudorandom secret sharing, whose keys grow fast beyond 15 parties; more rounds.",
    ),
]
NoPrivacyOption = Annotated[
    bool,
    typer.Option(
        "--no-privacy",
        help="Agree to threshold 0, as with two parties: each can read what the others put in.",
    ),
]
NoSandboxOption = Annotated[
    bool,
    typer.Option(
        "--no-sandbox",
        help="Let the program run as you, with all your files and the network. (default: locked in)",
    ),
]
InputOption = Annotated[
    Path | None,
    typer.Option(
        "--input", metavar="FILE", help="Your private input: the program reads it in place of stdin."
    ),
]


def examples(*lines: str) -> str:
    """The end of a command's help: what one would really type."""
    return "Example:\n\n" + "\n".join(f"  {line}" for line in lines)
