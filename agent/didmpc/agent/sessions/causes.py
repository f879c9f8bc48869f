"""Why an attempt ended: as it is told to others, read from them, and put into one sentence."""

from collections.abc import Mapping
from typing import Any

from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages


def abort_body(seat: Seat, cause: Mapping[str, Any]) -> dict[str, Any]:
    """The body of our `abort`, signed, whatever the texts in it are made of."""
    told = {name: messages.sentence(str(cause.get(name) or "")) for name in ("kind", "what", "why")}
    return {"cause": told, "signature": seat.sign_abort(told)}


def read_cause(seat: Seat, pid: int, message: Message) -> dict[str, str]:
    """The cause of an `abort` of party `pid`, bounded and printable; it speaks only of its sender.

    Raises MessageError, also where its signature does not hold.
    """
    cause = message.body.get("cause")
    if not isinstance(cause, dict):
        raise MessageError("An abort states its cause.")
    told = {
        "kind": messages.text(cause, "kind", 32),
        "what": messages.text(cause, "what"),
        "why": messages.text(cause, "why", default=""),
    }
    signature = messages.text(message.body, "signature")
    seat.check_abort(pid, told, signature)
    return {"party": seat.names[pid], **told, "signature": signature}


def in_words(cause: Any) -> str:
    """A cause as one line for a person."""
    if not isinstance(cause, Mapping):
        return "The session ended."
    party, what, why = (str(cause.get(name) or "") for name in ("party", "what", "why"))
    return " ".join(part for part in (f"{party}:" if party else "", what, why) if part)
