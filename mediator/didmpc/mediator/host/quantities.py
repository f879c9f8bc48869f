"""How sizes, times and rates are written in settings: `4 MiB`, `7 d`, `1000/s burst 5000`.

What is printed can be read back. Every reader raises ValueError with the words for "it must be ...".
"""

import re

from didmpc.mediator.limits import GIB, KIB, MIB, UNLIMITED, UNLIMITED_RATE, Kind, Limit, Rate

_SIZES = {"": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB}
_TIMES = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MOST_SECONDS = 3650 * 86400.0
_MOST_PER_SECOND = 1e9
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_SIZE = re.compile(rf"{_NUMBER}\s*([A-Za-z]*)")
_RATE = re.compile(rf"{_NUMBER}\s*/\s*s\s+burst\s+{_NUMBER}")
_UNLIMITED = "unlimited"


def read_limit(limit: Limit, given: object) -> int | float | Rate:
    """The value of a limit from what somebody wrote."""
    if given == _UNLIMITED and limit.is_quota:
        return UNLIMITED_RATE if limit.kind is Kind.RATE else UNLIMITED
    match limit.kind:
        case Kind.BYTES:
            return _size(given, int(limit.least), int(limit.most))
        case Kind.COUNT:
            return whole(given, int(limit.least), int(limit.most))
        case Kind.SECONDS:
            return _seconds(given, limit.least)
        case Kind.RATE:
            return _rate(given)


def show_limit(limit: Limit, value: object) -> str:
    """As it would be written."""
    if value in (UNLIMITED, UNLIMITED_RATE):
        return _UNLIMITED
    match value:
        case Rate(per_second, burst):
            return f"{per_second:g}/s burst {burst:g}"
        case int() if limit.kind is Kind.BYTES:
            return show_size(value)
        case int() | float() if limit.kind is Kind.SECONDS:
            return show_seconds(value)
    return f"{value}"


def whole(given: object, least: int, most: int) -> int:
    """A whole number within bounds."""
    text = str(given).replace("_", "")
    if isinstance(given, bool) or not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise ValueError(f"a whole number from {least} to {most}")
    return int(text)


def show_size(value: int) -> str:
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value and value % factor == 0:
            return f"{value // factor} {unit}"
    return f"{value} B"


def show_seconds(value: float) -> str:
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if value >= 2 * factor and value % factor == 0:
            return f"{value / factor:g} {unit}"
    return f"{value:g} s"


def approximate_size(value: float) -> str:
    """Three digits or so, for a person."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:.0f} B"


def approximate_time(value: float) -> str:
    """For a person."""
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{max(0.0, value):.0f} s"


def duration(given: object, least: float, most: float = _MOST_SECONDS) -> float:
    """Seconds, from a number or from `90 s`, `10 min`, `2 h`, `7 d`."""
    found = re.fullmatch(rf"{_NUMBER}\s*(s|min|h|d|)", str(given).strip())
    value = float(found[1]) * _TIMES[found[2]] if found and not isinstance(given, bool) else -1.0
    if not least <= value <= most:
        raise ValueError(
            f"a time from {show_seconds(least)} to {show_seconds(most)}, such as 30 s, 5 min, 2 h or 7 d"
        )
    return value


def _seconds(given: object, least: float) -> float:
    return duration(given, least)


def _size(given: object, least: int, most: int) -> int:
    found = _SIZE.fullmatch(str(given).strip())
    factor = _SIZES.get(found[2].upper()) if found and not isinstance(given, bool) else None
    value = int(float(found[1]) * factor) if found and factor is not None else -1
    if not least <= value <= most:
        upto = f" to {show_size(most)}" if most < UNLIMITED else " upwards"
        raise ValueError(f"a size from {show_size(least)}{upto}, such as 65536, 64 KiB or 4 MiB")
    return value


def _rate(given: object) -> Rate:
    found = _RATE.fullmatch(str(given).strip())
    value = Rate(float(found[1]), float(found[2])) if found else None
    if value is None or not (0 < value.per_second <= _MOST_PER_SECOND and 1 <= value.burst <= 1e9):
        raise ValueError("a rate such as 100/s burst 500, with a burst of at least 1")
    return value
