"""The program's standard input, which says when the program waits for it.

A program that asks its person something stands still, loop and all: without a word the others would see it
compute.
"""

import io
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Any

STDIN = 0


class WatchedStdin(io.RawIOBase):
    """Descriptor 0. `says(True)` before a read that has to wait, `says(False)` after it."""

    name = "<stdin>"

    def __init__(self, says: Callable[[bool], None]) -> None:
        super().__init__()
        self._says = says

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def fileno(self) -> int:
        """For programs that read it in their own way."""
        return STDIN

    def isatty(self) -> bool:
        """It is a pipe, as a rule."""
        return os.isatty(STDIN)

    def readinto(self, buffer: Any) -> int | None:
        """As `io.RawIOBase` has it."""
        if select.select([STDIN], [], [], 0)[0]:
            return self._read(buffer)
        self._says(True)
        try:
            return self._read(buffer)
        finally:
            self._says(False)

    @staticmethod
    def _read(buffer: Any) -> int | None:
        try:
            return os.readv(STDIN, [buffer])
        except BlockingIOError:
            return None


def watch(says: Callable[[bool], None]) -> None:
    """Put it in the place of `sys.stdin`, with the same encoding."""
    given = sys.stdin
    if given is None:  # descriptor 0 is closed
        return
    buffered = io.BufferedReader(WatchedStdin(says))
    sys.stdin = io.TextIOWrapper(buffered, encoding=given.encoding, errors=given.errors)


def in_main_thread() -> bool:
    """Whether the program itself reads, not a thread of its own while its loop goes round."""
    return threading.current_thread() is threading.main_thread()
