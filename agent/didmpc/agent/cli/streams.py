"""Our stdin and stdout as bytes, read and written so that nothing else has to wait for them.

The descriptors are shared with the shell, so their blocking mode is never changed.
"""

import asyncio
import contextlib
import os
import queue
import select
import threading

CHUNK = 65_536


class Stdin:
    """Bytes from a descriptor: a terminal or pipe when it has some, a file or the null device at once."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._ahead = b""
        self._ended = False

    @property
    def terminal(self) -> bool:
        """Whether a person types here."""
        return os.isatty(self._descriptor)

    @property
    def echoes(self) -> bool | None:
        """Whether the terminal shows what is typed; None where there is no terminal."""
        import termios

        try:
            return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)
        except (termios.error, OSError):
            return None

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        return await self._more()

    async def line(self) -> str | None:
        """One line without its end; None at the end of the input. What follows it stays for `read`."""
        while b"\n" not in self._ahead:
            more = await self._more()
            if not more:
                return None
            self._ahead += more
        line, self._ahead = self._ahead.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def forget_what_was_typed(self) -> None:
        """Drop what was typed before a question was asked: it cannot be its answer."""
        import termios

        with contextlib.suppress(termios.error, OSError):
            termios.tcflush(self._descriptor, termios.TCIFLUSH)

    async def _more(self) -> bytes:
        while not self._ended:
            await self._wait_until_readable()
            try:
                data = os.read(self._descriptor, CHUNK)
            except BlockingIOError:
                continue
            except OSError:  # a terminal that hung up, a closed descriptor, a folder
                data = b""
            self._ended = not data
            return data
        return b""

    async def _wait_until_readable(self) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, readable.set)
        except OSError:  # epoll refuses what never blocks: files, the null device
            return
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._descriptor)


class Output:
    """Writes bytes to a descriptor in a thread, so that a stopped reader does not stop Ctrl-C."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._terminal = os.isatty(descriptor)
        self._work: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self.at_line_start = True
        self.closed = False
        # A daemon thread: one that is stuck in a write must not keep the command from ending.
        threading.Thread(target=self._write_forever, daemon=True, name=f"output-{descriptor}").start()

    async def write(self, data: bytes) -> None:
        """Returns when all of it was taken; `closed` is true once nobody reads any more."""
        if data and not self.closed:
            done: asyncio.Future[None] = self._loop.create_future()
            ends_line = not self._terminal or data.endswith(b"\n")
            self.at_line_start = self.at_line_start and ends_line  # it may be there before we hear of it
            self._work.put((data, done))
            await done
            self.at_line_start = ends_line

    def _write_forever(self) -> None:
        while True:
            data, done = self._work.get()
            try:
                write_all(self._descriptor, data)
            except OSError:
                self.closed = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(_finish, done)


class Captured:
    """Keeps what a program writes, up to a limit."""

    LIMIT = 16 * 1024 * 1024

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.truncated = False
        self.at_line_start = True
        self.closed = False

    async def write(self, data: bytes) -> None:
        kept = data[: self.LIMIT - self._size]
        self.truncated = self.truncated or len(kept) < len(data)
        self._parts.append(kept)
        self._size += len(kept)

    @property
    def text(self) -> str:
        return b"".join(self._parts).decode(errors="replace")


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody else made it non-blocking
            select.select([], [descriptor], [])


def _finish(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)
