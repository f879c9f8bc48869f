"""Versions that must fit together, checked before anything runs.

Parties whose MPyC differs take other rounds; arrays of another numpy may not have the same types. A package
that a program needs must be there. Python and the rest are shown, and may differ.
"""

from collections.abc import Mapping, Sequence

from didmpc.protocols.errors import DidmpcError

NUMPY = "numpy"


def check_versions(parties: Sequence[tuple[str, Mapping[str, str]]], imports: Sequence[str] = ()) -> None:
    """Compare the versions of all parties, by name, with those of the first; raises `DidmpcError`.

    `imports` are the modules that the program needs.
    """
    (first, ours), *others = parties
    for name, theirs in others:
        problem = _difference(first, ours, name, theirs, imports)
        if problem is not None:
            raise problem


def _difference(
    first: str, ours: Mapping[str, str], name: str, theirs: Mapping[str, str], imports: Sequence[str]
) -> DidmpcError | None:
    if _release(ours.get("mpyc"), 2) != _release(theirs.get("mpyc"), 2):
        return DidmpcError(
            _differ("MPyC", first, ours.get("mpyc"), name, theirs.get("mpyc")),
            why="Parties with different MPyC releases cannot compute together.",
            fix=f"Install the same at {name}:  pip install 'mpyc=={ours.get('mpyc', '')}'",
        )
    if NUMPY in imports and _release(ours.get(NUMPY), 1) != _release(theirs.get(NUMPY), 1):
        lacking, version = (first, theirs.get(NUMPY)) if NUMPY not in ours else (name, ours.get(NUMPY))
        return DidmpcError(
            _differ("numpy", first, ours.get(NUMPY), name, theirs.get(NUMPY)),
            why="The program uses arrays, which another major release of numpy may read otherwise.",
            fix=f"Install the same at {lacking}:  pip install 'numpy=={version}'",
        )
    return None


def _differ(package: str, first: str, ours: str | None, name: str, theirs: str | None) -> str:
    none = "not installed"
    return f"The versions differ: {package} is {ours or none} at {first} and {theirs or none} at {name}."


def _release(version: str | None, parts: int) -> tuple[str, ...]:
    return tuple((version or "").split(".")[:parts])
