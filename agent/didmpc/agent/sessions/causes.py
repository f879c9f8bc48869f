"""Why an attempt ended: as it is told to others, read from them, and put into one sentence."""

import asyncio
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.errors import DidmpcError, MessageError
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages

AGAIN = "When that is mended, start again:  didmpc run PROGRAM     and take part:  didmpc join"


class EndedEarly(DidmpcError):
    """A run that ended before all were connected. `told` is what the other parties may know of it."""

    def __init__(self, cause: Any, told: Mapping[str, Any] | None) -> None:
        super().__init__(in_words(cause), fix=AGAIN)
        known = told or {"kind": "failed", "what": "The session ended before it began."}
        self.told = {name: str(known.get(name) or "") for name in ("kind", "what", "why")}


def of_system(error: OSError, home: Path) -> DidmpcError:
    """What the system refused, with what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DidmpcError(
            "The disk is full: there is no room for the program and its files.",
            why=f"They are kept in {home} while the session runs.",
            fix=f"Free some room (see  df -h {home} ), then start again.",
        )
    return DidmpcError(
        "The system refused what a session needs.",
        why=f"{error.strerror}: {error.filename}",
        fix="didmpc doctor",
    )


def refused_by_system(error: BaseException) -> OSError | None:
    """The error of the system that this is, or that it came of."""
    return next((each for each in (error, error.__cause__) if isinstance(each, OSError)), None)


def cause_of(error: BaseException, name: str) -> dict[str, str]:
    """What the others are told about why an attempt did not get to run: no words of the program."""
    if isinstance(error, EndedEarly):
        return error.told
    if (refused := refused_by_system(error)) is not None:  # the names of our files are nobody's business
        what = f"{name}'s agent has no room left on its disk, or may not use it."
        return {"kind": "disk-full", "what": what, "why": refused.strerror or ""}
    if isinstance(error, DidmpcError):
        return {"kind": "failed", "what": error.what, "why": error.why}
    if isinstance(error, asyncio.CancelledError):
        return {"kind": "closed", "what": "Its didmpc command was stopped.", "why": ""}
    return {"kind": "failed", "what": f"{name}'s agent failed.", "why": type(error).__name__}


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
