"""What the shell offers when Tab is pressed.

Some shells evaluate what they are offered (typer's script for zsh does), and others put it into the command
line as it is: of what a peer chose only letters, digits and a few marks that mean nothing to them get there.
"""

import os
from typing import Any

PATIENCE = 0.5  # seconds; a shell that hangs is worse than one without an offer
MOST_SESSIONS = 20
PLAIN = frozenset(" ._-+@")
"""What a name may have beside letters and digits, and still be offered."""


def _known(ctx: Any, method: str, name: str) -> list[dict[str, Any]]:
    try:
        from didmpc.agent.cli.client import ask
        from didmpc.agent.cli.config import home_of

        found = ask(home_of(ctx.params.get("home")), method, timeout=PATIENCE)[name]
        return [each for each in found if isinstance(each, dict)]
    except Exception:  # an agent that does not run must not disturb the shell
        return []


def invitation_ids(ctx: Any, incomplete: str) -> list[str]:
    """Beginnings of the ids of invitations that are open."""
    known = _known(ctx, "invitations", "invitations")
    return [str(each.get("id"))[:8] for each in known if each.get("state") == "open"]


def session_ids(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    """Beginnings of the names of sessions, the newest first, with what they ran."""
    known = _known(ctx, "sessions", "sessions")[:MOST_SESSIONS]
    return [(str(each.get("attempt"))[:8], _what(each)) for each in known]


def trusted_hashes(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    """Beginnings of the hashes of programs that are trusted, with their files."""
    return [(str(each.get("sha256"))[:12], _what(each)) for each in _known(ctx, "trusted", "trusted")]


def contact_names(ctx: Any, incomplete: str) -> list[str]:
    """Names of contacts; in a list separated by commas those that are not in it yet."""
    before, comma, _ = incomplete.rpartition(",")
    listed = before.split(",") if comma else []
    if not all(map(_is_plain, listed)):
        return []
    known = [str(contact.get("name")) for contact in _known(ctx, "contacts", "contacts")]
    names = [name for name in known if _is_plain(name) and name not in listed]
    return [_as_typed(before + comma + name) for name in names]


def _is_plain(name: str) -> bool:
    """Whether a shell that quotes spaces leaves a name as it is, and a command takes it for no option."""
    return name[:1].isalnum() and all(c.isalnum() or c in PLAIN for c in name)


def _as_typed(word: str) -> str:
    """As it stands in a command line: zsh and fish quote what they are offered, bash does not."""
    is_bash = os.environ.get("_DIDMPC_COMPLETE") == "complete_bash"
    return word.replace(" ", "\\ ") if is_bash else word


def _what(entry: dict[str, Any]) -> str:
    """A word about a session or program, in which nothing steers a shell or a terminal."""
    said = f"{entry.get('program') or entry.get('entry') or ''} {entry.get('state') or ''}".strip()
    return "".join(c for c in said if c.isalnum() or c in " ._-")[:60]
