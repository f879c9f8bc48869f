"""JSON of a peer, read so that no two readers can understand it differently (specification, section 1)."""

from __future__ import annotations

import json
from typing import Any


def read_object(text: bytes) -> dict[str, Any]:
    """One object in UTF-8. ValueError for anything else, a member that stands twice, NaN and Infinity."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_no_twice, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a member stands twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
