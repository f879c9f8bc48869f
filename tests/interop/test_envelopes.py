"""Envelopes in both directions between our core and the libraries that offer all of DIDComm.

What one packs, the other opens: PyPI `didcomm`, and npm `didcomm-node`, which knows neither P-384 nor ES384.
"""

import json
from typing import Literal

import pytest
from interop_parts import Json, Peer, PeerRefused

from didmpc.protocols import did as dids
from didmpc.protocols import from_prior
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.keys import Curve
from didmpc.protocols.did import DIDDocument, Service
from didmpc.protocols.envelope import Unpacked, pack_anoncrypt, pack_authcrypt, pack_signed, unpack
from didmpc.protocols.errors import DidError, EnvelopeError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Attachment, Message

TYPE = "https://didcomm.org/basicmessage/2.0/message"
BODY = {"content": "Grüße, 多方计算", "n": [1, 2.5, None, True]}
BYTES = bytes(range(256))

Form = tuple[Literal["peer2", "peer4"], Curve]
FORMS: dict[str, list[Form]] = {
    name: [(method, curve) for method in ("peer2", "peer4") for curve in curves]
    for name, curves in {
        "pypi_didcomm": ("X25519", "P-256", "P-384"),
        "npm_didcomm_node": ("X25519", "P-256"),
    }.items()
}
every_form = pytest.mark.parametrize(
    ("peer", "form"),
    [pytest.param(name, form, id="-".join((name, *form))) for name, forms in FORMS.items() for form in forms],
    indirect=["peer"],
)
only_pypi = pytest.mark.parametrize("peer", ["pypi_didcomm"], indirect=True)
every_enc = pytest.mark.parametrize("enc", ["A256CBC-HS512", "A256GCM", "XC20P"])


class Pair:
    """We with a DID of ours, and the peer with one of its own of the same form."""

    def __init__(self, peer: Peer, form: Form = ("peer2", "X25519")) -> None:
        method, curve = form
        make = Identity.peer2 if method == "peer2" else Identity.peer4
        self.peer = peer
        self.we = make([Service("https://we.example")], curves=(curve, "Ed25519"))
        self.them: DIDDocument = dids.resolve(
            peer.create(method, curve, services=[{"uri": "https://them.example", "accept": ["didcomm/v2"]}])
        )

    def ours(self, **headers: object) -> Message:
        """A message from us to the peer."""
        everything = {
            "from_": self.we.did,
            "to": (self.them.did,),
            "created_time": 1_700_000_000,
            "expires_time": 4_000_000_000,
            "pthid": "a-parent",
            "attachments": (
                Attachment(id="bytes", data_base64=BYTES, media_type="application/octet-stream"),
                Attachment(id="json", data_json={"deep": [{"er": 1}]}, filename="deeper.json"),
            ),
        }
        return Message(type=TYPE, body=BODY, **{**everything, **headers})  # type: ignore[arg-type]

    def theirs(self, **headers: object) -> Json:
        """A message from the peer to us."""
        message = {"id": "1", "type": TYPE, "body": BODY, "from": self.them.did, "to": [self.we.did]}
        return {**message, **headers}

    def opened_by_us(self, envelope: bytes) -> Unpacked:
        opened = unpack(envelope, Identities(self.we))
        assert (opened.message.type, opened.message.body) == (TYPE, BODY)
        return opened

    def opened_by_them(self, envelope: bytes, sent: Message) -> Json:
        opened = self.peer.unpack(envelope)
        got = Message.from_json(opened["message"])
        assert (got.body, got.id, got.from_, got.to) == (sent.body, sent.id, sent.from_, sent.to)
        assert got.attachments == sent.attachments
        assert (got.created_time, got.expires_time) == (sent.created_time, sent.expires_time)
        assert (got.pthid, got.thread) == (sent.pthid, sent.id)
        return opened


# --- in the clear


def test_a_plaintext_is_the_same_message_on_both_sides(peer: Peer) -> None:
    pair = Pair(peer)
    message = pair.ours()
    pair.opened_by_them(message.encode(), message)
    read = Message.decode(peer.plain(pair.theirs(created_time=1, thid="2")))
    assert (read.id, read.body, read.from_, read.to) == ("1", BODY, pair.them.did, (pair.we.did,))
    assert (read.created_time, read.thid) == (1, "2")


def test_their_plaintext_is_refused_where_an_envelope_is_wanted(peer: Peer) -> None:
    pair = Pair(peer)
    with pytest.raises(EnvelopeError, match="in the clear"):
        unpack(peer.plain(pair.theirs()), Identities(pair.we))


# --- from us to them


@every_form
def test_they_open_authcrypt_and_see_who_sent_it(peer: Peer, form: Form) -> None:
    pair = Pair(peer, form)
    message = pair.ours()
    opened = pair.opened_by_them(pack_authcrypt(message, pair.we, pair.them), message)
    assert opened["authenticated"]
    assert opened["sender"] == pair.we.agreement_key[0]
    assert opened["recipients"] == [pair.them.key_agreement[0].kid]


