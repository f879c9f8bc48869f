"""relay/1.0, the control part: an account asks its mediator for relay channels.

    channel-create {count, expires, rate?}  -> channel-created {channels: [{id, near, far}], expires, rate?}
    channel-revoke {ids}                    -> empty

A channel has two capabilities of 32 random bytes: whoever presents one may bind that end. `near` is for
the owner, `far` travels to the peer inside an authenticated message. The mediator keeps only hashes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Message
from didmpc.protocols.messages.body import expect, many, mapping, optional, required, text, whole
from didmpc.protocols.namespace import NAMESPACE

PROTOCOL = f"{NAMESPACE}/relay/1.0"
CHANNEL_CREATE = f"{PROTOCOL}/channel-create"
CHANNEL_CREATED = f"{PROTOCOL}/channel-created"
CHANNEL_REVOKE = f"{PROTOCOL}/channel-revoke"

CAPABILITY_SIZE = 32
MAX_CHANNELS = 64
"""Most channels in one request."""


@dataclass(frozen=True, slots=True)
class ChannelRequest:
    """How many channels are wanted, and until when (seconds since 1970)."""

    count: int
    expires: int
    rate: int | None = None
    """Bytes per second and direction that pass on each; None: as many as the mediator lets pass."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel and its two capabilities, which are secrets."""

    id: str
    near: bytes
    far: bytes

    def __repr__(self) -> str:
        return f"Channel(id={self.id!r}, near=<secret>, far=<secret>)"


def channel_create(
    count: int, expires: int, *, rate: int | None = None, from_: str | None = None, to: str | None = None
) -> Message:
    return _request(CHANNEL_CREATE, {"count": count, "expires": expires, **_rate(rate)}, from_, to)


def parse_channel_create(message: Message) -> ChannelRequest:
    expect(message, CHANNEL_CREATE)
    count = required(message, "count", whole)
    if not 0 < count <= MAX_CHANNELS:
        raise MessageError(
            f"A channel-create must ask for between 1 and {MAX_CHANNELS} channels.", code="e.p.msg.bad-body"
        )
    rate = optional(message, "rate", whole, None)
    if rate is not None and rate < 1:
        raise MessageError(
            "The rate of a channel must be at least 1 byte per second.", code="e.p.msg.bad-body"
        )
    return ChannelRequest(count, required(message, "expires", whole), rate)


def channel_created(
    request: Message, channels: Sequence[Channel], expires: int, rate: int | None = None
) -> Message:
    listed = [{"id": item.id, "near": b64url(item.near), "far": b64url(item.far)} for item in channels]
    return request.reply(CHANNEL_CREATED, {"channels": listed, "expires": expires, **_rate(rate)})


def parse_channel_created(message: Message) -> tuple[Channel, ...]:
    expect(message, CHANNEL_CREATED)
    return required(message, "channels", many(_channel, MAX_CHANNELS))


def channel_revoke(ids: Sequence[str], *, from_: str | None = None, to: str | None = None) -> Message:
    return _request(CHANNEL_REVOKE, {"ids": list(ids)}, from_, to)


def parse_channel_revoke(message: Message) -> tuple[str, ...]:
    expect(message, CHANNEL_REVOKE)
    return required(message, "ids", many(text, MAX_CHANNELS))


def _request(type: str, body: dict[str, Any], from_: str | None, to: str | None) -> Message:
    return Message(type=type, body=body, from_=from_, to=(to,) if to else (), return_route="all")


def _rate(rate: int | None) -> dict[str, int]:
    return {} if rate is None else {"rate": rate}


def _channel(value: Any) -> Channel:
    item = mapping(value)
    near, far = (_capability(item.get(name)) for name in ("near", "far"))
    return Channel(text(item.get("id")), near, far)


def _capability(value: Any) -> bytes:
    capability = unb64url(text(value))
    if len(capability) != CAPABILITY_SIZE:
        raise ValueError(f"must hold capabilities of {CAPABILITY_SIZE} bytes")
    return capability
