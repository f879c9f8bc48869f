"""Links that people pass on: how long they hold, their QR code, and files with them."""

import io
import re
import shutil
import tempfile
from pathlib import Path

from didmpc.agent.cli.errors import WrongUsage
from didmpc.agent.cli.screen import Screen
from didmpc.local.private_files import write_private
from didmpc.protocols.errors import DidmpcError

LONGEST_INVITATION = 65_536
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
WIDEST_QR = 65  # columns


def lifetime(text: str) -> int:
    """The seconds of `30m`, `24h` or `7d`. Raises `WrongUsage`."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text.strip())
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if not 60 <= seconds <= 365 * 86400:
        raise WrongUsage(
            "--expires must be from one minute to a year, like 30m, 24h or 7d.", why=f"It is {text[:40]!r}."
        )
    return seconds


def invitation_text(given: str, command: str = "accept") -> str:
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
            fix=f"Paste the whole link, in quotes:  didmpc {command} 'https://...'",
        ) from problem
    try:
        if len(content) > LONGEST_INVITATION:
            raise ValueError
        return content.decode().strip()
    except ValueError as problem:
        raise DidmpcError(
            f"The file {path} is not an invitation.",
            why="It is too long, or no text.",
            fix="Ask for a new one.",
        ) from problem


def check_writable(file: Path) -> None:
    """Raise `WrongUsage` where a link cannot be written to."""
    path = file.expanduser().absolute()
    why = "It is a folder." if path.is_dir() else why_no_file(path.parent)
    if why:
        raise WrongUsage(f"The link cannot be written to {file}.", why=why, fix="Name another file.")


def why_no_file(folder: Path) -> str:
    """Why no new file can be written in a folder; empty where one can. It is tried, which root needs too."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"\n")
    except OSError as problem:
        return f"{folder}: {problem.strerror}."
    return ""


def write_link(file: Path, url: str) -> None:
    """Write a link to a file of the owner's only. Raises `DidmpcError`."""
    try:
        write_private(file.expanduser().absolute(), url.encode() + b"\n")
    except OSError as problem:
        raise DidmpcError(f"The link cannot be written to {file}.", why=f"{problem.strerror}.") from problem


def show_qr(url: str, screen: Screen, *, forced: bool) -> None:
    """The QR code of a link, where it fits; `forced`: at any rate."""
    import segno

    code = segno.make(url, error="l", micro=False, boost_error=False)
    columns = code.symbol_size(border=2)[0]
    room = min(shutil.get_terminal_size().columns, WIDEST_QR)
    if not forced and columns > room:
        screen.line(
            f"(A QR code of this link needs {columns} columns, here are {room}: --qr shows it anyway.)"
        )
        return
    picture = io.StringIO()
    code.terminal(picture, border=2, compact=True)
    screen.raw(picture.getvalue())
