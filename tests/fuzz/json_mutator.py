"""Changes JSON value by value, so that what comes out still gets past the outer checks."""

import json
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 63, 64, 65, 255, 256, 1024, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**63),
    10**30, 10**400, 0.5, -0.0, 1e308, "", "a", "0", "true", "none", "all", "right", "*", "#", "#key-1", "\0",
    "\n", "é", "\ud800", "\U0001f600", "x" * 300, "x" * 9000, "AA", "eyJ9", "did:", "did:peer:4zQm",
    "did:peer:2.E", "did:key:z6Mk", "https://a.example", "http://[", "../..", [], {}, [None], [[]], [{}],
    {"": None}, {"id": 1}, [1, 2], ["a", "a"],
)  # fmt: skip
"""What breaks readers: borders of numbers, odd texts, the wrong type."""

MOST_DEPTH = 80


def mutate(data: bytes, max_size: int, seed: int) -> bytes | None:
    """A changed copy; None where this is no JSON (or would be too large)."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    chance = random.Random(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        value = _changed(value, chance)
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=chance.random() < 0.8)
        changed = text.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None
    if chance.random() < 0.02:  # a name twice, which no value can hold
        changed = changed.replace(b"{", b'{"id":"twice",', 1)
    return changed if len(changed) <= max_size else None


def _changed(value: Any, chance: random.Random) -> Any:
    places = list(_places(value, ()))
    path = chance.choice(places)
    if not path:
        return _other(value, chance, value)
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    last = path[-1]
    match chance.randrange(8):
        case 0:
            del holder[last]
        case 1 if isinstance(holder, list):
            holder.insert(last, holder[last])
        case 1:
            name = chance.choice(
                [step for place in places for step in place if isinstance(step, str)] or ["a"]
            )
            holder[name] = holder.pop(last)
        case 2:
            holder[last] = _at(value, chance.choice(places))  # the same thing elsewhere
            if _is_cyclic(value):
                holder[last] = None
        case _:
            holder[last] = _other(holder[last], chance, value)
    return value


def _places(value: Any, path: tuple[Any, ...]) -> Any:
    yield path
    if len(path) < 12:
        steps = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for step, item in steps:
            yield from _places(item, (*path, step))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def _is_cyclic(value: Any) -> bool:
    try:
        json.dumps(value)
    except (ValueError, RecursionError):
        return True
    return False


def _other(value: Any, chance: random.Random, whole: Any) -> Any:
    kind = chance.randrange(6)
    if isinstance(value, str) and kind < 3 and value:
        at = chance.randrange(len(value))
        match chance.randrange(4):
            case 0:
                return value[:at]
            case 1:
                return value[:at] + chance.choice(value) + value[at + 1 :]
            case 2:
                return value[:at] + chance.choice("\0 .:#?/*{}=-_zé\ud800") + value[at:]
            case _:
                return value * 2
    if isinstance(value, int) and kind < 2:
        return value + chance.choice((1, -1, 256, -256))
    if kind == 3:
        return [value] if chance.random() < 0.5 else {"a": value}
    if kind == 4 and chance.random() < 0.1:
        for _ in range(MOST_DEPTH):
            value = [value]
        return value
    return json.loads(json.dumps(chance.choice(VALUES)))
