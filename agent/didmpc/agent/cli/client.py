"""Asking the agent of a home, for commands that want one answer."""

from collections.abc import Callable
from typing import Any

from didmpc.agent.control import client as control_client
from didmpc.agent.wallet.home import Home

QUICK = 30.0  # seconds for what the agent can answer by itself


def ask(
    home: Home,
    method: str,
    params: dict[str, Any] | None = None,
    *,
    timeout: float | None = QUICK,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The agent's answer to one request; its errors are raised as `DidmpcError`."""
    return control_client.call(method, params, home=home, on_event=on_event, timeout=timeout)
