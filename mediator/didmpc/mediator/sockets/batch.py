"""What is written while one socket is read leaves when all that was read is dealt with.

So each socket that is written to is written to once, however many frames there were: system calls cost more
than all else on the way of a small packet.
"""

from typing import Protocol


class Flushable(Protocol):
    def flush(self) -> None: ...


class Batch:
    """`begin`, write to sockets that are told to `wait_for` the end, `end`. One per event loop."""

    __slots__ = ("_begun", "_waiting")

    def __init__(self) -> None:
        self._begun = False
        self._waiting: list[Flushable] = []

    def begin(self) -> None:
        self._begun = True

    def wait_for_end(self, socket: Flushable) -> None:
        """Have a socket flushed at the end; at once, where nothing is being read."""
        if self._begun:
            self._waiting.append(socket)
        else:
            socket.flush()

    def end(self) -> None:
        self._begun = False
        waiting = self._waiting
        if waiting:
            self._waiting = []
            for socket in waiting:
                socket.flush()
