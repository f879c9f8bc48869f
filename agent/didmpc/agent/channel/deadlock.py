"""Suspects a deadlock: everyone waits, for messages alone, and none is on its way (session.md, section 6).

Each party says how many bytes its program had sent to and got from each other when it came to wait. Where
these agree on every link nothing can wake anybody: whoever might have been woken since was woken by a message
that its sender sent after its own snapshot, and so must have been woken before. That everyone was heard again
after the snapshots agreed, unchanged, is asked all the same.
"""

from collections.abc import Mapping
from enum import Enum

from didmpc.agent.channel.states import Doing

HEARD_AGAIN = 1.5
"""Seconds after which a heartbeat of everyone has come that was sent after the snapshots agreed."""


class Finding(Enum):
    """What a look at everyone has found."""

    NOTHING = "nothing"
    SUSPECTED = "suspected"
    """For the first time."""
    STANDS = "stands"
    OVER = "over"
    """It was none, or it has resolved itself."""
    LASTS = "lasts"
    """It has lasted for as long as it may."""


def stuck(everyone: Mapping[int, Doing]) -> bool:
    """Whether these states of all parties say that no program can go on."""
    running = {pid: doing.snapshot for pid, doing in everyone.items() if doing.state != "exited"}
    ended = frozenset(everyone.keys() - running.keys())
    if not running:
        return False
    for pid, one in running.items():
        if one is None or not ended <= one.left:  # who has ended may still have bytes on their way to it
            return False
        for other, another in running.items():
            if other != pid and (another is None or one.sent.get(other) != another.got.get(pid)):
                return False
    return True


def awaited_by_all(everyone: Mapping[int, Doing]) -> int | None:
    """The one party for whose messages all others wait: its program may be the one that differs."""
    found = [
        pid
        for pid in everyone
        if all(pid in doing.waits for other, doing in everyone.items() if other != pid)
    ]
    return found[0] if len(found) == 1 and len(everyone) > 2 else None


class Deadlock:
    """One party's suspicion. It ends a run only after `grace` seconds in which nothing has changed."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._states: Mapping[int, Doing] = {}
        self._agreed_at: float | None = None
        self._suspected_at: float | None = None

    @property
    def suspected(self) -> bool:
        """Whether everyone was heard twice, and said the same."""
        return self._suspected_at is not None

    @property
    def states(self) -> Mapping[int, Doing]:
        """What everyone does, as they last agreed; empty where they do not."""
        return self._states

    def seconds_left(self, now: float) -> float:
        """Until the suspicion has lasted for long enough."""
        since = now if self._suspected_at is None else self._suspected_at
        return max(0.0, since + self._grace - now)

    def look(self, everyone: Mapping[int, Doing] | None, heard: float, now: float) -> Finding:
        """`everyone` is None where somebody cannot be asked; `heard` is when the last of them was."""
        if everyone is None or not stuck(everyone):
            return self._nothing()
        if everyone != self._states or self._agreed_at is None:
            before = self._nothing()
            self._states, self._agreed_at = dict(everyone), now
            return before
        if self._suspected_at is None:
            if heard < self._agreed_at + HEARD_AGAIN:
                return Finding.NOTHING
            self._suspected_at = now
            return Finding.SUSPECTED
        return Finding.LASTS if now - self._suspected_at >= self._grace else Finding.STANDS

    def _nothing(self) -> Finding:
        before = self._suspected_at
        self._states, self._agreed_at, self._suspected_at = {}, None, None
        return Finding.NOTHING if before is None else Finding.OVER
