"""What the shell offers when Tab is pressed."""

from typing import Any

PATIENCE = 0.5  # seconds; a shell that hangs is worse than one without an offer


def invitation_ids(ctx: Any, incomplete: str) -> list[str]:
    """Beginnings of the ids of invitations that are open."""
    try:
        from didmpc.agent.cli.client import ask
        from didmpc.agent.cli.config import home_of

        known = ask(home_of(ctx.params.get("home")), "invitations", timeout=PATIENCE)["invitations"]
        return [str(each["id"])[:8] for each in known if each["state"] == "open"]
    except Exception:  # an agent that does not run must not disturb the shell
        return []


def contact_names(ctx: Any, incomplete: str) -> list[str]:
    """Names of contacts; in a list separated by commas those that are not in it yet."""
    try:
        from didmpc.agent.cli.client import ask
        from didmpc.agent.cli.config import home_of

        contacts = ask(home_of(ctx.params.get("home")), "contacts", timeout=PATIENCE)["contacts"]
        names = [str(contact["name"]) for contact in contacts]
    except Exception:  # an agent that does not run must not disturb the shell
        return []
    before, comma, _ = incomplete.rpartition(",")
    return [before + comma + name for name in names if name not in before.split(",")]
