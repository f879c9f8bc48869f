"""Which program arguments are MPyC's own, and refused.

MPyC's parser takes its options out of the command line before a program sees them. Here it sees an empty
command line: who takes part, and the threshold, come from what the parties agreed. A program that ran
under MPyC never saw the options below, so no argument of its own is lost by refusing them; abbreviations
and lower-case letters, which MPyC's parser would have eaten, belong to the program.
"""

import re
from collections.abc import Sequence

from didmpc.protocols.errors import LocalMisuse

_PARTIES = "Who takes part is agreed between the agents: use `didmpc run PROGRAM --with NAME,...`."
_THRESHOLD = "Use `didmpc run PROGRAM --threshold T` (before the program's arguments, which follow `--`)."
_NETWORK = "The parties are connected through their mediators; no address, port or certificate is needed."

# spelled in one of these ways, whether its value is glued on (-M3, --index=1) or follows
_REFUSED = (
    (re.compile(r"-M(\d+)?$"), "-M", _PARTIES),
    (re.compile(r"-I(\d+)?$"), "-I", _PARTIES),
    (re.compile(r"--index(=.*)?$"), "--index", _PARTIES),
    (re.compile(r"-P(.*:\d*)?$"), "-P", _NETWORK),
    (re.compile(r"-B(\d+)?$"), "-B", _NETWORK),
    (re.compile(r"--base-port(=.*)?$"), "--base-port", _NETWORK),
    (re.compile(r"--ssl$"), "--ssl", _NETWORK),
    (re.compile(r"-C(.*\.ini)?$"), "-C", _NETWORK),
    (re.compile(r"-T(\d+)?$"), "-T", _THRESHOLD),
    (re.compile(r"--threshold=\d+$"), "--threshold", _THRESHOLD),
)
# a program may well have options of these names: they are MPyC's when what follows can be MPyC's value
_REFUSED_BEFORE = (
    (re.compile(r"--threshold$"), re.compile(r"\d+$"), "--threshold", _THRESHOLD),
    (re.compile(r"--config$"), re.compile(r".*\.ini$"), "--config", _NETWORK),
    (re.compile(r"--config=.*\.ini$"), re.compile(""), "--config", _NETWORK),
)


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse options with which MPyC would choose parties, threshold or network. Raises LocalMisuse."""
    for position, argument in enumerate(arguments):
        if argument == "--":
            return
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        for spelling, option, fix in _REFUSED:
            if spelling.match(argument):
                raise _refusal(option, fix)
        for spelling, value, option, fix in _REFUSED_BEFORE:
            if spelling.match(argument) and value.match(following):
                raise _refusal(option, fix)


def _refusal(option: str, fix: str) -> LocalMisuse:
    return LocalMisuse(
        f"The program argument {option} is an option of MPyC, which is not used here.",
        why="Parties, threshold and connections are what the parties agreed on.",
        fix=fix,
    )
