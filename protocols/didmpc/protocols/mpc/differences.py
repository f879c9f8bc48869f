"""What differs between two statements of what is to be computed, in sentences that name it.

Both are what `body` of a `Proposal` or `value` of a `Manifest` gives: JSON objects that were checked. Keys
that only one of them has are its own affair.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN = 60
MOST = 12
# What a proposal and its manifest say of different things.
OWN = frozenset({"expires", "version", "parties", "roster", "host"})
NAMES = {
    "attempt": "the attempt",
    "threshold": "the threshold",
    "free_threshold": "whether the program may set another threshold",
    "mode": "the mode",
    "wire": "the wire form",
    "resume_limit": "how long an unreachable party is waited for",
    "deadlock_grace": "how long a suspected deadlock may last",
}


def differences(one: Mapping[str, Any], other: Mapping[str, Any], in_one: str, in_other: str) -> list[str]:
    """Sentences, none if nothing differs; `in_one` and `in_other` are put behind what each of them says."""
    pair = (in_one, in_other)
    found: list[str] = []
    for key in sorted((one.keys() & other.keys()) - OWN):
        if one[key] != other[key]:
            found.extend(_DETAILS.get(key, _plain)(key, one[key], other[key], pair))
    if "roster" in one and "roster" in other:
        found.extend(_roster(one, other, pair))
        if one["expires"] != other["expires"]:
            found.append(_said("until when it holds", str(one["expires"]), str(other["expires"]), pair))
    rest = len(found) - MOST
    return found if rest <= 0 else [*found[:MOST], f"and {rest} more"]


def program_differences(
    one: Mapping[str, Any], other: Mapping[str, Any], in_one: str, in_other: str
) -> list[str]:
    """How two programs differ, by their descriptions."""
    return list(_program("program", one, other, (in_one, in_other)))


def _plain(key: str, one: Any, other: Any, pair: tuple[str, str]) -> Iterator[str]:
    name = NAMES.get(key, key.replace("_", " "))
    yield _said(name, _shown(one), _shown(other), pair)


def _said(name: str, one: str, other: str, pair: tuple[str, str]) -> str:
    return f"{name} is {one} {pair[0]} and {other} {pair[1]}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return "one" if value else "none"
    said = repr(value) if isinstance(value, str) and (" " in value or not value) else str(value)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}..."


def _arguments(key: str, one: Sequence[str], other: Sequence[str], pair: tuple[str, str]) -> Iterator[str]:
    for number in range(max(len(one), len(other))):
        ours = repr(one[number]) if number < len(one) else "missing"
        theirs = repr(other[number]) if number < len(other) else "missing"
        if ours != theirs:
            yield f"argument {number + 1} is {ours[:SHOWN]} {pair[0]} and {theirs[:SHOWN]} {pair[1]}"


def _program(
    key: str, one: Mapping[str, Any], other: Mapping[str, Any], pair: tuple[str, str]
) -> Iterator[str]:
    if one["entry"] != other["entry"]:
        yield f"the file to start with is {one['entry']} {pair[0]} and {other['entry']} {pair[1]}"
    ours, theirs = ({file["path"]: file for file in each["files"]} for each in (one, other))
    named = False
    for path in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(path), theirs.get(path)
        if a is None or b is None:
            named = True
            yield f"{path} is there only {pair[1] if a is None else pair[0]}"
        elif a["sha256"] != b["sha256"]:
            named = True
            yield (
                f"{path} differs (sha256 {a['sha256'][:12]}..., {a['size']} bytes {pair[0]}; "
                f"{b['sha256'][:12]}..., {b['size']} bytes {pair[1]})"
            )
        elif a != b:
            named = True
            yield f"{path} is described otherwise"
    if one["sha256"] != other["sha256"] and not named:
        yield _said("the program's hash", f"{one['sha256'][:12]}...", f"{other['sha256'][:12]}...", pair)
    for part, name in (("title", "title"), ("lines", "number of lines"), ("imports", "list of imports")):
        if one.get(part) != other.get(part):
            yield _said(f"the program's {name}", _listed(one.get(part)), _listed(other.get(part)), pair)


def _listed(value: Any) -> str:
    return _shown(", ".join(value) if isinstance(value, list | tuple) else value)


def _entries(prefix: str) -> Any:
    def compare(
        key: str, one: Mapping[str, Any], other: Mapping[str, Any], pair: tuple[str, str]
    ) -> Iterator[str]:
        for name in sorted(one.keys() | other.keys()):
            ours, theirs = one.get(name, "not set"), other.get(name, "not set")
            if ours != theirs:
                yield f"{prefix} {name} is {_shown(ours)} {pair[0]} and {_shown(theirs)} {pair[1]}"

    return compare


def _statement(
    key: str, one: Mapping[str, Any], other: Mapping[str, Any], pair: tuple[str, str]
) -> Iterator[str]:
    said = {
        "learns": "what each party learns",
        "asks": "what is asked of each party",
        "roles": "the roles",
        "by": "who says what the program does",
        "parties": "for how many parties the program is",
    }
    for part, name in said.items():
        if one[part] != other[part]:
            if isinstance(one[part], str):
                yield _said(name, _shown(one[part]), _shown(other[part]), pair)
            elif part == "asks":
                yield _said(name, _shown(_asked(one[part])), _shown(_asked(other[part])), pair)
            else:
                yield f"{name} differ" if part == "roles" else f"{name} differs"


def _asked(ask: Mapping[str, Any]) -> str:
    return f"{ask['kind']} {ask['what']}".strip()


def _roster(one: Mapping[str, Any], other: Mapping[str, Any], pair: tuple[str, str]) -> Iterator[str]:
    ours, theirs = one["roster"], other["roster"]
    if len(ours) != len(theirs):
        yield f"there are {len(ours)} parties {pair[0]} and {len(theirs)} {pair[1]}"
    for pid, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a["name"] != b["name"]:
            yield f"party {pid} is {a['name']} {pair[0]} and {b['name']} {pair[1]}"
        elif a["did"] != b["did"]:
            yield f"{a['name']} (party {pid}) is not the same {pair[0]} and {pair[1]}: the DIDs differ"
        elif a["versions"] != b["versions"]:
            yield from _entries(f"{a['name']}'s version of")("versions", a["versions"], b["versions"], pair)
        elif a != b:
            yield f"{a['name']} (party {pid}) is described otherwise"
    if one["host"] != other["host"]:
        yield f"the host is party {one['host']} {pair[0]} and party {other['host']} {pair[1]}"


_DETAILS = {
    "program": _program,
    "arguments": _arguments,
    "options": _entries("MPyC's option"),
    "settings": _entries("MPyC's setting"),
    "versions": _entries("the host's version of"),
    "source": _entries("where the program is from:"),
    "roles": _entries("the place of"),
    "statement": _statement,
}