def test_they_open_authcrypt_from_another_kind_of_did(peer: Peer) -> None:
    two, four = Pair(peer, ("peer2", "X25519")), Pair(peer, ("peer4", "X25519"))
    message = four.ours(to=(two.them.did,))
    opened = four.opened_by_them(pack_authcrypt(message, four.we, two.them), message)
    assert opened["sender"] == four.we.agreement_key[0]


@every_form
@every_enc
def test_they_open_anoncrypt(peer: Peer, form: Form, enc: str) -> None:
    pair = Pair(peer, form)
    message = pair.ours(from_=None)
    opened = pair.opened_by_them(pack_anoncrypt(message, pair.them, enc), message)
    assert opened["enc"] == enc
    assert opened["anonymous_sender"] and not opened["authenticated"]
    assert opened["sender"] is None


@every_enc
def test_they_open_authcrypt_inside_anoncrypt(peer: Peer, enc: str) -> None:
    pair = Pair(peer)
    message = pair.ours()
    envelope = pack_anoncrypt(pack_authcrypt(message, pair.we, pair.them), pair.them, enc)
    opened = pair.opened_by_them(envelope, message)
    assert opened["anonymous_sender"] and opened["authenticated"]
    assert opened["sender"] == pair.we.agreement_key[0]


@pytest.mark.parametrize("form", [("peer2", "X25519"), ("peer4", "X25519")], ids="-".join)
def test_they_verify_our_signature(peer: Peer, form: Form) -> None:
    pair = Pair(peer, form)
    message = pair.ours()
    opened = pair.opened_by_them(pack_signed(message, pair.we), message)
    assert opened["signer"] == pair.we.signing_key[0]
    assert opened["recipients"] is None


def test_they_verify_our_signature_inside_encryption(peer: Peer) -> None:
    pair = Pair(peer)
    message = pair.ours()
    signed = pack_signed(message, pair.we)
    opened = pair.opened_by_them(pack_authcrypt(signed, pair.we, pair.them), message)
    assert opened["signer"] == pair.we.signing_key[0]
    assert opened["sender"] == pair.we.agreement_key[0]
    opened = pair.opened_by_them(pack_anoncrypt(signed, pair.them), message)
    assert opened["signer"] == pair.we.signing_key[0]
    assert opened["sender"] is None


def test_they_refuse_an_envelope_of_ours_that_was_changed(peer: Peer) -> None:
    pair = Pair(peer)
    envelope = pack_authcrypt(pair.ours(), pair.we, pair.them)
    middle = envelope.index(b'"ciphertext":"') + 40
    changed = envelope[:middle] + (b"B" if envelope[middle : middle + 1] == b"A" else b"A")
    with pytest.raises(PeerRefused, match="Malformed"):
        peer.unpack(changed + envelope[middle + 1 :])


def test_they_follow_us_from_an_old_did_to_a_new_one(peer: Peer) -> None:
    pair = Pair(peer)
    old = Identity.peer4()
    message = pair.ours(from_prior=from_prior.create(old, pair.we.did, now=1_700_000_000.5))
    opened = pair.opened_by_them(pack_authcrypt(message, pair.we, pair.them), message)
    assert opened["prior_signer"] == old.signing_key[0]
    assert opened["prior"] == {"iss": old.did, "sub": pair.we.did, "iat": 1_700_000_000}


# --- from them to us


@every_form
def test_we_open_their_authcrypt_and_see_who_sent_it(peer: Peer, form: Form) -> None:
    pair = Pair(peer, form)
    opened = pair.opened_by_us(peer.pack(pair.theirs(), pair.we.did, sender=pair.them.did))
    assert opened.authenticated
    assert opened.sender == pair.them.did
    assert opened.recipient_kid == pair.we.agreement_key[0]


@every_form
@every_enc
def test_we_open_their_anoncrypt(peer: Peer, form: Form, enc: str) -> None:
    pair = Pair(peer, form)
    opened = pair.opened_by_us(peer.pack(pair.theirs(), pair.we.did, enc=enc))
    assert (opened.enc, opened.sender, opened.authenticated) == (enc, None, False)


@every_enc
def test_we_open_their_authcrypt_inside_anoncrypt(peer: Peer, enc: str) -> None:
    pair = Pair(peer)
    envelope = peer.pack(pair.theirs(), pair.we.did, sender=pair.them.did, hide_sender=True, enc=enc)
    assert pair.opened_by_us(envelope).sender == pair.them.did


@pytest.mark.parametrize("signing", ["Ed25519", "P-256"])
@pytest.mark.parametrize("method", ["peer2", "peer4"])
def test_we_verify_their_signature(peer: Peer, method: str, signing: str) -> None:
    pair = Pair(peer)
    # `peerdid` writes only keys of its own two curves; the did:peer:2 of a P-256 key is written by hand.
    did = peer.create(method, "P-256" if signing == "P-256" else "X25519", signing=signing)
    opened = pair.opened_by_us(peer.sign(pair.theirs(**{"from": did}), did))
    assert (opened.signer, opened.sender, opened.encrypted) == (did, None, False)


