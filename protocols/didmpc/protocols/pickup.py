"""messagepickup/3.0: fetching what a mediator holds, and live delivery.

status-request {recipient_did?}          -> status
delivery-request {limit, recipient_did?} -> delivery with attachments, or status when there is nothing
messages-received {message_id_list}      -> status; only this deletes
live-delivery-change {live_delivery}     -> status; the mode ends with its connection
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.body import MAX_ITEMS, expect, many, optional, required, text, truth, whole
from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Attachment, Message

PROTOCOL = "https://didcomm.org/messagepickup/3.0"
STATUS_REQUEST = f"{PROTOCOL}/status-request"
STATUS = f"{PROTOCOL}/status"
DELIVERY_REQUEST = f"{PROTOCOL}/delivery-request"
DELIVERY = f"{PROTOCOL}/delivery"
MESSAGES_RECEIVED = f"{PROTOCOL}/messages-received"
LIVE_DELIVERY_CHANGE = f"{PROTOCOL}/live-delivery-change"

LIVE_MODE_NOT_SUPPORTED = "e.m.live-mode-not-supported"
"""The problem code for live mode asked over HTTP."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a mediator holds for an account, or for one DID of it."""

    message_count: int
    recipient_did: str | None = None
    live_delivery: bool = False
    longest_waited_seconds: int | None = None
    newest_received_time: int | None = None
    oldest_received_time: int | None = None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """How many messages are wanted, and for which DID (None: for all)."""

    limit: int
    recipient_did: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Envelopes by the id under which the mediator keeps them, oldest first."""

    messages: tuple[tuple[str, bytes], ...]
    recipient_did: str | None = None


def status_request(
    recipient_did: str | None = None, *, from_: str | None = None, to: str | None = None
) -> Message:
    return _request(STATUS_REQUEST, _about(recipient_did), from_, to)


def parse_status_request(message: Message) -> str | None:
    """The DID that is asked about; None for all."""
    expect(message, STATUS_REQUEST)
    return _recipient(message)


def status(request: Message, state: Status) -> Message:
    """The answer to any of the requests."""
    body: dict[str, Any] = {"message_count": state.message_count, "live_delivery": state.live_delivery}
    for name in _STATUS_OPTIONAL:
        if (value := getattr(state, name)) is not None:
            body[name] = value
    return request.reply(STATUS, {**_about(state.recipient_did), **body})


def parse_status(message: Message) -> Status:
    expect(message, STATUS)
    return Status(
        message_count=required(message, "message_count", whole),
        recipient_did=_recipient(message),
        live_delivery=optional(message, "live_delivery", truth, False),
        **{name: optional(message, name, whole, None) for name in _STATUS_OPTIONAL},
    )


def delivery_request(
    limit: int, recipient_did: str | None = None, *, from_: str | None = None, to: str | None = None
) -> Message:
    return _request(DELIVERY_REQUEST, {"limit": limit, **_about(recipient_did)}, from_, to)


def parse_delivery_request(message: Message) -> DeliveryRequest:
    expect(message, DELIVERY_REQUEST)
    limit = required(message, "limit", whole)
    if limit == 0:
        raise MessageError("A delivery-request must ask for at least one message.", code="e.p.msg.bad-body")
    return DeliveryRequest(limit, _recipient(message))


def delivery(
    messages: Sequence[tuple[str, bytes]],
    *,
    request: Message | None = None,
    recipient_did: str | None = None,
    from_: str | None = None,
    to: str | None = None,
) -> Message:
    """Envelopes by id: the answer to a delivery-request, or a live push (no request; `from_` and `to`)."""
    headers: dict[str, Any] = {
        "attachments": tuple(Attachment(id=name, data_base64=envelope) for name, envelope in messages)
    }
    body = _about(recipient_did)
    if request is not None:
        return request.reply(DELIVERY, body, **headers)
    return Message(type=DELIVERY, body=body, from_=from_, to=(to,) if to else (), **headers)


def parse_delivery(message: Message) -> Delivery:
    expect(message, DELIVERY)
    messages = tuple((attachment.id, attachment.content()) for attachment in message.attachments)
    return Delivery(messages, _recipient(message))


def messages_received(ids: Sequence[str], *, from_: str | None = None, to: str | None = None) -> Message:
    return _request(MESSAGES_RECEIVED, {"message_id_list": list(ids)}, from_, to)


def parse_messages_received(message: Message) -> tuple[str, ...]:
    expect(message, MESSAGES_RECEIVED)
    return required(message, "message_id_list", many(text, MAX_ITEMS))


def live_delivery_change(live: bool, *, from_: str | None = None, to: str | None = None) -> Message:
    return _request(LIVE_DELIVERY_CHANGE, {"live_delivery": live}, from_, to)


def parse_live_delivery_change(message: Message) -> bool:
    expect(message, LIVE_DELIVERY_CHANGE)
    return required(message, "live_delivery", truth)


_STATUS_OPTIONAL = ("longest_waited_seconds", "newest_received_time", "oldest_received_time", "total_bytes")


def _request(type: str, body: dict[str, Any], from_: str | None, to: str | None) -> Message:
    """A request to the mediator; the answer is wanted on the connection the request comes on."""
    return Message(type=type, body=body, from_=from_, to=(to,) if to else (), return_route="all")


def _about(recipient_did: str | None) -> dict[str, Any]:
    return {} if recipient_did is None else {"recipient_did": recipient_did}


def _recipient(message: Message) -> str | None:
    return optional(message, "recipient_did", text, "") or None
