"""The last hour of a mediator in figures, for the plots of the operator's page."""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from didmpc.mediator.operator.control import Json
from didmpc.protocols.errors import DidmpcError

EVERY = 5.0
"""Seconds between samples: to count what is stored looks at each mailbox."""
KEPT = 720

log = logging.getLogger(__name__)

Read = Callable[[], Awaitable[tuple[Mapping[str, float], Mapping[str, float]]]]
"""What has been counted since the start, and what is so now; always under the same names."""


class History:
    """Samples at equal distances: of what is counted, how much a second; of all else, what it was."""

    def __init__(self, read: Read, *, every: float = EVERY, kept: int = KEPT) -> None:
        self._read = read
        self._every = every
        self._names: tuple[str, ...] = ()
        self._samples: deque[list[float]] = deque(maxlen=kept)
        self._taken = 0
        self._counted: Mapping[str, float] = {}
        self._at = 0.0

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            try:
                await self.sample(time.time(), time.monotonic())
            except DidmpcError as problem:
                log.error("what is stored cannot be counted: %s", problem)
            await asyncio.sleep(self._every)

    async def sample(self, at: float, now: float) -> None:
        """Take one: `at` by the wall clock, `now` by one that never jumps. The first one gives no rates."""
        counted, current = await self._read()
        before, elapsed = self._counted, now - self._at
        self._counted, self._at = counted, now
        if not before or elapsed <= 0:
            return
        rates = {name: max(0.0, value - before[name]) / elapsed for name, value in counted.items()}
        values = {**rates, **current}
        self._names = tuple(values)
        self._samples.append([round(at, 1), *(round(value, 3) for value in values.values())])
        self._taken += 1

    def since(self, number: int) -> Json:
        """What was taken since `number` samples had been taken, and how many were taken in all."""
        missed = self._taken - number if 0 <= number <= self._taken else self._taken
        wanted = min(missed, len(self._samples))
        samples = list(self._samples)[len(self._samples) - wanted :]
        return {"every": self._every, "names": self._names, "taken": self._taken, "samples": samples}


def memory_bytes() -> int:
    """Of this process, resident; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
