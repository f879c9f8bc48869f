"""How long a computation will take over real distances, from what it took on one machine.

    time = seconds here + rounds x one way          one way = round trip / 2

A round is a message that cannot be sent before another has come. A party cannot count them: of what runs at
the same time it does not know what waits for what. So the computation runs twice, the second time with a
known delay between the parties, and the difference tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Forecast:
    """`seconds` to expect where a message and its answer take `round_trip` milliseconds."""

    round_trip: float
    seconds: float


def rounds_of(near: float, far: float, one_way: float) -> int:
    """How many messages waited for another: it took `near` seconds here, and `far` at `one_way` seconds."""
    return max(0, round((far - near) / one_way))


def forecast(seconds: float, rounds: int, round_trips: Sequence[float]) -> tuple[Forecast, ...]:
    """For a run that took `seconds` and so many `rounds` here."""
    return tuple(Forecast(each, seconds + rounds * each / 2000) for each in round_trips)
