"""The lines at the bottom of a terminal that are drawn anew in place.

The cursor rests on the line below them, so what a person types there stays as it is: it is saved and put
back (DECSC, DECRC) around each drawing.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SAVE, RESTORE = "\x1b7", "\x1b8"
TO_END_OF_LINE, TO_END_OF_SCREEN = "\x1b[K", "\x1b[J"
ROOM_LEFT = 2
"""Lines of a terminal that are never drawn on."""

Styled = tuple[str, str]


def size_of(descriptor: int) -> tuple[int, int]:
    """Columns and rows of a terminal."""
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        found = os.terminal_size((0, 0))
    known = shutil.get_terminal_size()  # what the environment says, for terminals that do not tell
    return found.columns or known.columns, found.lines or known.lines


@dataclass(slots=True)
class Area:
    """What is drawn now; methods return what has to be written. `paint` styles one line."""

    paint: Callable[[str, str], str]
    _shown: list[Styled] = field(default_factory=list)

    @property
    def visible(self) -> bool:
        return bool(self._shown)

    def draw(self, lines: Sequence[Styled], rows: int) -> str:
        """Show these lines, each shorter than a row, in place of what is shown."""
        wanted = list(lines)[: max(0, rows - ROOM_LEFT)]
        if wanted == self._shown:
            return ""
        if len(wanted) != len(self._shown):
            return self.erase() + self._anew(wanted)
        self._shown = wanted
        painted = (f"{self.paint(text, style)}{TO_END_OF_LINE}\x1b[1B\r" for text, style in wanted)
        return "".join([SAVE, f"\x1b[{len(wanted)}A\r", *painted, RESTORE])

    def erase(self, typed: int = 0) -> str:
        """Take them away, and so many lines below that were typed; the cursor is then where they began.

        A terminal that became narrower may have broken them into more rows, or not: never erased is what
        stood above.
        """
        if not self._shown:
            return ""
        height = typed + len(self._shown)
        self._shown = []
        return f"\r\x1b[{height}A{TO_END_OF_SCREEN}"

    def _anew(self, lines: list[Styled]) -> str:
        self._shown = lines
        return "".join(f"\r{self.paint(text, style)}{TO_END_OF_LINE}\n" for text, style in lines)
