"""The clock of a run, and what to make of a loop that woke late (session.md, sections 4 and 6)."""

import time
from collections.abc import Callable
from functools import partial

LATE = 1.0
"""A beat this many seconds overdue means that the process, or the machine, was suspended."""

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)

now: Callable[[], float] = time.monotonic if _BOOTTIME is None else partial(time.clock_gettime, _BOOTTIME)
"""Seconds on a clock that goes on while the machine sleeps, where the platform has one."""


class Wakefulness:
    """Says since when we have been awake, so that our own sleep is never taken for a peer's silence.

    After a suspension the sockets may be full of what peers said meanwhile, and timers may run before
    those sockets are read: silence therefore counts from waking up at the earliest.
    """

    def __init__(self, now: float) -> None:
        self._last_beat = now
        self._awake_since = now

    def beat(self, now: float, interval: float) -> bool:
        """Record one turn of a timer of `interval` seconds; true when it came late."""
        late = now - self._last_beat > interval + LATE
        if late:
            self._awake_since = now
        self._last_beat = now
        return late

    def silence(self, last_heard: float, now: float) -> float:
        """For how long we, being awake, have heard nothing."""
        return now - max(last_heard, self._awake_since)
