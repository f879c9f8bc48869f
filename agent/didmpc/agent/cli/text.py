"""Text as a terminal may get it, and the columns that it takes there."""

import unicodedata

LONGEST = 4000  # characters of one text


def printable(text: object) -> str:
    """The text without control, formatting and unpaired characters: it cannot steer a terminal."""
    whole = str(text)
    kept = (
        whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}... ({len(whole) - LONGEST} more characters)"
    )
    return "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else " " for c in kept).strip()


def width(text: str) -> int:
    """Columns that the text takes: East Asian wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
