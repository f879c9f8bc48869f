"""The passphrase of a wallet: from a file of its owner, or typed on a terminal; never from a command line."""

import getpass
import os
import stat
import sys
from pathlib import Path

from didmpc.agent.cli.errors import WrongUsage
from didmpc.protocols.errors import DidmpcError, LocalMisuse

LONGEST = 1024


def read(path: Path) -> str:
    """The first line of a file that only its owner can read."""
    if str(path) == "-":
        raise WrongUsage("A passphrase cannot be read from stdin.", fix="Name a file: --passphrase-file FILE")
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise LocalMisuse(
                    f"Others on this machine may read or change the passphrase file {path}.",
                    why=f"Its mode is {stat.S_IMODE(mode):04o}.",
                    fix=f"chmod 600 {path}",
                )
            content = file.read(LONGEST + 2)
    except OSError as problem:
        raise WrongUsage(
            f"The passphrase file {path} cannot be read.", why=f"{problem.strerror or problem}."
        ) from problem
    line = content.split(b"\n", 1)[0].rstrip(b"\r")
    if not line or len(line) > LONGEST:
        raise LocalMisuse(
            f"The first line of the passphrase file {path} is {'too long' if line else 'empty'}.",
            fix=f"Write the passphrase, at most {LONGEST} bytes, as its first line.",
        )
    try:
        return line.decode()
    except UnicodeDecodeError as problem:
        raise LocalMisuse(f"The passphrase file {path} is not UTF-8 text.") from problem


def ask() -> str:
    """Ask the person at the terminal, without showing what is typed."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise DidmpcError(
            "The keys of this agent are encrypted with a passphrase.",
            why="There is no terminal to ask for it on.",
            fix="didmpc agent start --passphrase-file FILE",
        )
    try:
        return getpass.getpass("  Passphrase of this agent's keys: ", stream=sys.stderr)
    except EOFError as problem:
        raise KeyboardInterrupt from problem