@pytest.mark.parametrize("peer", ["npm_didcomm_node"], indirect=True)
@pytest.mark.parametrize("method", ["peer2", "peer4"])
def test_we_verify_their_es256k_signature_which_we_never_make(peer: Peer, method: str) -> None:
    pair = Pair(peer)
    did = peer.create(method, "X25519", signing="secp256k1")
    envelope = peer.sign(pair.theirs(**{"from": did}), did)
    assert pair.opened_by_us(envelope).signer == did
    value = json.loads(envelope)
    value["signatures"][0]["protected"] = b64url(b'{"typ":"application/didcomm-signed+json","alg":"ES256"}')
    with pytest.raises(EnvelopeError):
        unpack(json.dumps(value).encode(), Identities(pair.we))


@only_pypi
@pytest.mark.parametrize("method", ["peer2", "peer4"])
@pytest.mark.parametrize("enc", ["A256CBC-HS512", "A256GCM", "XC20P", None])
def test_we_open_their_envelope_to_a_p521_key_which_we_never_offer(
    peer: Peer, method: str, enc: str | None
) -> None:
    pair = Pair(peer)
    them = peer.create(method, "P-521")
    make = Identity.peer2 if method == "peer2" else Identity.peer4
    we = make([Service("https://we.example")], curves=("P-521", "Ed25519"))
    message = pair.theirs(**{"from": them, "to": [we.did]})
    envelope = peer.pack(message, we.did, enc=enc) if enc else peer.pack(message, we.did, sender=them)
    opened = unpack(envelope, Identities(we))
    assert (opened.message.body, opened.sender) == (BODY, None if enc else them)


def test_we_verify_their_signature_inside_encryption(peer: Peer) -> None:
    pair = Pair(peer)
    them = pair.them.did
    opened = pair.opened_by_us(peer.pack(pair.theirs(), pair.we.did, sender=them, signer=them))
    assert (opened.signer, opened.sender) == (them, them)
    opened = pair.opened_by_us(peer.pack(pair.theirs(), pair.we.did, signer=them))
    assert (opened.signer, opened.sender, opened.encrypted) == (them, None, True)


def test_we_refuse_their_message_that_claims_another_sender(peer: Peer) -> None:
    pair = Pair(peer)
    other = peer.create()
    forged = peer.sign(pair.theirs(**{"from": other}), pair.them.did)
    with pytest.raises(EnvelopeError, match="signed"):
        unpack(forged, Identities(pair.we))


def test_we_follow_them_from_an_old_did_to_a_new_one(peer: Peer) -> None:
    pair = Pair(peer)
    old = peer.create()
    prior = {"iss": old, "sub": pair.them.did, "iat": 1_700_000_000}
    envelope = peer.pack(pair.theirs(from_prior=prior), pair.we.did, sender=pair.them.did)
    opened = pair.opened_by_us(envelope)
    assert opened.sender is not None and opened.message.from_prior is not None
    assert from_prior.verify(opened.message.from_prior, opened.sender) == old


@only_pypi
def test_we_open_their_envelope_whose_ephemeral_key_lacks_leading_zeros(peer: Peer) -> None:
    """About one of 128 from a NIST curve, because they write its coordinates as bare numbers."""
    pair = Pair(peer, ("peer2", "P-256"))
    size = 0
    while size == 0 or size == 64:
        envelope = peer.pack(pair.theirs(), pair.we.did, sender=pair.them.did)
        epk = json.loads(unb64url(json.loads(envelope)["protected"]))["epk"]
        size = sum(len(unb64url(epk[name])) for name in "xy")
    assert pair.opened_by_us(envelope).sender == pair.them.did


@only_pypi
@pytest.mark.parametrize("curve", ["X25519", "P-256"])
def test_their_service_is_understood_flat_as_before_2023_and_as_an_object(peer: Peer, curve: Curve) -> None:
    """`peerdid` writes the flat one, for the curve that it knows."""
    hop = "did:key:z6LS#z6LS"
    service = {"uri": "https://them.example/in", "accept": ["didcomm/v2"], "routingKeys": [hop]}
    (read,) = dids.resolve(peer.create(curve=curve, services=[service])).services
    assert (read.uri, read.accept) == ("https://them.example/in", ("didcomm/v2",))
    assert read.routing_keys == (hop,)


@only_pypi
def test_the_key_names_of_peerdid_itself_are_refused_and_named(peer: Peer) -> None:
    """It names a key after its first characters. The method has it `#key-N`, and both sides must agree."""
    pair = Pair(peer)
    them = peer.create(peerdid_key_names=True)
    envelope = peer.pack(pair.theirs(**{"from": them}), pair.we.did, sender=them)
    with pytest.raises(DidError, match="no keyAgreement key #6LS"):
        unpack(envelope, Identities(pair.we))
