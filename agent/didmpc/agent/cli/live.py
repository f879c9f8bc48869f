"""The lines at the bottom of a terminal that are drawn anew in place.

The cursor rests on the line below them, so what a person types there stays as it is: it is saved and put
back (DECSC, DECRC) around each drawing.
"""

import asyncio
import contextlib
import os
import queue
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from didmpc.agent.cli.streams import write_all

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


def _finish(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


class Writer:
    """Writes text to a terminal in a thread: one that is stopped stops nobody but this."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._work: queue.SimpleQueue[bytes | Callable[[], None]] = queue.SimpleQueue()
        self._given = self._taken = 0
        threading.Thread(target=self._write_forever, daemon=True, name="terminal").start()

    @property
    def busy(self) -> bool:
        """Whether something waits to be written: then nothing is drawn that may as well be left out."""
        return self._given != self._taken

    def write(self, text: str) -> None:
        self._given += 1
        self._work.put(text.encode(errors="replace"))

    async def flushed(self) -> None:
        """Returns once all that was given so far is written."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_finish, done)

        self._work.put(tell)
        await done

    def drain(self, seconds: float) -> None:
        """Wait so long at most until all is written."""
        done = threading.Event()
        self._work.put(done.set)
        done.wait(seconds)

    def _write_forever(self) -> None:
        while True:
            item = self._work.get()
            if not isinstance(item, bytes):
                item()
                continue
            with contextlib.suppress(OSError):  # a terminal that went away turns no result into a failure
                write_all(self._descriptor, item)
            self._taken += 1
