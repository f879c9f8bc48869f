"""Queues played out: a clock, stations of servers, and stations of group commit."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable

Then = Callable[[], None]


class Clock:
    """What happens next, in the order of time, and of what was said first where times are the same."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = itertools.count()
        self._due: list[tuple[float, int, Then]] = []

    def after(self, delay: float, then: Then) -> None:
        heapq.heappush(self._due, (self.now + delay, next(self._number), then))

    def run(self, until: float) -> None:
        """Let everything happen that is due before `until`."""
        due = self._due
        while due and due[0][0] <= until:
            self.now, _, then = heapq.heappop(due)
            then()
        self.now = until


class Servers:
    """First come, first served by the next free one of so many servers."""

    def __init__(self, clock: Clock, servers: int = 1) -> None:
        self._clock = clock
        self._free = servers
        self._waiting: deque[tuple[float, Then]] = deque()
        self.busy = 0.0
        """Seconds of work begun, all servers together."""

    def serve(self, service: float, then: Then) -> None:
        if self._free:
            self._free -= 1
            self._begin(service, then)
        else:
            self._waiting.append((service, then))

    def _begin(self, service: float, then: Then) -> None:
        self.busy += service

        def done() -> None:
            if self._waiting:
                self._begin(*self._waiting.popleft())
            else:
                self._free += 1
            then()

        self._clock.after(service, done)


class GroupCommit:
    """Whatever waits goes together once the last group is through, at most `most` at once.

    `commit(size, done)` takes a group of that size on its way and calls `done` when it is durable.
    """

    def __init__(self, commit: Callable[[int, Then], None], most: int) -> None:
        self._commit = commit
        self._most = most
        self._waiting: list[Then] = []
        self._under_way = False
        self.groups = 0
        self.items = 0

    def put(self, then: Then) -> None:
        self._waiting.append(then)
        if not self._under_way:
            self._next()

    def _next(self) -> None:
        group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._under_way = bool(group)
        if not group:
            return
        self.groups += 1
        self.items += len(group)

        def done() -> None:
            for then in group:
                then()
            self._next()

        self._commit(len(group), done)
