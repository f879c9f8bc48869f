"""What a person sees: lines on stderr, with colours and a moving status only on a terminal.

Without a terminal every event is one plain line, and rich is not even imported. Names and reasons come
from other people, so nothing reaches the terminal with control characters in it.
"""

import contextlib
import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

INDENT = "  "
LONGEST = 4000  # characters of one text


def printable(text: object) -> str:
    """The text without control, formatting and unpaired characters: it cannot steer a terminal."""
    whole = str(text)
    kept = (
        whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}... ({len(whole) - LONGEST} more characters)"
    )
    return "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else " " for c in kept).strip()


def width(text: str) -> int:
    """Columns that the text takes: East Asian wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


class Screen:
    """Writes for a person, on stderr."""

    def __init__(self, stream: TextIO, *, terminal: bool) -> None:
        self._stream = stream
        self.terminal = terminal
        self._console: Console | None = None
        self._status: Status | None = None
        self._asking = False

    @classmethod
    def standard(cls) -> "Screen":
        return cls(sys.stderr, terminal=sys.stderr.isatty())

    # --- lines

    def line(self, text: str = "", style: str = "") -> None:
        """One line of text."""
        self._write(INDENT + printable(text) if text else "", style)

    def error(self, what: str, why: str = "", fix: str = "") -> None:
        """What happened, why, and what to type next."""
        self.clear_status()
        self.line(what, "bold red")
        if why:
            self.line(why)
        if fix:
            self.line(fix, "bold")

    def facts(self, rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Named facts below each other, their values in columns."""
        self.table((), [(name, *values) for name, values in rows], first_style="bold")

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[object]], *, first_style: str = ""
    ) -> None:
        """Aligned columns."""
        cells = [[printable(cell) for cell in row] for row in rows]
        everything = [[*header], *cells] if header else cells
        columns = max((len(row) for row in everything), default=0)
        widths = [
            max((width(row[i]) for row in everything if i < len(row)), default=0) for i in range(columns)
        ]
        if header:
            self._write(INDENT + _aligned(header, widths), "bold")
        for row in cells:
            self._write(
                INDENT + _aligned(row, widths), "" if header else first_style, width(row[0]) if row else 0
            )

    def raw(self, text: str) -> None:
        """Text that is already laid out (a QR code)."""
        self.clear_status()
        self._emit(text)

    # --- a line that moves, on terminals only

    def status(self, text: str) -> None:
        """Show what is being waited for, until the next line or `clear_status`."""
        if not self.terminal:
            return
        if self._status is None:
            self._status = self._rich().status("", spinner="dots")
            self._status.start()
        from rich.text import Text

        self._status.update(Text(printable(text)))

    def clear_status(self) -> None:
        """Take the moving line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def ask(self, question: str) -> None:
        """Write a question; the answer follows on the same line."""
        self.clear_status()
        self._emit(f"{INDENT}{printable(question)} ")
        self._asking = True

    def answered(self) -> None:
        """The person ended the line of the question."""
        self._asking = False

    # --- within

    def _write(self, text: str, style: str, styled: int = 0) -> None:
        """One laid out line; `style` holds for all of it, or for as many columns as `styled` says."""
        if self._asking:  # a question nobody answered stands on this line
            self._asking = False
            self._emit("\n")
        if not self.terminal:
            self._emit(text + "\n")
            return
        from rich.text import Text

        line = Text(text)
        line.stylize(style, len(INDENT), len(INDENT) + styled if styled else len(text))
        with contextlib.suppress(OSError, ValueError):
            self._rich().print(line, soft_wrap=True)

    def _emit(self, text: str) -> None:
        # A terminal that went away must not turn a result into a failure.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def _rich(self) -> "Console":
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=self._stream,
                highlight=False,
                markup=False,
                emoji=False,
                no_color=bool(os.environ.get("NO_COLOR")),
            )
        return self._console


def _aligned(row: Sequence[object], widths: Sequence[int]) -> str:
    parts = [f"{cell}{' ' * (widths[i] - width(str(cell)))}" for i, cell in enumerate(row)]
    return "   ".join(parts).rstrip()
