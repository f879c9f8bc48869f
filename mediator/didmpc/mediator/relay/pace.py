"""How fast one direction of a relay channel may go, where its owner or the operator has said so.

Nothing is held back or dropped: credit is given so fast and no faster.
"""

LEAST_PIECE = 1024
PIECES_PER_SECOND = 8


class Pace:
    """`level` bytes may pass now. It grows by `rate` a second up to `burst`, and falls by what has passed.

    Below zero, too, where an end had credit from before it was bound anew. It outlives the ends, so that
    binding anew gains nothing.
    """

    __slots__ = ("_level", "_rate", "_since", "burst", "piece")

    def __init__(self, rate: int, burst: int, now: float) -> None:
        self._rate = rate
        self.burst = burst
        self._level = float(burst)
        self._since = now
        self.piece = min(burst // 4, max(LEAST_PIECE, rate // PIECES_PER_SECOND))
        """Credit is given in pieces of at least so many bytes."""

    def level(self, now: float) -> int:
        return int(self._at(now))

    def spend(self, count: int, now: float) -> None:
        self._level, self._since = self._at(now) - count, now

    def seconds_until(self, level: int, now: float) -> float:
        return max(0.0, (level - self._at(now)) / self._rate)

    def is_full(self, now: float) -> bool:
        return self._at(now) >= self.burst

    def _at(self, now: float) -> float:
        return min(self.burst, self._level + (now - self._since) * self._rate)
