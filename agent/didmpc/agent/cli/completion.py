"""What the shell offers when Tab is pressed."""

from typing import Any

PATIENCE = 0.5  # seconds; a shell that hangs is worse than one without an offer
MOST_SESSIONS = 20


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
    names = [str(contact.get("name")) for contact in _known(ctx, "contacts", "contacts")]
    before, comma, _ = incomplete.rpartition(",")
    return [before + comma + name for name in names if name not in before.split(",")]


def _what(entry: dict[str, Any]) -> str:
    """A word about a session or program, in which nothing steers a shell or a terminal."""
    said = f"{entry.get('program') or entry.get('entry') or ''} {entry.get('state') or ''}".strip()
    return "".join(c for c in said if c.isalnum() or c in " ._-")[:60]
