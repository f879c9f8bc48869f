"""empty/1.0: a message without content, for what its headers carry (acknowledgement, return route)."""

from didmpc.protocols.message import Message

EMPTY = "https://didcomm.org/empty/1.0/empty"


def empty(*, thid: str | None = None) -> Message:
    """An empty message, in a thread where one is named."""
    return Message(type=EMPTY, thid=thid)
