"""PyPI `didcomm` as a client of `didmpc mediator start`: it enrols, registers DIDs, and fetches its mail.

The peer speaks HTTP itself; every request asks for its answer on the same connection.
"""

import json
import uuid
from base64 import urlsafe_b64decode

import pytest
from interop_parts import Json, Peer

from didmpc.protocols import did as dids
from didmpc.protocols import discover_features, mediation, pickup, problem_report, trust_ping
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.routing import route

BASIC = "https://didcomm.org/basicmessage/2.0/message"


class Account:
    """A DID of the peer that asks a mediator."""

    def __init__(self, peer: Peer, mediator: str) -> None:
        self.peer = peer
        self.mediator = mediator
        self.did = peer.create()
        self.url, self.ws_url = peer.do("endpoints", did=mediator)

    def message(self, type: str, body: Json, **headers: object) -> Json:
        addressed = {"id": uuid.uuid4().hex, "type": type, "body": body, "to": [self.mediator]}
        return {**addressed, "return_route": "all", **headers}

    def ask(self, type: str, **body: object) -> Json:
        """The body of the answer, which the mediator must prove to be its own, in our thread."""
        return self.ask_whole(type, **body)["body"]

    def ask_whole(self, type: str, **body: object) -> Json:
        request = self.message(type, body, **{"from": self.did})
        status, envelope = self.peer.post(self.url, self.peer.pack(request, self.mediator, sender=self.did))
        assert status == 200, envelope
        opened = self.peer.unpack(envelope)
        assert opened["sender"].partition("#")[0] == self.mediator
        message = opened["message"]
        assert (message["from"], message["to"]) == (self.mediator, [self.did])
        assert request["id"] in (message["thid"], message.get("pthid"))
        return message

    def mailbox(self, method: str) -> str:
        """A new DID of the peer at which mail arrives over the mediator."""
        grant = self.ask(mediation.MEDIATE_REQUEST)
        service = {"uri": grant["routing_did"], "accept": ["didcomm/v2"]}
        did = self.peer.create(method, services=[service])
        change = {"recipient_did": did, "action": "add"}
        answer = self.ask(mediation.KEYLIST_UPDATE, updates=[change])
        assert answer == {"updated": [{**change, "result": "success"}]}
        return did


@pytest.fixture
def account(peer: Peer, mediator: Json) -> Account:
    return Account(peer, mediator["did"])


def test_it_reads_both_services_of_the_mediators_did(account: Account) -> None:
    assert account.url.startswith("http://127.0.0.1:")
    assert account.ws_url.startswith("ws://127.0.0.1:")


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


def carried(attachment: Json) -> bytes:
    """The envelope in an attachment, as a client reads it that knows `base64` and `json`."""
    data = attachment["data"]
    if "json" in data:
        return json.dumps(data["json"]).encode()
    return urlsafe_b64decode(data["base64"] + "=" * (-len(data["base64"]) % 4))


def test_its_clients_reach_each_other_with_forwards_of_their_own(account: Account) -> None:
    peer, them = account.peer, account.mailbox("peer2")
    sender = peer.create("peer4")
    message = {"id": "1", "type": BASIC, "body": {"content": "hi"}, "from": sender, "to": [them]}
    inner = peer.pack(message, them, sender=sender)
    assert peer.post(account.url, peer.wrap(inner, them, account.mediator)) == (202, b"")
    (attachment,) = account.ask_whole(pickup.DELIVERY_REQUEST, limit=1)["attachments"]
    assert peer.unpack(carried(attachment))["message"]["body"] == {"content": "hi"}


def test_it_reaches_us_behind_our_mediator(account: Account) -> None:
    peer, ours = account.peer, Identity.peer2()
    mediator = dids.resolve(account.mediator)

    def ask(request: Message) -> Message:
        request = Message.from_json(
            {**request.to_json(), "from": ours.did, "to": [mediator.did], "return_route": "all"}
        )
        status, body = peer.post(account.url, pack_authcrypt(request, ours, mediator))
        assert status == 200, body
        return unpack(body, Identities(ours)).message

    ask(mediation.mediate_request())
    ask(mediation.keylist_update([(ours.did, "add")]))
    message = {"id": "1", "type": BASIC, "body": {"content": "hi"}, "from": account.did, "to": [ours.did]}
    inner = peer.pack(message, ours.did, sender=account.did)
    assert peer.post(account.url, peer.wrap(inner, ours.did, mediator.did)) == (202, b"")
    ((_, envelope),) = pickup.parse_delivery(ask(pickup.delivery_request(1))).messages
    opened = unpack(envelope, Identities(ours))
    assert (opened.sender, opened.message.body) == (account.did, {"content": "hi"})


def test_the_mediator_answers_it_with_the_key_list(account: Account) -> None:
    registered = [account.mailbox("peer2"), account.mailbox("peer4")]
    keys = account.ask(mediation.KEYLIST_QUERY)["keys"]
    assert all(set(entry) == {"recipient_did"} for entry in keys)
    assert {dids.canonical(entry["recipient_did"]) for entry in keys} == set(map(dids.canonical, registered))
    for did in registered:
        change = {"recipient_did": did, "action": "remove"}
        answer = account.ask(mediation.KEYLIST_UPDATE, updates=[change])
        assert answer == {"updated": [{**change, "result": "success"}]}
    assert account.ask(mediation.KEYLIST_QUERY)["keys"] == []


def test_the_mediator_answers_its_ping_and_its_question_for_protocols(account: Account) -> None:
    answer = account.ask_whole(trust_ping.PING, response_requested=True)
    assert answer["type"] == trust_ping.PING_RESPONSE
    queries = [{"feature-type": "protocol", "match": "https://didcomm.org/*"}]
    disclosed = account.ask(discover_features.QUERIES, queries=queries)["disclosures"]
    assert {mediation.PROTOCOL, pickup.PROTOCOL} <= {feature["id"] for feature in disclosed}


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
