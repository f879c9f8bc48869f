"""What nodes say to each other, inside the packets of a link. No I/O.

A packet holds one frame. Frames of channels are those of `relay/1.0` (protocols/relay/hop.py), with numbers
of the link's own:

    DATA, CREDIT    as on a leg
    UNBOUND         the sender's end of this number is gone (whatever the reason)
    ERROR           the sender knows of no end with this number, or got more than it gave credit for
    PING, PONG      is anybody there?

Anything else is a message: type 32, channel 0, then MessagePack, an array that begins with the tag. What is
said of accounts and channels is a hint that saves time: the truth stands in the database, which each node
reads every few seconds, so a message may be lost.
"""

from typing import Annotated, TypeAlias

import msgspec

from didmpc.protocols.errors import SessionError
from didmpc.protocols.relay import hop

PROTOCOL = 1
"""Of links. Nodes of different ones do not work together."""
MESSAGE = 32
MALFORMED = "e.p.cluster.message"
_HEAD = hop.HEADER.pack(MESSAGE, 0)

Account: TypeAlias = Annotated[str, msgspec.Meta(max_length=2048)]
Seqs: TypeAlias = Annotated[tuple[int, ...], msgspec.Meta(max_length=10_000)]
Channels: TypeAlias = Annotated[tuple[int, ...], msgspec.Meta(max_length=10_000)]
Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=hop.MAX_CHANNEL)]
Side: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1)]
Bytes: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Tagged by name."""


class Ready(_Message, tag="ready", frozen=True):
    """First on a link, from both sides: its sender has the keys, and is this node."""

    node: int
    protocol: int


class Standing(_Message, tag="standing", frozen=True):
    """Whether the sender holds its lease, that is: reaches the database."""

    has_lease: bool


class Leaving(_Message, tag="leaving", frozen=True):
    """The sender stops; its clients come elsewhere."""


class Ring(_Message, tag="ring", frozen=True):
    """There is new mail for an account that the receiver delivers to, to be delivered from `due` on."""

    account: Account
    due: float


class Taken(_Message, tag="taken", frozen=True):
    """The sender delivers to this account now: push nothing more, and say what is on its way."""

    account: Account
    epoch: int


class Yielded(_Message, tag="yielded", frozen=True):
    """Answers Taken: nothing more is pushed here. `held` was pushed and not acknowledged; for how long yet
    it is kept for its sockets, in milliseconds."""

    account: Account
    epoch: int
    held: Annotated[tuple[tuple[int, int], ...], msgspec.Meta(max_length=10_000)]


class Vacant(_Message, tag="vacant", frozen=True):
    """The sender delivers to this account no more."""

    account: Account


class Freed(_Message, tag="freed", frozen=True):
    """Sockets that held this mail have ended; whoever delivers to the account may give it to others."""

    account: Account
    seqs: Seqs


class Acknowledged(_Message, tag="acknowledged", frozen=True):
    """The sender deleted mail of an account that the receiver delivers to."""

    account: Account
    seqs: Seqs


class AskHeld(_Message, tag="ask-held", frozen=True):
    """Which mail of an account is on its way to the receiver's sockets?"""

    token: int
    account: Account


class Held(_Message, tag="held", frozen=True):
    token: int
    seqs: Seqs


class Meet(_Message, tag="meet", frozen=True):
    """An end of a channel was bound at the sender, under `epoch`; yours, of `far_epoch`, is its other end.

    `window` is what may be on its way in each direction, at most, and `credit` what yours may send now.
    """

    number: Number
    channel: int
    side: Side
    epoch: int
    far_epoch: int
    window: Bytes
    credit: Bytes


class Met(_Message, tag="met", frozen=True):
    """Answers Meet: the ends are connected, with this window, and yours may send `credit`."""

    number: Number
    window: Bytes
    credit: Bytes


class Displaced(_Message, tag="displaced", frozen=True):
    """A later bind, of `epoch`, took the place of an end that the receiver has."""

    channel: int
    side: Side
    epoch: int


class Revoked(_Message, tag="revoked", frozen=True):
    """The owner took channels back, or is no more."""

    channels: Channels


class Dropped(_Message, tag="dropped", frozen=True):
    """Push nothing more for an account: it is another DID's now."""

    account: Account


class ShutOut(_Message, tag="shut-out", frozen=True):
    """Close the sockets and channels of an account: its operator wants it no more."""

    account: Account
    channels: Channels


Message: TypeAlias = (
    Ready
    | Standing
    | Leaving
    | Ring
    | Taken
    | Yielded
    | Vacant
    | Freed
    | Acknowledged
    | AskHeld
    | Held
    | Meet
    | Met
    | Displaced
    | Revoked
    | Dropped
    | ShutOut
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The frame of a message."""
    return _HEAD + _encoder.encode(message)


def decode(frame: bytes) -> Message | hop.Frame:
    """Any frame but DATA. Raises `SessionError` for what is none."""
    if not frame.startswith(_HEAD):
        return hop.decode(frame)
    try:
        return _decoder.decode(frame[len(_HEAD) :])
    except msgspec.MsgspecError as error:
        raise SessionError("A message between nodes is malformed.", why=str(error), code=MALFORMED) from None
