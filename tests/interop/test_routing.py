"""Forwards in both directions: what our `route()` wraps, PyPI `didcomm` unwraps, and the other way round."""

import json

import pytest
from interop_parts import Peer

from didmpc.protocols import did as dids
from didmpc.protocols.did import Service
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages.routing import parse_forward, route

TYPE = "https://didcomm.org/trust-ping/2.0/ping"
TWO_SERVICES = [
    {"uri": "https://mediator.example", "accept": ["didcomm/v2"]},
    {"uri": "wss://mediator.example/ws", "accept": ["didcomm/v2"]},
]


def packed_for(recipient: str) -> tuple[Identity, Message, bytes]:
    we = Identity.peer4()
    message = Message(type=TYPE, from_=we.did, to=(recipient,))
    return we, message, pack_authcrypt(message, we, dids.resolve(recipient))


@pytest.mark.parametrize("method", ["peer2", "peer4"])
def test_their_mediator_unwraps_what_we_route_to_its_did(peer: Peer, method: str) -> None:
    mediator = peer.create(services=TWO_SERVICES)
    them = peer.create(method, services=[{"uri": mediator, "accept": ["didcomm/v2"]}])
    we, message, envelope = packed_for(them)
    outbound = route(envelope, dids.resolve(them))
    assert outbound.uri == "https://mediator.example"
    next, forwarded = peer.unwrap(outbound.envelope)
    assert next == them
    assert json.loads(forwarded) == json.loads(envelope)
    opened = peer.unpack(forwarded)
    assert (opened["message"]["id"], opened["sender"]) == (message.id, we.agreement_key[0])


def test_their_mediators_unwrap_every_routing_key_in_order(peer: Peer) -> None:
    """An endpoint that is a DID, and behind that mediator one more, named by its key."""
    outer, inner = peer.create(services=TWO_SERVICES), peer.create(curve="P-256")
    inner_key = dids.resolve(inner).key_agreement[0].kid
    them = peer.create(services=[{"uri": outer, "accept": ["didcomm/v2"], "routingKeys": [inner_key]}])
    _, message, envelope = packed_for(them)
    next, forwarded = peer.unwrap(route(envelope, dids.resolve(them)).envelope)
    assert next == inner_key
    next, forwarded = peer.unwrap(forwarded)
    assert next == them
    assert peer.unpack(forwarded)["message"]["id"] == message.id


@pytest.mark.parametrize("enc", ["A256CBC-HS512", "A256GCM", "XC20P"])
def test_we_unwrap_what_they_pack_for_our_routing_keys(peer: Peer, enc: str) -> None:
    outer, inner = Identity.peer2(), Identity.peer4()
    hops = tuple(hop.agreement_key[0] for hop in (outer, inner))
    we = Identity.peer4([Service("https://mediator.example", routing_keys=hops)])
    them = peer.create()
    message = {"id": "1", "type": TYPE, "body": {}, "from": them, "to": [we.did]}
    envelope = peer.pack(message, we.did, sender=them, forward=True, enc=enc)
    opened = unpack(envelope, Identities(outer))
    assert (opened.enc, opened.authenticated) == (enc, False)
    forward = parse_forward(opened.message)
    assert forward.next == hops[1]
    forward = parse_forward(unpack(forward.envelopes[0], Identities(inner)).message)
    assert forward.next == we.did
    (envelope,) = forward.envelopes
    assert unpack(envelope, Identities(we)).sender == them


def test_we_unwrap_what_they_wrap_for_our_mediators_did(peer: Peer) -> None:
    mediator = Identity.peer2([Service("https://mediator.example"), Service("wss://mediator.example/ws")])
    we, them = Identity.peer4([Service(mediator.did)]), peer.create("peer4")
    message = {"id": "1", "type": TYPE, "body": {}, "from": them, "to": [we.did]}
    # Left alone, `didcomm` wraps nothing for an endpoint that is a DID without routing keys.
    envelope = peer.wrap(peer.pack(message, we.did, sender=them), we.did, mediator.did)
    forward = parse_forward(unpack(envelope, Identities(mediator)).message)
    assert forward.next == we.did
    assert unpack(forward.envelopes[0], Identities(we)).sender == them
