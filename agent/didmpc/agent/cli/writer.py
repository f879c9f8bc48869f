"""Writing to a terminal in a thread of its own, so that one that is stopped stops nobody who writes."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable

from didmpc.agent.cli.streams import write_all


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
