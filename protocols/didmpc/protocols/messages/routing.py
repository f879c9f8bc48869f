"""routing/2.0: forward messages, and the way from a packed envelope to the first place it is sent to.

DIDComm Messaging 2.1, "Routing Protocol 2.0". A sender wraps for each routing key, the last one first.
A DID as the endpoint means one more wrap, for that mediator, and then its own endpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from didmpc.protocols import did as dids
from didmpc.protocols.did import DIDDocument, Resolve, Service, canonical, did_of
from didmpc.protocols.envelope import pack_anoncrypt
from didmpc.protocols.errors import DidError, MessageError
from didmpc.protocols.message import ENCRYPTED, Attachment, Message, decode_json
from didmpc.protocols.messages.body import expect, optional, required, text

FORWARD = "https://didcomm.org/routing/2.0/forward"

MAX_HOPS = 8
MAX_FORWARDED = 64
"""Most envelopes in one forward."""
MAX_DELAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Forward:
    """What a forward asks a mediator to do."""

    next: str
    """A DID or a key id: whom the envelopes are for."""
    envelopes: tuple[bytes, ...]
    expires_time: int | None = None
    delay_milli: int = 0
    """How long to wait first; a negative one means a random time up to that."""


@dataclass(frozen=True, slots=True)
class Way:
    """The URL of the first hop (http, https, ws or wss), and whom to wrap for, first hop first."""

    uri: str
    hops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outbound:
    """An envelope and the URL (http, https, ws or wss) it goes to."""

    uri: str
    envelope: bytes


def forward(
    next: str, envelopes: Sequence[bytes], to: str, *, expires_time: int | None = None, delay_milli: int = 0
) -> Message:
    """The request to pass envelopes on to `next`. It names no sender and asks for no acknowledgement."""
    body: dict[str, Any] = {"next": next}
    if delay_milli:
        body["delay_milli"] = delay_milli
    attachments = tuple(
        Attachment(media_type=ENCRYPTED, data_json=decode_json(envelope, len(envelope)))
        for envelope in envelopes
    )
    return Message(type=FORWARD, to=(to,), body=body, attachments=attachments, expires_time=expires_time)


def parse_forward(message: Message) -> Forward:
    """Raises `MessageError`."""
    expect(message, FORWARD)
    if not 0 < len(message.attachments) <= MAX_FORWARDED:
        raise MessageError(f"A forward must carry between 1 and {MAX_FORWARDED} envelopes.")
    return Forward(
        next=required(message, "next", text),
        envelopes=tuple(attachment.content() for attachment in message.attachments),
        expires_time=message.expires_time,
        delay_milli=optional(message, "delay_milli", _delay, 0),
    )


def route(
    envelope: bytes,
    recipient: DIDDocument,
    resolve: Resolve = dids.resolve,
    *,
    expires_time: int | None = None,
) -> Outbound:
    """Wrap an envelope for every hop to `recipient`. Raises `DidError` where no way is known."""
    way = way_to(recipient, resolve)
    return Outbound(way.uri, wrap(envelope, recipient.did, way.hops, resolve, expires_time=expires_time))


def way_to(recipient: DIDDocument, resolve: Resolve = dids.resolve) -> Way:
    """The way that a DID document asks for. Raises `DidError` where there is none.

    A mediator may itself name another mediator as its endpoint: it is one hop more.
    """
    service = service_of(recipient)
    hops = service.routing_keys
    passed = {canonical(recipient.did)}
    while _is_did(service.uri):
        mediator = resolve(did_of(service.uri))
        if canonical(mediator.did) in passed:
            raise DidError("The mediators of a DID name each other as their endpoint.")
        passed.add(canonical(mediator.did))
        service = service_of(mediator)
        hops = (*service.routing_keys, mediator.did, *hops)
        if len(hops) > MAX_HOPS:
            break
    if len(hops) > MAX_HOPS:
        raise DidError(f"A DID wants its messages to go over more than {MAX_HOPS} hops.")
    return Way(service.uri, hops)


def wrap(
    envelope: bytes,
    recipient: str,
    hops: Sequence[str],
    resolve: Resolve = dids.resolve,
    *,
    expires_time: int | None = None,
) -> bytes:
    """Wrap an envelope for hops, from the last back to the first. Raises `DidError`."""
    next = recipient
    for hop in reversed(hops):
        document = resolve(did_of(hop))
        wrapped = forward(next, [envelope], document.did, expires_time=expires_time)
        envelope = pack_anoncrypt(wrapped, document, kid=hop if "#" in hop else None)
        next = hop
    return envelope


def service_of(document: DIDDocument) -> Service:
    """The service to send to: the first over http(s) or a mediator's DID, else the first over ws(s)."""
    usable = [item for item in document.services if not item.accept or "didcomm/v2" in item.accept]
    for kinds in (("http", "https", "did"), ("ws", "wss")):
        for service in usable:
            if _scheme(service.uri) in kinds:
                return service
    raise DidError(
        "A DID says nowhere where messages for it can be sent.", why=f"the DID is {document.did[:60]}"
    )


def _scheme(uri: str) -> str:
    try:
        return urlsplit(uri).scheme
    except ValueError:
        return ""


def _is_did(uri: str) -> bool:
    return _scheme(uri) == "did"


def _delay(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_DELAY_MS:
        raise ValueError(f"must be a whole number of at most {MAX_DELAY_MS}")
    return value
