"""Numbers and identifiers as people read them."""

import time
from datetime import datetime


def duration(seconds: float) -> str:
    """6.8 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {smaller_name}" if rest else f"{whole // size} {name}"
    raise AssertionError("a minute or more is caught above")


def size(count: float) -> str:
    """612 bytes, 2.1 kB, 2.1 MB."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} GB"


def milliseconds(value: float) -> str:
    """31 ms, and 0.4 ms where it is that fast."""
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def plural(count: int, one: str, many: str | None = None) -> str:
    """1 party, 3 parties, 1,204 rounds."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listing(names: list[str]) -> str:
    """Bob; Bob and Carol; Bob, Carol and Dan."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def short_did(did: str) -> str:
    """A DID that fits on a line: its method, a beginning and the end."""
    return did if len(did) <= 40 else f"{did[:18]}...{did[-6:]}"


def moment(seconds: float | None) -> str:
    """A time of this year or another, in the local zone."""
    if not seconds:
        return "-"
    then = datetime.fromtimestamp(seconds)
    return then.strftime("%d %b %H:%M" if time.time() - seconds < 300 * 86400 else "%d %b %Y")
