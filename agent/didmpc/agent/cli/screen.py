"""What a person sees: lines on stderr, with colours and a moving status only on a terminal.

Without a terminal every event is one plain line, and rich is not even imported. Names and reasons come
from other people, so nothing reaches the terminal with control characters in it.
"""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from didmpc.agent.cli.live import Area, size_of
from didmpc.agent.cli.text import printable, width

if TYPE_CHECKING:
    from rich.console import Console

    from didmpc.agent.cli.writer import Writer

INDENT = "  "
DESCRIPTOR = 2  # of stderr, where a terminal is drawn on


class Screen:
    """Writes for a person, on stderr."""

    def __init__(self, stream: TextIO, *, terminal: bool) -> None:
        self._stream = stream
        self.terminal = terminal
        self._console: Console | None = None
        self._area = Area(self._painted)
        self._writer: Writer | None = None
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

    # --- lines that move, on terminals only

    def status(self, text: str) -> None:
        """Show what is being waited for, until the next line or `clear_status`."""
        self.panel([(INDENT + printable(text), "")])

    def panel(self, lines: Sequence[tuple[str, str]]) -> None:
        """Show these lines, each with a style, below everything else, until the next line is written."""
        if self.terminal and not self._asking and not (self._writer and self._writer.busy):
            self._put(self._area.draw(lines, self.size()[1]))

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return size_of(DESCRIPTOR)

    def clear_status(self) -> None:
        """Take the moving lines away."""
        if self._area.visible:
            self._put(self._area.erase())

    def typed(self, text: str, *, shown: bool) -> None:
        """The person has typed whole lines below the moving ones; they stay (if `shown`), the others go."""
        if self._area.visible:
            self._put(self._area.erase(typed=text.count("\n")))
            if shown:
                self._put("".join(f"{printable(line)}\n" for line in text.splitlines()))

    def write_aside(self) -> None:
        """From now on, and until `settle`, a terminal that is stopped stops nobody who writes here."""
        if self.terminal and self._writer is None:
            from didmpc.agent.cli.writer import Writer

            self._writer = Writer(DESCRIPTOR)

    async def written(self) -> None:
        """Returns once what was said so far is on the terminal."""
        if self._writer is not None:
            await self._writer.flushed()

    def drain(self, seconds: float) -> None:
        """Wait so long at most until what was said is on the terminal; the event loop stands still."""
        if self._writer is not None:
            self._writer.drain(seconds)

    async def settle(self) -> None:
        """Write what is left; afterwards lines are written at once again."""
        await self.written()
        self._writer = None

    def ask(self, question: str) -> None:
        """Write a question; the answer follows on the same line."""
        self.clear_status()
        self._emit(f"{INDENT}{printable(question)} ")
        self._asking = True

    @property
    def asking(self) -> bool:
        """Whether a question stands on the last line."""
        return self._asking

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
        self.clear_status()
        self._emit(self._painted(text, style, styled) + "\n")

    def _painted(self, text: str, style: str, styled: int = 0) -> str:
        """The text with its style, as this terminal takes it."""
        from rich.text import Text

        line = Text(text)
        line.stylize(style, len(INDENT), len(INDENT) + styled if styled else len(text))
        console = self._rich()
        with console.capture() as capture:
            console.print(line, soft_wrap=True, end="")
        return capture.get()

    def _emit(self, text: str) -> None:
        self.clear_status()
        self._put(text)

    def _put(self, text: str) -> None:
        if self._writer is not None:
            self._writer.write(text)
            return
        # A terminal that went away must not turn a result into a failure.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def _rich(self) -> "Console":
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=io.StringIO(),  # it paints and never writes: that may stop where a terminal does
                force_terminal=True,
                highlight=False,
                markup=False,
                emoji=False,
                no_color=bool(os.environ.get("NO_COLOR")),
            )
        return self._console


def _aligned(row: Sequence[object], widths: Sequence[int]) -> str:
    parts = [f"{cell}{' ' * (widths[i] - width(str(cell)))}" for i, cell in enumerate(row)]
    return "   ".join(parts).rstrip()
