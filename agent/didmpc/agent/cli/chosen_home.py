"""The home that this command works with, for whatever has to know it without being told."""

from contextvars import ContextVar

from didmpc.agent.wallet.home import Home

_home: ContextVar[Home | None] = ContextVar("home", default=None)


def choose(home: Home) -> None:
    """From now on `current` is this home."""
    _home.set(home)


def current() -> Home:
    """The home this command named, else the one it would use."""
    return _home.get() or Home.locate()
