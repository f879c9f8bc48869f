"""Why an attempt ended: as it is told to others, read from them, and put into one sentence."""

from collections.abc import Mapping
from typing import Any

from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages


def abort_body(cause: Mapping[str, Any]) -> dict[str, Any]:
    """The body of our `abort`, whatever the texts in it are made of."""
    told = {name: messages.sentence(str(cause.get(name) or "")) for name in ("kind", "what", "why")}
    return {"cause": told}


def read_cause(name: str, message: Message) -> dict[str, str]:
    """The cause of an `abort`, bounded and printable; an abort speaks only of its sender."""
    cause = message.body.get("cause")
    if not isinstance(cause, dict):
        raise MessageError("An abort states its cause.")
    return {
        "party": name,
        "kind": messages.text(cause, "kind", 32),
        "what": messages.text(cause, "what"),
        "why": messages.text(cause, "why", default=""),
    }


def in_words(cause: Any) -> str:
    """A cause as one line for a person."""
    if not isinstance(cause, Mapping):
        return "The session ended."
    party, what, why = (str(cause.get(name) or "") for name in ("party", "what", "why"))
    return " ".join(part for part in (f"{party}:" if party else "", what, why) if part)
