"""PyPI `didcomm-messaging`: envelopes in both directions, and what its two backends do differently.

It knows X25519 alone, anoncrypt with XC20P alone, and neither signatures nor nested envelopes.
"""

import json

import pytest
from interop_parts import Json, Peer, PeerRefused
from mediated import BASIC, Account, OurMailbox

from didmpc.protocols import did as dids
from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.did import Service
from didmpc.protocols.envelope import pack_anoncrypt, pack_authcrypt, pack_signed, unpack
from didmpc.protocols.errors import EnvelopeError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message

pytestmark = pytest.mark.parametrize("peer", ["pypi_didcomm_messaging"], indirect=True)
every_backend = pytest.mark.parametrize("backend", ["authlib", "askar"])
every_method = pytest.mark.parametrize("method", ["peer2", "peer4"])
BODY = {"content": "Grüße, 多方计算"}


class Pair:
    """We, and the peer with a DID of one of its backends."""

    def __init__(self, peer: Peer, backend: str, method: str = "peer2") -> None:
        self.peer = peer
        self.backend = backend
        self.we = (Identity.peer2 if method == "peer2" else Identity.peer4)([Service("https://we.example")])
        self.them = dids.resolve(peer.create(method, backend=backend))

    def ours(self) -> Message:
        return Message(type=BASIC, body=BODY, from_=self.we.did, to=(self.them.did,))

    def theirs(self, authenticated: bool) -> bytes:
        message = {"id": "1", "type": BASIC, "body": BODY, "from": self.them.did, "to": [self.we.did]}
        sender = {"sender": self.them.did} if authenticated else {}
        return self.peer.pack(message, self.we.did, backend=self.backend, **sender)


@every_backend
@every_method
def test_they_open_authcrypt_and_see_who_sent_it(peer: Peer, backend: str, method: str) -> None:
    pair = Pair(peer, backend, method)
    opened = peer.unpack(pack_authcrypt(pair.ours(), pair.we, pair.them))
    assert (opened["message"]["body"], opened["authenticated"]) == (BODY, True)
    assert opened["sender"] == pair.we.agreement_key[0]


@every_backend
@every_method
@pytest.mark.parametrize("enc", ["A256CBC-HS512", "A256GCM", "XC20P"])
def test_they_open_anoncrypt(peer: Peer, backend: str, method: str, enc: str) -> None:
    pair = Pair(peer, backend, method)
    opened = peer.unpack(pack_anoncrypt(pair.ours(), pair.them, enc))
    assert (opened["message"]["body"], opened["authenticated"], opened["sender"]) == (BODY, False, None)


@every_backend
@every_method
def test_we_open_their_authcrypt(peer: Peer, backend: str, method: str) -> None:
    """Askar's says `typ: application/didcomm+encrypted`, which is taken for what it means."""
    pair = Pair(peer, backend, method)
    envelope = pair.theirs(authenticated=True)
    typ = json.loads(unb64url(json.loads(envelope)["protected"]))["typ"]
    assert typ == {"askar": "application/didcomm+encrypted"}.get(
        backend, "application/didcomm-encrypted+json"
    )
    opened = unpack(envelope, Identities(pair.we))
    assert (opened.sender, opened.message.body) == (pair.them.did, BODY)


@every_method
def test_we_open_their_anoncrypt_of_authlib(peer: Peer, method: str) -> None:
    pair = Pair(peer, "authlib", method)
    opened = unpack(pair.theirs(authenticated=False), Identities(pair.we))
    assert (opened.enc, opened.sender, opened.message.body) == ("XC20P", None, BODY)


@every_method
def test_their_anoncrypt_of_askar_is_refused(peer: Peer, method: str) -> None:
    """`epk` stands beside each recipient, where nothing authenticates it, and not in the protected header."""
    pair = Pair(peer, "askar", method)
    envelope = pair.theirs(authenticated=False)
    assert "epk" in json.loads(envelope)["recipients"][0]["header"]
    with pytest.raises(EnvelopeError, match="no ephemeral key"):
        unpack(envelope, Identities(pair.we))


@every_backend
def test_what_is_nested_they_hand_on_unopened(peer: Peer, backend: str) -> None:
    pair = Pair(peer, backend)
    message = pair.ours()
    signed = pack_authcrypt(pack_signed(message, pair.we), pair.we, pair.them)
    assert "signatures" in peer.unpack(signed)["message"]
    hidden = pack_anoncrypt(pack_authcrypt(message, pair.we, pair.them), pair.them)
    inner = peer.unpack(hidden)["message"]
    assert peer.unpack(json.dumps(inner).encode())["message"]["body"] == BODY


# --- at our mediator


def test_a_forward_of_askar_is_refused_with_the_reason(peer: Peer, mediator: Json) -> None:
    account, ours = Account(peer, mediator["did"], backend="askar"), OurMailbox(mediator["did"])
    message = account.message(BASIC, BODY, **{"from": account.did, "to": [ours.did]})
    envelope = peer.pack(message, ours.did, sender=account.did, forward=True)
    status, problem = peer.post(account.url, envelope)
    assert (status, json.loads(problem)["code"]) == (400, "e.p.trust.crypto")
    assert "epk" in json.loads(problem)["title"]


def test_its_quickstart_obtains_mediation_by_version_3(peer: Peer, mediator: Json) -> None:
    relayed = peer.do("quickstart", mediator=mediator["did"])
    assert dids.resolve(relayed).services[0].uri == mediator["did"]
    assert peer.do("quickstart_fetch", relayed=relayed) == []


def test_its_quickstart_cannot_read_mail_that_is_delivered_byte_for_byte(peer: Peer, mediator: Json) -> None:
    """It looks for `json` in an attachment, where ours has `base64`: the envelope as it came. It stays."""
    relayed = peer.do("quickstart", mediator=mediator["did"])
    OurMailbox(mediator["did"]).write(relayed, "hi")
    for _ in range(2):
        with pytest.raises(PeerRefused, match="KeyError: 'json'"):
            peer.do("quickstart_fetch", relayed=relayed)
