"""The next commands after a run that failed, by what ended it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

_GONE = frozenset({"unreachable", "channel-died", "agent-lost", "session-over"})
_IN_THE_PROGRAM = frozenset({"raised", "failed", "deadlock", "left", "violation", "threshold"})


def remedies(
    cause: Mapping[str, Any], program: str, others: Sequence[str], *, host: bool, parties: int
) -> list[str]:
    """What to type, one line each, the last of them being how to start again."""
    kind, party = str(cause.get("kind") or ""), cause.get("party")
    lines: list[str] = []
    if kind in _GONE and isinstance(party, str):
        lines.append(f"See whether {party} is back:  didmpc ping {shlex.quote(party)}")
    elif kind in _IN_THE_PROGRAM and host and program:
        lines.append(
            f"Try all parties on this machine:  didmpc rehearse {shlex.quote(program)} --parties {parties}"
        )
    elif kind == "disk-full" and party is None:
        lines.append("See where there is room:  df -h")
    elif kind == "out-of-memory" and party is None:
        lines.append("See how much memory there is:  free -h")
    return [*lines, again(program, others, host=host)]


def again(program: str, others: Sequence[str], *, host: bool) -> str:
    """How to start once more."""
    if not host:
        return "Take part again when it is proposed anew:  didmpc join"
    chosen = f" --with {shlex.quote(','.join(others))}" if others else ""
    return f"Start again with the same people:  didmpc run {shlex.quote(program)}{chosen}"
