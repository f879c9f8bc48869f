"""basicmessage/2.0: words from one person to another. Nothing answers them."""

from didmpc.protocols.message import Message
from didmpc.protocols.messages.body import expect, required, text

PROTOCOL = "https://didcomm.org/basicmessage/2.0"
MESSAGE = f"{PROTOCOL}/message"


def message(content: str, created_time: int, *, from_: str | None = None, to: str | None = None) -> Message:
    return Message(
        type=MESSAGE,
        body={"content": content},
        from_=from_,
        to=(to,) if to else (),
        created_time=created_time,
    )


def parse(received: Message) -> str:
    """The words: text of a peer, to be shown as such. Raises `MessageError`."""
    expect(received, MESSAGE)
    return required(received, "content", text)
