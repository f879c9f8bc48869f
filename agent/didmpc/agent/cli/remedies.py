"""The next commands after a run that failed, by what ended it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

_GONE = frozenset({"unreachable", "channel-died", "agent-lost", "session-over"})
_IN_THE_PROGRAM = frozenset({"raised", "failed", "deadlock", "left", "violation", "threshold"})


def remedies(
    cause: Mapping[str, Any],
    program: str,
    others: Sequence[str],
    *,
    host: bool,
    parties: int,
    by_link: bool = False,
    arguments: Sequence[str] = (),
) -> list[str]:
    """What to type, one line each, the last of them being how to start again."""
    kind, party = str(cause.get("kind") or ""), cause.get("party")
    lines: list[str] = []
    stranger = by_link and party not in others  # a ping goes to contacts alone
    if kind in _GONE and isinstance(party, str) and not stranger:
        lines.append(f"See whether {party} is back:  didmpc ping {shlex.quote(party)}")
    elif kind in _IN_THE_PROGRAM and host and program:
        lines.append(
            f"Try all parties on this machine:  didmpc rehearse {shlex.quote(program)} --parties {parties}"
            + _behind_dashes(arguments)
        )
    elif kind == "disk-full" and party is None:
        lines.append("See where there is room:  df -h")
    elif kind == "out-of-memory" and party is None:
        lines.append("See how much memory there is:  free -h")
    places = parties if by_link else 0
    return [*lines, again(program, others, host=host, places=places, arguments=arguments)]


def again(
    program: str, others: Sequence[str], *, host: bool, places: int = 0, arguments: Sequence[str] = ()
) -> str:
    """How to start once more; with so many `places` that there was a link."""
    if not host and places:
        return "Take part again with the new link that the host sends:  didmpc join LINK"
    if not host:
        return "Take part again when it is proposed anew:  didmpc join"
    count = f" --parties {places}" if places else ""
    chosen = f"{count} --with {shlex.quote(','.join(others))}" if others else count
    program = shlex.quote(program)
    return f"Start again with the same people:  didmpc run {program}{chosen}{_behind_dashes(arguments)}"


def _behind_dashes(arguments: Sequence[str]) -> str:
    return f" -- {shlex.join(arguments)}" if arguments else ""
