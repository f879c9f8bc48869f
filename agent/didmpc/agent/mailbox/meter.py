"""What envelopes cost this process: how many were packed or opened, and the seconds in cryptography."""

import time
from types import TracebackType


class Meter:
    """Counts seconds inside `with meter:`; who uses it counts the envelopes."""

    def __init__(self) -> None:
        self.envelopes = 0
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._started
