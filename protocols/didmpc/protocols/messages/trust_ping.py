"""trust-ping/2.0: ask whether a party is there and can be spoken to."""

from didmpc.protocols.message import Message
from didmpc.protocols.messages.body import expect, optional, truth

PROTOCOL = "https://didcomm.org/trust-ping/2.0"
PING = f"{PROTOCOL}/ping"
PING_RESPONSE = f"{PROTOCOL}/ping-response"


def ping(from_: str, to: str, *, response_requested: bool = True) -> Message:
    return Message(type=PING, from_=from_, to=(to,), body={"response_requested": response_requested})


def respond(message: Message) -> Message | None:
    """The answer to a ping; None when the sender wants none, or cannot be answered."""
    expect(message, PING)
    wanted = optional(message, "response_requested", truth, True)
    return message.reply(PING_RESPONSE) if wanted and message.from_ is not None else None
