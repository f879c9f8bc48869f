"""The agent that a command needs: the one that runs, or one started in the background, with the defaults."""

from typing import Any

from didmpc.agent.cli import background
from didmpc.agent.cli.screen import Screen
from didmpc.agent.wallet.home import Home
from didmpc.local import unix_socket
from didmpc.protocols.errors import DidmpcError


def ensure(
    place: Home, screen: Screen, *, link: str, label: str | None = None, mediator: str | None = None
) -> None:
    """Start the agent of this home unless it runs. Raises `DidmpcError`.

    One that has no mediator yet, and is told none, asks for an account at the one that the link leads
    through.
    """
    if unix_socket.is_served(place.socket):
        return
    from didmpc.agent.cli.agent import options_of

    options = {**options_of(place, label=label, mediator=mediator, passphrase_file=None), "link": link}
    told: list[str] = []

    def ready(facts: dict[str, Any]) -> None:
        screen.line(
            f"Your agent is started: {facts.get('label')}, reached through {facts.get('host')}."
            "  Stop it with:  didmpc agent stop"
        )

    try:
        background.start(options, place, on_ready=ready, on_notice=told.append)
    except DidmpcError:
        if not unix_socket.is_served(place.socket):  # else another command was faster
            raise
    for text in told:
        screen.line(text, "yellow")
