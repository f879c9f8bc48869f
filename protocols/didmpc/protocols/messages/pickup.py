"""messagepickup 3.0 and message-pickup 4.0: fetching what a mediator holds, and live delivery.

    3.0                                       4.0
    status-request {recipient_did?}           the same
      -> status, times in seconds               -> status, times in milliseconds
    delivery-request {limit, recipient_did?}  delivery-request {message_count_limit, recipient_did?}
      -> delivery with attachments              -> delivery with attachments
      |  status when there is nothing           |  delivery with an empty list of them
    messages-received {message_id_list}       the same; only this deletes
      -> status                                 -> status
    live-delivery-change {live_delivery}      the same; the mode ends with its connection
      -> status                                 -> status

In both, what was queued before live mode is left to delivery-requests, and a push is a `delivery` outside
of any thread. A request is built in the version that is named, an answer in that of its request, and
whatever is read may be of either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.messages.body import MAX_ITEMS, expect, many, optional, required, text, truth, whole


@dataclass(frozen=True, slots=True)
class Version:
    """What one version calls its messages and fields, and its unit of time."""

    protocol: str
    limit: str
    ticks_per_second: int
    tells_waited: bool
    """Whether a status has `longest_waited_seconds`."""
    delivers_nothing: bool
    """Whether a delivery-request that finds nothing is answered by an empty delivery."""

    @property
    def status_request(self) -> str:
        return f"{self.protocol}/status-request"

    @property
    def status(self) -> str:
        return f"{self.protocol}/status"

    @property
    def delivery_request(self) -> str:
        return f"{self.protocol}/delivery-request"

    @property
    def delivery(self) -> str:
        return f"{self.protocol}/delivery"

    @property
    def messages_received(self) -> str:
        return f"{self.protocol}/messages-received"

    @property
    def live_delivery_change(self) -> str:
        return f"{self.protocol}/live-delivery-change"


_V3 = "https://didcomm.org/messagepickup/3.0"
_V4 = "https://didcomm.org/message-pickup/4.0"
V3 = Version(_V3, "limit", ticks_per_second=1, tells_waited=True, delivers_nothing=False)
V4 = Version(_V4, "message_count_limit", ticks_per_second=1000, tells_waited=False, delivers_nothing=True)
VERSIONS = (V3, V4)

# 3.0 is what our own agent speaks.
PROTOCOL = V3.protocol
STATUS_REQUEST, STATUS = V3.status_request, V3.status
DELIVERY_REQUEST, DELIVERY = V3.delivery_request, V3.delivery
MESSAGES_RECEIVED, LIVE_DELIVERY_CHANGE = V3.messages_received, V3.live_delivery_change

LIVE_MODE_NOT_SUPPORTED = "e.m.live-mode-not-supported"
"""The problem code for live mode asked over HTTP."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a mediator holds for an account, or for one DID of it. Times are seconds since 1970."""

    message_count: int
    recipient_did: str | None = None
    live_delivery: bool = False
    longest_waited_seconds: int | None = None
    newest_received_time: float | None = None
    oldest_received_time: float | None = None
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


def version_of(message: Message) -> Version:
    """The version a message of this protocol is written in."""
    return V4 if message.type.startswith(f"{_V4}/") else V3


def status_request(
    recipient_did: str | None = None,
    *,
    from_: str | None = None,
    to: str | None = None,
    version: Version = V3,
) -> Message:
    return _request(version.status_request, _about(recipient_did), from_, to)


def parse_status_request(message: Message) -> str | None:
    """The DID that is asked about; None for all."""
    expect(message, V3.status_request, V4.status_request)
    return _recipient(message)


