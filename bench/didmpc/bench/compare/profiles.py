"""How far apart the test hosts are."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """A network in which any two hosts have the same distance; half of it lies on the link of each."""

    name: str
    round_trip: float = 0.0
    """Seconds between two hosts; by way of a third it is twice that."""
    jitter: float = 0.0
    """Seconds: each frame is late by up to that, on each link, and none overtakes another."""
    loss: float = 0.0
    """How many of the frames are lost on each link and in each direction, from 0 to 1."""
    rate: float = 0.0
    """Bits per second of each link in each direction; 0: as fast as the machine."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing is to be added to what the kernel does."""
        return not (self.round_trip or self.jitter or self.loss or self.rate)

    @property
    def link_delay(self) -> float:
        """Seconds that one link adds in one direction."""
        return self.round_trip / 4


MEGABIT = 1e6
PROFILES = {
    profile.name: profile
    for profile in (
        Profile("lan"),
        Profile("metro", round_trip=0.015, rate=100 * MEGABIT),
        Profile("world", round_trip=0.060, rate=100 * MEGABIT),
        Profile("mobile", round_trip=0.050, jitter=0.010, loss=0.005, rate=20 * MEGABIT),
    )
}
