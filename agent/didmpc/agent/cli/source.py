"""A stranger's program on a terminal: what could steer it, or deceive the eye, is made visible.

Control characters, and those that change the direction of text or cannot be seen, are shown as escapes.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from didmpc.agent.cli.words import plural, size

WIDEST = 2000  # characters of a line


def harmless(line: str) -> str:
    """One line of a source file, as it may be shown."""
    shown = "".join(_visible(character) for character in line.expandtabs(4)[:WIDEST])
    rest = len(line) - WIDEST
    return shown if rest <= 0 else f"{shown}... ({rest} more characters)"


def _visible(character: str) -> str:
    if character == " " or unicodedata.category(character)[0] not in "CZ":
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def listing(contents: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """All files of a program: a heading, then its lines with their numbers."""
    for file in contents:
        path = harmless(str(file["path"]))
        if not isinstance(file.get("text"), str):
            why = "no text" if "base64" in file else "too large to show"
            yield f"==== {path}  ({size(file['size'])}, {why})"
            yield ""
            continue
        # Not splitlines(): what only looks like the end of a line is shown as what it is.
        lines = file["text"].removesuffix("\n").split("\n")
        yield f"==== {path}  ({plural(len(lines), 'line')}, {size(file['size'])})"
        digits = len(str(len(lines)))
        for number, line in enumerate(lines, start=1):
            yield f"{number:>{digits}}  {harmless(line.removesuffix(chr(13)))}".rstrip()
        yield ""
