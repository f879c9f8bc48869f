"""Libraries as clients of `didmpc mediator start`: they enrol, register DIDs, and fetch their mail.

The peer speaks HTTP itself; every request asks for its answer on the same connection.
"""

import json

import pytest
from interop_parts import Json, Peer, PeerRefused
from mediated import BASIC, Account, carried

from didmpc.protocols import did as dids
from didmpc.protocols.envelope import pack_authcrypt
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import discover_features, mediation, pickup, problem_report, trust_ping
from didmpc.protocols.messages.routing import route

CLIENTS = ("pypi_didcomm", "pypi_didcomm_messaging", "npm_didcomm_node")
every_client = pytest.mark.parametrize("peer", CLIENTS, indirect=True)
every_version = pytest.mark.parametrize("version", mediation.VERSIONS, ids=["2.0", "3.0"])


@pytest.fixture
def account(peer: Peer, mediator: Json) -> Account:
    return Account(peer, mediator["did"])


@every_client
def test_it_reads_both_services_of_the_mediators_did(account: Account) -> None:
    assert account.url.startswith("http://127.0.0.1:")
    assert account.ws_url.startswith("ws://127.0.0.1:")


@every_client
@pytest.mark.parametrize("method", ["peer2", "peer4"])
def test_it_gets_what_we_send_to_its_did_behind_our_mediator(account: Account, method: str) -> None:
    peer, them = account.peer, account.mailbox(method)
    assert account.ask(pickup.STATUS_REQUEST, recipient_did=them)["message_count"] == 0
    we = Identity.peer4()
    sent = [Message(type=BASIC, body={"content": text}, from_=we.did, to=(them,)) for text in ("one", "two")]
    for message in sent:
        document = dids.resolve(them)
        outbound = route(pack_authcrypt(message, we, document), document)
        assert outbound.uri == account.url
        assert peer.post(outbound.uri, outbound.envelope) == (202, b"")

    status = account.ask(pickup.STATUS_REQUEST, recipient_did=them)
    assert (status["message_count"], status["recipient_did"]) == (2, them)
    delivery = account.ask_whole(pickup.DELIVERY_REQUEST, limit=10, recipient_did=them)
    assert delivery["type"] == pickup.DELIVERY
    opened = [peer.unpack(carried(attachment)) for attachment in delivery["attachments"]]
    assert [each["message"]["id"] for each in opened] == [message.id for message in sent]
    assert {each["sender"] for each in opened} == {we.agreement_key[0]}
    assert account.ask(pickup.STATUS_REQUEST)["message_count"] == 2

    names = [attachment["id"] for attachment in delivery["attachments"]]
    assert account.ask(pickup.MESSAGES_RECEIVED, message_id_list=names)["message_count"] == 0
    empty = account.ask_whole(pickup.DELIVERY_REQUEST, limit=10)
    assert (empty["type"], empty["body"]["message_count"]) == (pickup.STATUS, 0)


@pytest.mark.parametrize("peer", ["pypi_didcomm"], indirect=True)
def test_it_forgets_the_forward_for_an_endpoint_that_is_a_did_and_is_told(account: Account) -> None:
    """Its `pack_encrypted` wraps only where there are routing keys besides: a caller has to wrap."""
    peer, them = account.peer, account.mailbox()
    message = account.message(BASIC, {"content": "hi"}, **{"from": account.did, "to": [them]})
    envelope = peer.pack(message, them, sender=account.did, forward=True, wrap_for_did=False)
    status, problem = peer.post(account.url, envelope)
    assert (status, json.loads(problem)["code"]) == (400, "e.p.trust.crypto")


@every_client
@every_version
def test_the_mediator_answers_it_with_the_key_list(
    peer: Peer, mediator: Json, version: mediation.Version
) -> None:
    account = Account(peer, mediator["did"], version)
    registered = [account.mailbox("peer2"), account.mailbox("peer4")]
    assert {*map(dids.canonical, account.keys())} == {*map(dids.canonical, registered)}
    for did in registered:
        change = {"recipient_did": did, "action": "remove"}
        answer = account.ask(version.update, updates=[change])
        assert answer == {"updated": [{**change, "result": "success"}]}
    assert account.keys() == []


@every_client
def test_a_request_without_return_route_is_obeyed_and_answered_with_an_empty_body(account: Account) -> None:
    """As the Identus agent sends its keylist-update. The account's DID has no service to reply to."""
    peer = account.peer
    account.ask(mediation.MEDIATE_REQUEST)
    change = {"recipient_did": peer.create(), "action": "add"}
    request = account.message(mediation.KEYLIST_UPDATE, {"updates": [change]}, **{"from": account.did})
    del request["return_route"]
    envelope = peer.pack(request, account.mediator, sender=account.did)
    assert peer.post(account.url, envelope) == (202, b"")
    assert account.keys() == [change["recipient_did"]]


@pytest.mark.parametrize(
    ("peer", "curve"),
    [("pypi_didcomm", "P-256"), ("pypi_didcomm", "P-384"), ("npm_didcomm_node", "P-256")],
    indirect=["peer"],
)
def test_a_client_without_an_x25519_key_uses_the_mediators_other_did(
    peer: Peer, mediator: Json, curve: str
) -> None:
    """One DID with all curves would be refused by the Identus SDK, which reads X25519 and Ed25519 alone."""
    account = Account(peer, mediator["nist_did"], curve=curve)
    them = account.mailbox("peer4")
    we = Identity.peer4(curves=("P-256", "P-384", "Ed25519"))
    message = Message(type=BASIC, body={"content": "hi"}, from_=we.did, to=(them,))
    outbound = route(pack_authcrypt(message, we, dids.resolve(them)), dids.resolve(them))
    assert peer.post(outbound.uri, outbound.envelope) == (202, b"")
    (opened,) = account.fetch()
    assert opened["message"]["body"] == {"content": "hi"}
    with pytest.raises(PeerRefused):
        peer.pack(account.message(pickup.STATUS_REQUEST, {}), mediator["did"], sender=account.did)


@every_client
def test_the_mediator_answers_its_ping_and_its_question_for_protocols(account: Account) -> None:
    answer = account.ask_whole(trust_ping.PING, response_requested=True)
    assert answer["type"] == trust_ping.PING_RESPONSE
    queries = [{"feature-type": "protocol", "match": "https://didcomm.org/*"}]
    disclosed = account.ask(discover_features.QUERIES, queries=queries)["disclosures"]
    assert {mediation.PROTOCOL, pickup.PROTOCOL} <= {feature["id"] for feature in disclosed}


@every_client
def test_it_can_read_why_it_is_refused_without_mediation(account: Account) -> None:
    report = account.ask_whole(pickup.STATUS_REQUEST)
    assert report["type"] == problem_report.PROBLEM_REPORT
    assert report["body"]["code"] == "e.p.req.not_enroll"


def test_it_can_verify_why_an_anonymous_request_is_refused(account: Account) -> None:
    """Nobody is known to encrypt the report to, so it comes signed."""
    request = account.message(pickup.STATUS_REQUEST, {})
    status, envelope = account.peer.post(account.url, account.peer.pack(request, account.mediator))
    assert status == 401
    opened = account.peer.unpack(envelope)
    assert opened["signer"].partition("#")[0] == account.mediator
    assert opened["message"]["type"] == problem_report.PROBLEM_REPORT
    assert opened["message"]["body"]["code"].startswith("e.p.")
