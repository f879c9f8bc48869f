"""What could wake a program that waits: a timer, what somebody types, a thread, and not messages alone.

A deadlock is suspected only where nothing but a message could wake anybody (session.md, section 6), so what
cannot be told here counts as something that could.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import thread as pools
from types import CodeType, FrameType
from typing import Any

BUSY = 0.2
"""The share of a processor beyond which a program computes, even if its loop goes round."""
_MOMENT = 0.5  # seconds that a timer may be late
_DEEP = 1000
# Ways of asyncio to hear from elsewhere than the parties. What they wait for is not looked into.
_ELSEWHERE = (
    "subprocess_exec", "subprocess_shell", "create_connection", "create_server", "create_unix_connection",
    "create_unix_server", "create_datagram_endpoint", "connect_accepted_socket", "add_signal_handler",
    "sock_recv", "sock_recv_into", "sock_accept", "sock_connect",
)  # fmt: skip


class Wakers:
    """Watches the loop of a program from within. Ask `names` at each beat, when nothing was received."""

    def __init__(self, loop: asyncio.AbstractEventLoop, spins: Collection[CodeType]) -> None:
        """`spins` are the functions of MPyC that wait by going round the loop again and again."""
        self._loop = loop
        self._spins = frozenset(spins)
        self.later = loop.call_later
        """A timer that does not count."""
        self._timers: list[asyncio.TimerHandle] = []
        self._readers: set[Any] = set()
        self._pipes: list[asyncio.BaseTransport] = []
        self._elsewhere = False
        self._looked_at = time.monotonic()
        self._used = time.process_time()
        self.typing = False
        """Whether a thread of the program reads its standard input."""
        self._watch_loop()

    def _watch_loop(self) -> None:
        loop: Any = self._loop
        call_later, call_at = self.later, loop.call_at
        add_reader, remove_reader, read_pipe = loop.add_reader, loop.remove_reader, loop.connect_read_pipe

        def later(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
            return self._keep(call_later(*arguments, **options))

        def at(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
            return self._keep(call_at(*arguments, **options))

        def reader(fd: Any, *arguments: Any) -> Any:
            self._readers.add(fd)
            return add_reader(fd, *arguments)

        def no_reader(fd: Any) -> Any:
            self._readers.discard(fd)
            return remove_reader(fd)

        async def pipe(*arguments: Any, **options: Any) -> Any:
            transport, protocol = await read_pipe(*arguments, **options)
            self._pipes.append(transport)
            return transport, protocol

        loop.call_later, loop.call_at, loop.add_reader, loop.remove_reader = later, at, reader, no_reader
        loop.connect_read_pipe = pipe
        for name in _ELSEWHERE:
            if (original := getattr(loop, name, None)) is not None:
                setattr(loop, name, self._noting(original))

    def _noting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **options: Any) -> Any:
            self._elsewhere = True
            return original(*arguments, **options)

        return noted

    def _keep(self, handle: asyncio.TimerHandle) -> asyncio.TimerHandle:
        self._timers.append(handle)
        return handle

    def names(self) -> list[str]:
        """What else than a message could wake the program or change what it waits for."""
        now = self._loop.time()
        self._timers = [each for each in self._timers if not each.cancelled() and each.when() > now - _MOMENT]
        self._pipes = [each for each in self._pipes if not each.is_closing()]
        found = {
            "timer": bool(self._timers) or _alarm_is_set(),
            "stdin": bool(self._pipes or self._readers or self.typing),
            "thread": _a_thread_works(),
            "other": self._elsewhere,
            "computation": self._computes(),
        }
        return [name for name, there in found.items() if there]

    def _computes(self) -> bool:
        """Whether a task is about to go on, other than to wait in MPyC; or something else keeps us busy."""
        now, used = time.monotonic(), time.process_time()
        busy = used - self._used > BUSY * (now - self._looked_at)
        self._looked_at, self._used = now, used
        spinning = False
        for task in asyncio.all_tasks(self._loop):
            if getattr(task, "_fut_waiter", None) is None:
                if not any(frame.f_code in self._spins for frame in _frames(task.get_coro())):
                    return True
                spinning = True
        return busy and not spinning

    def places(self, folder: str, entry: str) -> list[str]:
        """Where in the program's own files its tasks wait, at most three of them."""
        found: list[str] = []
        for task in asyncio.all_tasks(self._loop):
            own = [
                frame
                for frame in _frames(task.get_coro())
                if frame.f_code.co_filename == entry or frame.f_code.co_filename.startswith(folder)
            ]
            if own:
                name = own[-1].f_code.co_filename.rpartition("/")[2]
                place = f"{name}, line {own[-1].f_lineno}"
                if place not in found:
                    found.append(place)
        return sorted(found)[:3]


def _frames(coroutine: Any) -> Iterator[FrameType]:
    """From a task's coroutine down to what it awaits now."""
    for _ in range(_DEEP):
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _alarm_is_set() -> bool:
    return any(signal.getitimer(which)[0] > 0 for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL))


def _a_thread_works() -> bool:
    """A worker of a pool that waits for work is asleep; of any other thread nothing is known."""
    running = sys._current_frames()
    for thread in threading.enumerate():
        frame = running.get(thread.ident or 0)
        asleep = frame is not None and frame.f_code is pools._worker.__code__
        if thread is not threading.main_thread() and not asleep:
            return True
    return False
