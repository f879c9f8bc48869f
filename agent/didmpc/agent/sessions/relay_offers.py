"""Relay channels as they are offered in a handshake (docs/session-extension.md, sections 11 and 13)."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import canonical, resolve
from didmpc.protocols.errors import DidmpcError, MessageError
from didmpc.protocols.messages import relay_control
from didmpc.protocols.messages.body import mapping
from didmpc.protocols.mpc import messages
from didmpc.protocols.session.handshake import Established

# The longest that a relay channel is kept by the mediator: the absolute limit of a session.
CHANNEL_SECONDS = 24 * 3600
KIND = "relay/1.0"


async def create(mailbox: Mailbox, count: int) -> tuple[relay_control.Channel, ...]:
    """So many channels at our mediator. Raises `DidmpcError`."""
    request = relay_control.channel_create(count, int(time.time()) + CHANNEL_SECONDS)
    channels = relay_control.parse_channel_created(await mailbox.ask_mediator(request.type, request.body))
    if len(channels) != count:
        raise DidmpcError("Our mediator gave fewer relay channels than asked for.", fix="Try again later.")
    return tuple(channels)


async def revoke(mailbox: Mailbox, channels: Sequence[relay_control.Channel]) -> None:
    """Give channels back; where that fails, they expire."""
    request = relay_control.channel_revoke([channel.id for channel in channels])
    with contextlib.suppress(DidmpcError):
        await mailbox.ask_mediator(request.type, request.body)


def offer(mediator: str, capability: bytes) -> dict[str, Any]:
    """One of `caps`: the far end of a channel."""
    return {"type": KIND, "mediator": mediator, "capability": b64url(capability)}


def find(established: Established, routing: str) -> tuple[str, bytes]:
    """The relay channel that the responder offers, which must be at the mediator that its DID names."""
    for cap in established.peer_hs.get("caps", ()):
        if isinstance(cap, Mapping) and cap.get("type") == KIND:
            mediator = messages.text(mapping(cap), "mediator", 8192)
            if canonical(mediator) != canonical(routing):
                raise MessageError("The relay channel is not at the mediator of the party's DID.")
            return mediator, messages.octets(mapping(cap), "capability", 32, exactly=32)
    raise MessageError("The party offers no relay channel.")


def path(mailbox: Mailbox, mediator: str, capability: bytes) -> dict[str, Any]:
    """What the process that carries the link is told: whom to dial, and what to present there."""
    return {
        "mediator": mediator,
        "ws": _websocket_of(mediator),
        "capability": b64url(capability),
        "private": mailbox.allows_private,
    }


def _websocket_of(mediator: str) -> str:
    for service in resolve(mediator).services:
        if service.uri.startswith(("ws://", "wss://")):
            return service.uri
    raise MessageError("This mediator's DID names no WebSocket address.")