def status(request: Message, state: Status) -> Message:
    """The answer to any of the requests."""
    version = version_of(request)
    waited = state.longest_waited_seconds if version.tells_waited else None
    optional_fields = {
        "longest_waited_seconds": waited,
        "newest_received_time": _ticks(state.newest_received_time, version),
        "oldest_received_time": _ticks(state.oldest_received_time, version),
        "total_bytes": state.total_bytes,
    }
    body = {
        **_about(state.recipient_did),
        "message_count": state.message_count,
        "live_delivery": state.live_delivery,
        **{name: value for name, value in optional_fields.items() if value is not None},
    }
    return request.reply(version.status, body)


def parse_status(message: Message) -> Status:
    expect(message, V3.status, V4.status)
    version = version_of(message)
    return Status(
        message_count=required(message, "message_count", whole),
        recipient_did=_recipient(message),
        live_delivery=optional(message, "live_delivery", truth, False),
        longest_waited_seconds=optional(message, "longest_waited_seconds", whole, None),
        newest_received_time=_seconds(optional(message, "newest_received_time", whole, None), version),
        oldest_received_time=_seconds(optional(message, "oldest_received_time", whole, None), version),
        total_bytes=optional(message, "total_bytes", whole, None),
    )


def delivery_request(
    limit: int,
    recipient_did: str | None = None,
    *,
    from_: str | None = None,
    to: str | None = None,
    version: Version = V3,
) -> Message:
    body = {version.limit: limit, **_about(recipient_did)}
    return _request(version.delivery_request, body, from_, to)


def parse_delivery_request(message: Message) -> DeliveryRequest:
    expect(message, V3.delivery_request, V4.delivery_request)
    version = version_of(message)
    # Drafts of 4.0 kept the name of 3.0.
    name = version.limit if version.limit in message.body else V3.limit
    limit = required(message, name, whole)
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
    version: Version = V3,
) -> Message:
    """Envelopes by id: the answer to a delivery-request, or a live push (no request; `from_` and `to`)."""
    headers: dict[str, Any] = {
        "attachments": tuple(Attachment(id=name, data_base64=envelope) for name, envelope in messages),
        "lists_attachments": True,
    }
    body = _about(recipient_did)
    if request is not None:
        return request.reply(version_of(request).delivery, body, **headers)
    return Message(type=version.delivery, body=body, from_=from_, to=(to,) if to else (), **headers)


def parse_delivery(message: Message) -> Delivery:
    expect(message, V3.delivery, V4.delivery)
    messages = tuple((attachment.id, attachment.content()) for attachment in message.attachments)
    return Delivery(messages, _recipient(message))


def messages_received(
    ids: Sequence[str], *, from_: str | None = None, to: str | None = None, version: Version = V3
) -> Message:
    return _request(version.messages_received, {"message_id_list": list(ids)}, from_, to)


def parse_messages_received(message: Message) -> tuple[str, ...]:
    expect(message, V3.messages_received, V4.messages_received)
    return required(message, "message_id_list", many(text, MAX_ITEMS))


def live_delivery_change(
    live: bool, *, from_: str | None = None, to: str | None = None, version: Version = V3
) -> Message:
    return _request(version.live_delivery_change, {"live_delivery": live}, from_, to)


def parse_live_delivery_change(message: Message) -> bool:
    expect(message, V3.live_delivery_change, V4.live_delivery_change)
    return required(message, "live_delivery", truth)


def _request(type: str, body: dict[str, Any], from_: str | None, to: str | None) -> Message:
    """A request to the mediator; the answer is wanted on the connection the request comes on."""
    return Message(type=type, body=body, from_=from_, to=(to,) if to else (), return_route="all")


def _about(recipient_did: str | None) -> dict[str, Any]:
    return {} if recipient_did is None else {"recipient_did": recipient_did}


def _recipient(message: Message) -> str | None:
    return optional(message, "recipient_did", text, "") or None


def _ticks(seconds: float | None, version: Version) -> int | None:
    return None if seconds is None else int(seconds * version.ticks_per_second)


def _seconds(ticks: int | None, version: Version) -> float | None:
    return None if ticks is None else ticks / version.ticks_per_second
