"""The CONFIG frame: who we are in this run, and what the parties agreed on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from didmpc.agent.program.wire import WireError
from didmpc.protocols.mpc.terms import SETTINGS

OPTIONS: Mapping[str, type] = {
    "bit_length": int,
    "sec_param": int,
    "no_async": bool,
    "no_barrier": bool,
    "no_prss": bool,
    "mix32_64bit": bool,
}
"""MPyC's own settings that the manifest fixes for all parties."""
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
MAX_PARTIES = 1000


MESSAGE_COSTS = 256
"""What Python needs for a message beside its bytes."""
LEAST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may make us keep for labels that the program has not asked for yet.

    A party that is ahead of us is no fault, and holding its bytes back can deadlock honest parties
    (session.md, 4): so the limits are wide, and beyond them the run ends.
    """

    messages: int = 500_000
    octets: int = 512 * 1024 * 1024
    """Each message counts as its bytes and `MESSAGE_COSTS`. A message may be announced with so many bytes."""

    @classmethod
    def among(cls, peers: int, memory: int) -> Self:
        """So much for each of `peers` that all together come nowhere near `memory` bytes.

        A quarter for what nobody asked for and a quarter for messages of which a part has come.
        """
        return cls(octets=max(LEAST, min(cls().octets, memory // 4 // max(1, peers))))


@dataclass(frozen=True, slots=True)
class Config:
    """The agreed frame of one run."""

    pid: int
    m: int
    threshold: int
    entry: str
    arguments: tuple[str, ...]
    names: tuple[str, ...]
    options: Mapping[str, int | bool]
    settings: Mapping[str, str] = field(default_factory=dict)
    allow_threshold_change: bool = False
    coalesce: bool = True
    log_level: str = "warning"
    delay: float = 0.0
    """Seconds that a rehearsal puts between parties, each way."""
    prelude_silence: int = 180
    """Seconds without a byte in the midst of a party's prelude, after which the run ends."""
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Config":
        """Check and take the channel process's word. Raises WireError."""
        m = _integer(value, "m", 1, MAX_PARTIES)
        names = _strings(value, "names")
        if len(names) != m:
            raise WireError(f"CONFIG has {len(names)} names for {m} parties.")
        options = value.get("options", {})
        if not isinstance(options, dict):
            raise WireError("CONFIG's options are no object.")
        for name, setting in options.items():
            if name not in OPTIONS or type(setting) is not OPTIONS[name]:
                raise WireError(f"CONFIG has the unknown MPyC option {name!r} = {setting!r}.")
        level = value.get("log_level", "warning")
        if level not in LOG_LEVELS:
            raise WireError(f"CONFIG has the unknown log level {level!r}.")
        limits = value.get("limits", {})
        if not isinstance(limits, dict):
            raise WireError("CONFIG's limits are no object.")
        default = Limits.among(m - 1, _memory())
        return cls(
            pid=_integer(value, "pid", 0, m - 1),
            m=m,
            threshold=_integer(value, "threshold", 0, (m - 1) // 2),
            entry=_entry(value),
            arguments=_strings(value, "arguments"),
            names=names,
            options=options,
            settings=_settings(value),
            allow_threshold_change=value.get("allow_threshold_change") is True,
            coalesce=value.get("coalesce") is not False,
            log_level=level,
            delay=_integer({"delay_ms": 0, **value}, "delay_ms", 0, 1000) / 1000,
            prelude_silence=_integer({"prelude_silence": 180, **value}, "prelude_silence", 1, 3600),
            limits=Limits(
                messages=_integer({"messages": default.messages} | limits, "messages", 1, 1 << 32),
                octets=_integer({"octets": default.octets} | limits, "octets", 1, 1 << 40),
            ),
        )


def _memory() -> int:
    """What this process may use: all that its sandbox gives it, else half of the machine's."""
    try:
        import resource  # noqa: PLC0415  not on every platform

        bound = resource.getrlimit(resource.RLIMIT_AS)[0]
        if bound != resource.RLIM_INFINITY:
            return bound
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ImportError, ValueError, OSError, AttributeError):
        return 2 * 1024**3


def _settings(value: Mapping[str, Any]) -> dict[str, str]:
    settings = value.get("settings", {})
    if not isinstance(settings, dict) or not settings.items() <= {(name, "1") for name in SETTINGS}:
        raise WireError(f"CONFIG's settings may be {' and '.join(SETTINGS)}, each 1.")
    return settings


def _integer(value: Mapping[str, Any], key: str, low: int, high: int) -> int:
    number = value.get(key)
    if type(number) is not int or not low <= number <= high:
        raise WireError(f"CONFIG's {key} must be a whole number from {low} to {high}, not {number!r}.")
    return number


def _strings(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    items = value.get(key)
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise WireError(f"CONFIG's {key} must be a list of strings.")
    return tuple(items)


def _entry(value: Mapping[str, Any]) -> str:
    entry = value.get("entry")
    if not isinstance(entry, str) or not entry or entry.startswith(("/", "-")) or ".." in entry.split("/"):
        raise WireError(f"CONFIG's entry {entry!r} is no path within the working directory.")
    return entry
