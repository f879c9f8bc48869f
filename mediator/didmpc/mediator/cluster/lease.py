"""How long this node may take itself for alive: until its lease ends, on a clock of its own.

The lease in the database ends later than this: it was written after the moment that is counted from here. So
a node that cannot renew it stops before others may take over, whatever the clocks of the machines say.
"""

import time

SECONDS = 6.0
BEAT = 2.0
"""Seconds between renewals."""
MARGIN = 1.0
"""So much before its end a node stops: for what is on its way from a decision to a socket."""

# It goes on while the machine sleeps, and nobody can set it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    return time.clock_gettime(_CLOCK)


class Lease:
    def __init__(self) -> None:
        self.seconds = SECONDS
        self._until = -1.0

    @property
    def is_held(self) -> bool:
        return now() < self._until

    def renewed(self, asked: float) -> None:
        """It was renewed by a request that was made at `asked`."""
        self._until = asked + self.seconds - MARGIN

    def lost(self) -> None:
        self._until = -1.0
