"""Forward messages, and the wraps on the way to a recipient behind mediators."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from didmpc.protocols.did import DIDDocument, Service, canonical, resolve
from didmpc.protocols.envelope import envelope_recipients, pack_authcrypt, unpack
from didmpc.protocols.errors import DidError, MessageError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.messages.routing import (
    FORWARD,
    MAX_HOPS,
    Forward,
    forward,
    parse_forward,
    route,
    service_of,
)

HTTP, WS = Service("https://mediator.example"), Service("wss://mediator.example/ws")
MEDIATOR = Identity.peer2([HTTP, WS])
OUTER = Identity.peer2([Service("https://outer.example")])
ENVELOPE = b'{"ciphertext":"sealed","recipients":[]}'


def unwrapped(envelope: bytes, hop: Identity) -> Forward:
    """What a mediator sees when a forward reaches it."""
    opened = unpack(envelope, Identities(hop))
    assert not opened.authenticated
    assert opened.message.from_ is None
    return parse_forward(opened.message)


def recipient(*services: Service) -> DIDDocument:
    return Identity.peer4(services).document


def test_an_endpoint_of_ones_own_is_sent_to_directly() -> None:
    assert route(ENVELOPE, recipient(HTTP)).envelope == ENVELOPE
    assert route(ENVELOPE, recipient(HTTP)).uri == HTTP.uri


def test_a_mediators_did_as_endpoint_means_one_wrap_for_it() -> None:
    to = recipient(Service(MEDIATOR.did))
    outbound = route(ENVELOPE, to)
    assert outbound.uri == "https://mediator.example"
    assert unwrapped(outbound.envelope, MEDIATOR) == Forward(next=to.did, envelopes=(ENVELOPE,))


def test_routing_keys_are_wrapped_for_from_the_last_one_back() -> None:
    inner, middle = Identity.key(), Identity.peer2()
    keys = (middle.agreement_key[0], inner.agreement_key[0])
    to = recipient(Service(MEDIATOR.did, routing_keys=keys))
    first = unwrapped(route(ENVELOPE, to).envelope, MEDIATOR)
    assert first.next == keys[0]
    second = unwrapped(first.envelopes[0], middle)
    assert second.next == keys[1]
    assert unwrapped(second.envelopes[0], inner) == Forward(next=to.did, envelopes=(ENVELOPE,))


def test_routing_keys_of_the_mediator_come_before_it() -> None:
    behind = Identity.peer2([Service("https://outer.example", routing_keys=(OUTER.did,))])
    to = recipient(Service(behind.did))
    outbound = route(ENVELOPE, to)
    assert outbound.uri == "https://outer.example"
    first = unwrapped(outbound.envelope, OUTER)
    assert first.next == behind.did
    assert unwrapped(first.envelopes[0], behind).next == to.did


def test_a_routing_key_with_a_fragment_is_the_only_one_that_opens() -> None:
    hop = Identity.peer2(curves=("X25519", "X25519"))
    kid = f"{hop.did}#key-2"
    outbound = route(ENVELOPE, recipient(Service("http://x", routing_keys=(kid,))))
    assert envelope_recipients(outbound.envelope) == (kid,)


def test_a_mediator_under_its_short_did_is_found_by_the_resolver() -> None:
    mediator = Identity.peer4([HTTP])
    to = recipient(Service(canonical(mediator.did)))
    with pytest.raises(DidError, match="never seen"):
        route(ENVELOPE, to)
    known = {canonical(mediator.did): mediator.did}
    outbound = route(ENVELOPE, to, partial(resolve, known=known.get))
    assert unwrapped(outbound.envelope, mediator).next == to.did


def test_http_goes_before_websocket_whatever_the_order() -> None:
    assert service_of(recipient(WS, HTTP)).uri == HTTP.uri
    assert service_of(recipient(WS)).uri == WS.uri
    assert service_of(recipient(WS, Service(MEDIATOR.did))).uri == MEDIATOR.did


def test_services_that_do_not_take_version_2_are_passed_over() -> None:
    old = Service("https://old.example", accept=("didcomm/aip2;env=rfc19",))
    unsaid = Service("https://unsaid.example", accept=())
    assert service_of(recipient(old, unsaid)).uri == unsaid.uri
    with pytest.raises(DidError):
        service_of(recipient(old))


def test_a_way_that_leads_nowhere_is_the_peers_fault() -> None:
    for services in (
        [],
        [Service("mailto:x@example.com")],
        [Service("http://[broken")],
        [Service("did:web:example.com")],
        [Service("https://x", routing_keys=("nonsense",))],
        [Service("https://x", routing_keys=(f"{MEDIATOR.did}#key-9",))],
        [Service(Identity.peer2().did)],
    ):
        with pytest.raises(DidError):
            route(ENVELOPE, recipient(*services))


def test_a_mediator_may_be_behind_another_mediator() -> None:
    inner = Identity.peer2([Service(MEDIATOR.did)])
    to = recipient(Service(inner.did))
    outbound = route(ENVELOPE, to)
    assert outbound.uri == HTTP.uri
    first = unwrapped(outbound.envelope, MEDIATOR)
    assert first.next == inner.did
    assert unwrapped(first.envelopes[0], inner).next == to.did


def test_mediators_that_name_each_other_are_refused() -> None:
    names = ("did:web:a.example", "did:web:b.example")
    around = {
        one: replace(MEDIATOR.document, did=one, services=(Service(other),))
        for one, other in (names, names[::-1])
    }
    with pytest.raises(DidError, match="each other"):
        route(ENVELOPE, recipient(Service(names[0])), around.__getitem__)


def test_a_chain_of_mediators_ends_somewhere() -> None:
    asked = []

    def endless(did: str) -> DIDDocument:
        asked.append(did)
        return replace(MEDIATOR.document, did=did, services=(Service(f"{did}x"),))

    with pytest.raises(DidError, match="hops"):
        route(ENVELOPE, recipient(Service("did:web:x")), endless)
    assert len(asked) == MAX_HOPS + 1


def test_a_way_with_too_many_hops_is_refused() -> None:
    keys = tuple(Identity.key().did for _ in range(8))
    with pytest.raises(DidError, match="hops"):
        route(ENVELOPE, recipient(Service(MEDIATOR.did, routing_keys=keys)))


def test_a_forward_carries_its_envelopes_unchanged(alice: Identity, bob: Identity) -> None:
    message = Message(type="t", from_=alice.did, to=(bob.did,))
    envelopes = [pack_authcrypt(message, alice, bob.document) for _ in range(3)]
    asked = forward(bob.did, envelopes, MEDIATOR.did, expires_time=100, delay_milli=-50)
    parsed = parse_forward(Message.decode(asked.encode()))
    assert (parsed.next, parsed.expires_time, parsed.delay_milli) == (bob.did, 100, -50)
    assert [unpack(envelope, Identities(bob)).message for envelope in parsed.envelopes] == [message] * 3


def test_a_forward_in_base64_is_read_too() -> None:
    message = Message(
        type=FORWARD, body={"next": "did:key:z"}, attachments=(Attachment(data_base64=ENVELOPE),)
    )
    assert parse_forward(message).envelopes == (ENVELOPE,)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "https://didcomm.org/routing/2.0/other"},
        {"body": {}},
        {"body": {"next": 7}},
        {"body": {"next": "x" * 10_000}},
        {"body": {"next": "did:key:z", "delay_milli": "5"}},
        {"body": {"next": "did:key:z", "delay_milli": 10**12}},
        {"attachments": []},
        {"attachments": [{"id": "a", "data": {"links": ["https://x"]}}]},
        {"attachments": [{"id": "a", "data": {"json": {}}}] * 65},
    ],
)
def test_a_malformed_forward_is_the_peers_fault(change: dict[str, Any]) -> None:
    value = {**forward("did:key:z", [ENVELOPE], MEDIATOR.did).to_json(), **change}
    with pytest.raises(MessageError):
        parse_forward(Message.decode(json.dumps(value).encode()))
