"""Options that several commands share."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from didmpc.agent.cli.errors import WrongUsage

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
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="What the program may use: 2G, 500M. (default: half of the machine's)",
    ),
]
TimeLimitOption = Annotated[
    str | None,
    typer.Option(
        "--time-limit", metavar="TIME", help="Processor time that it may use: 90s, 10m, 2h. (default: 24h)"
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


_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def size_in_bytes(typed: str | None) -> int | None:
    """500M, 2G. Raises WrongUsage."""
    return _amount(typed, _SIZES, "--memory", "2G")


def time_in_seconds(typed: str | None) -> int | None:
    """90s, 10m, 2h. Raises WrongUsage."""
    return _amount(typed, _TIMES, "--time-limit", "10m")


def _amount(typed: str | None, units: Mapping[str, int], option: str, example: str) -> int | None:
    if typed is None:
        return None
    found = re.fullmatch(rf"([0-9]{{1,15}})({'|'.join(units)})(?:i?B)?", typed.strip(), re.ASCII)
    if found is None:
        raise WrongUsage(f"{option} {typed!r} is not understood.", fix=f"For example:  {option} {example}")
    return int(found[1]) * units[found[2]]


def examples(*lines: str) -> str:
    """The end of a command's help: what one would really type."""
    return "Example:\n\n" + "\n".join(f"  {line}" for line in lines)
