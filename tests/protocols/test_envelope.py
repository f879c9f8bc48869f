"""Envelopes between two parties: every layer, every curve, and every contradiction refused."""

import hashlib
import hmac
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from didmpc.protocols import did
from didmpc.protocols.crypto import jose
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.keys import Curve, PrivateKey
from didmpc.protocols.did import DIDDocument, canonical, resolve
from didmpc.protocols.envelope import (
    MAX_RECIPIENTS,
    Unpacked,
    envelope_recipients,
    pack_anoncrypt,
    pack_authcrypt,
    pack_signed,
    unpack,
)
from didmpc.protocols.errors import DidError, EnvelopeError, LocalMisuse, MessageError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import ENCRYPTED, Message

TYPE = "https://didcomm.org/basicmessage/2.0/message"
CURVES: list[Curve] = ["X25519", "P-256", "P-384"]
Json = dict[str, Any]


def note(sender: Identity, *recipients: Identity, **headers: Any) -> Message:
    to = tuple(recipient.did for recipient in recipients)
    return Message(type=TYPE, **{"body": {"content": "hi"}, "from_": sender.did, "to": to, **headers})


def edited(envelope: bytes, edit: Callable[[Json], object]) -> bytes:
    """The envelope after a change of its JSON."""
    value: Json = json.loads(envelope)
    edit(value)
    return json.dumps(value).encode()


def header_edited(envelope: bytes, **changes: Any) -> bytes:
    """The envelope after a change of its protected header; None takes a member out."""

    def edit(value: Json) -> None:
        header = json.loads(unb64url(value["protected"])) | changes
        kept = {name: item for name, item in header.items() if item is not None}
        value["protected"] = b64url(json.dumps(kept).encode())

    return edited(envelope, edit)


# --- what is packed is unpacked


def test_the_media_type_that_askar_writes_is_taken_for_what_it_means_and_no_other(
    alice: Identity, bob: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = jose.encrypt

    def packed(typ: str) -> bytes:
        monkeypatch.setattr(jose, "encrypt", lambda header, *rest: sealed({**header, "typ": typ}, *rest))
        return pack_authcrypt(note(alice, bob), alice, bob.document)

    assert unpack(packed("application/didcomm+encrypted"), Identities(bob)).sender == alice.did
    for other in ("application/didcomm-signed+json", "application/didcomm+signed", "JWT"):
        with pytest.raises(EnvelopeError, match="typ"):
            unpack(packed(other), Identities(bob))


def test_nothing_is_encrypted_to_a_curve_that_is_only_received() -> None:
    sender = Identity.peer4()
    recipient = Identity.peer4(curves=("P-521", "P-256", "X25519"))
    message = note(sender, recipient)
    for envelope, curve in (
        (pack_anoncrypt(message, recipient.document), "P-256"),
        (pack_authcrypt(message, sender, recipient.document), "X25519"),
    ):
        opened = unpack(envelope, Identities(recipient))
        assert opened.recipient_kid and recipient.keys[opened.recipient_kid].curve == curve
    only = Identity.peer4(curves=("P-521", "Ed25519"))
    for pack in (
        lambda: pack_anoncrypt(note(sender, only), only.document),
        lambda: pack_anoncrypt(note(sender, only), only.document, kid=only.agreement_key[0]),
        lambda: pack_authcrypt(note(sender, only), sender, only.document),
        lambda: pack_authcrypt(note(only, only), only, only.document),
    ):
        with pytest.raises(DidError):
            pack()


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("make", [Identity.peer4, Identity.peer2])
def test_authcrypt_proves_its_sender(make: type[Identity], curve: Curve) -> None:
    alice, bob = (make(curves=(curve, "Ed25519")) for _ in range(2))  # type: ignore[call-arg]
    message = note(alice, bob)
    assert unpack(pack_authcrypt(message, alice, bob.document), Identities(bob)) == Unpacked(
        message=message,
        sender=alice.did,
        sender_kid=f"{alice.did}#key-1",
        recipient_kid=f"{bob.did}#key-1",
        signer=None,
        enc="A256CBC-HS512",
    )


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("enc", sorted(jose.ANONCRYPT_ENC))
def test_anoncrypt_proves_no_sender(enc: str, curve: Curve) -> None:
    alice, bob = Identity.peer4(), Identity.peer4(curves=(curve, "Ed25519"))
    message = note(alice, bob)
    opened = unpack(pack_anoncrypt(message, bob.document, enc), Identities(bob))
    assert (opened.message, opened.enc) == (message, enc)
    assert opened.encrypted
    assert not opened.authenticated
    assert opened.sender is opened.signer is None


@pytest.mark.parametrize("curve", ["Ed25519", "P-256", "P-384"])
def test_a_signature_proves_its_signer_to_anyone(curve: Curve) -> None:
    alice = Identity.key(curve) if curve != "Ed25519" else Identity.peer4()
    opened = unpack(pack_signed(note(alice), alice), Identities())
    assert opened.signer == alice.did
    assert not opened.encrypted
    assert not opened.authenticated


def test_layers_nest_in_every_way_that_is_allowed(alice: Identity, bob: Identity) -> None:
    message, to = note(alice, bob), bob.document
    signed = pack_signed(message, alice)
    authenticated = pack_authcrypt(message, alice, to)
    for envelope, sender, signer in (
        (pack_anoncrypt(signed, to), None, alice.did),
        (pack_authcrypt(signed, alice, to), alice.did, alice.did),
        (pack_anoncrypt(authenticated, to), alice.did, None),
        (pack_anoncrypt(pack_authcrypt(signed, alice, to), to), alice.did, alice.did),
    ):
        opened = unpack(envelope, Identities(bob))
        assert (opened.message, opened.sender, opened.signer) == (message, sender, signer)


def test_layers_do_not_nest_in_any_other_way(alice: Identity, bob: Identity) -> None:
    message, to = note(alice, bob), bob.document
    signed = pack_signed(message, alice)
    authenticated, anonymous = pack_authcrypt(message, alice, to), pack_anoncrypt(message, to)
    forbidden = [
        pack_authcrypt(authenticated, alice, to),
        pack_authcrypt(anonymous, alice, to),
        pack_anoncrypt(anonymous, to),
        pack_anoncrypt(pack_anoncrypt(authenticated, to), to),
        pack_anoncrypt(pack_anoncrypt(signed, to), to),
    ]
    for inner in (signed, authenticated, anonymous):
        twice = jose.sign({}, inner, alice.signing_key[1]).split(".")
        header = {"kid": alice.signing_key[0]}
        signature = {"protected": twice[0], "signature": twice[2], "header": header}
        forbidden.append(json.dumps({"payload": twice[1], "signatures": [signature]}).encode())
    for envelope in forbidden:
        with pytest.raises((EnvelopeError, MessageError)):
            unpack(envelope, Identities(bob))


def test_a_message_in_the_clear_is_refused(alice: Identity, bob: Identity) -> None:
    with pytest.raises(EnvelopeError, match="clear"):
        unpack(note(alice, bob).encode(), Identities(bob))


def test_every_recipient_key_opens_and_others_do_not(alice: Identity, mallory: Identity) -> None:
    bob = Identity.peer4(curves=("X25519", "X25519", "Ed25519"))
    envelope = pack_authcrypt(note(alice, bob), alice, bob.document)
    assert envelope_recipients(envelope) == (f"{bob.did}#key-1", f"{bob.did}#key-2")
    for kid in envelope_recipients(envelope):
        one_key = Identities(Identity(bob.did, {kid: bob.keys[kid]}))
        assert unpack(envelope, one_key).recipient_kid == kid
    with pytest.raises(EnvelopeError, match="none of the keys"):
        unpack(envelope, Identities(mallory))


def test_one_key_of_several_can_be_addressed() -> None:
    bob = Identity.peer4(curves=("X25519", "P-256", "Ed25519"))
    kid = f"{bob.did}#key-2"
    envelope = pack_anoncrypt(Message(type=TYPE, to=(bob.did,)), bob.document, kid=kid)
    assert envelope_recipients(envelope) == (kid,)
    assert unpack(envelope, Identities(bob)).recipient_kid == kid


def test_long_and_short_forms_of_a_did_are_one_party(alice: Identity, bob: Identity) -> None:
    known = {canonical(party.did): party.did for party in (alice, bob)}
    short_bob = resolve(canonical(bob.did), known.get)
    short_alice = Identity(
        canonical(alice.did),
        {f"{canonical(alice.did)}#{k.partition('#')[2]}": v for k, v in alice.keys.items()},
    )
    envelope = pack_authcrypt(note(alice, bob), alice, short_bob)
    assert unpack(envelope, Identities(bob)).recipient_kid == f"{canonical(bob.did)}#key-1"

    message = note(alice, bob, from_=canonical(alice.did), to=(canonical(bob.did),))
    opened = unpack(pack_authcrypt(message, alice, bob.document), Identities(bob))
    assert opened.sender == alice.did
    assert opened.message.from_ == canonical(alice.did)

    with pytest.raises(DidError, match="never seen"):
        unpack(signed_as(short_alice, message), Identities(bob))
    opened = unpack(signed_as(short_alice, message), Identities(bob), partial(resolve, known=known.get))
    assert opened.signer == canonical(alice.did)


def signed_as(signer: Identity, message: Message) -> bytes:
    """Signed under whatever key id, which `pack_signed` would not do."""
    kid = next(kid for kid, key in signer.keys.items() if key.curve == "Ed25519")
    protected, payload, signature = jose.sign({}, message.encode(), signer.keys[kid]).split(".")
    signatures = [{"protected": protected, "signature": signature, "header": {"kid": kid}}]
    return json.dumps({"payload": payload, "signatures": signatures}).encode()


def test_a_signed_message_may_be_written_flattened(alice: Identity) -> None:
    def flatten(value: Json) -> None:
        value.update(value.pop("signatures")[0])

    assert unpack(edited(pack_signed(note(alice), alice), flatten), Identities()).signer == alice.did


def test_a_big_message_passes(alice: Identity, bob: Identity) -> None:
    message = note(alice, bob, body={"content": "x" * 2_000_000})
    assert unpack(pack_authcrypt(message, alice, bob.document), Identities(bob)).message == message
    assert unpack(pack_signed(message, alice), Identities(bob)).message == message


def test_the_size_limit_of_the_caller_holds(alice: Identity, bob: Identity) -> None:
    envelope = pack_authcrypt(note(alice, bob), alice, bob.document)
    assert unpack(envelope, Identities(bob), max_size=len(envelope))
    with pytest.raises(MessageError) as caught:
        unpack(envelope, Identities(bob), max_size=len(envelope) - 1)
    assert caught.value.code == "e.p.me.res.storage.message_too_big"


def test_each_envelope_is_new(alice: Identity, bob: Identity) -> None:
    envelopes = [json.loads(pack_authcrypt(note(alice, bob), alice, bob.document)) for _ in range(4)]
    headers = [json.loads(unb64url(envelope["protected"])) for envelope in envelopes]
    assert len({header["epk"]["x"] for header in headers}) == len({item["iv"] for item in envelopes}) == 4


# --- the form on the wire


def test_authcrypt_is_written_as_the_specification_says(alice: Identity, bob: Identity) -> None:
    value = json.loads(pack_authcrypt(note(alice, bob), alice, bob.document))
    header = json.loads(unb64url(value["protected"]))
    skid, kid = f"{alice.did}#key-1", f"{bob.did}#key-1"
    epk = header.pop("epk")
    assert header == {
        "typ": "application/didcomm-encrypted+json",
        "alg": "ECDH-1PU+A256KW",
        "enc": "A256CBC-HS512",
        "skid": skid,
        "apu": b64url(skid.encode()),
        "apv": jose.apv_of([kid]),
    }
    assert set(epk) == {"kty", "crv", "x"}
    assert [item["header"] for item in value["recipients"]] == [{"kid": kid}]
    assert set(value) == {"protected", "recipients", "iv", "ciphertext", "tag"}


def test_apv_does_not_depend_on_the_order_of_recipients() -> None:
    # SHA-256 of "did:example:a#1.did:example:b#1".
    kids = ["did:example:b#1", "did:example:a#1"]
    assert jose.apv_of(kids) == jose.apv_of(sorted(kids))
    assert len(unb64url(jose.apv_of(kids))) == 32


# --- our own mistakes


def test_packing_refuses_what_unpacking_would_refuse(
    alice: Identity, bob: Identity, mallory: Identity
) -> None:
    for message in (note(mallory, bob), note(alice, bob, from_=None), note(alice, mallory)):
        with pytest.raises(LocalMisuse):
            pack_authcrypt(message, alice, bob.document)
    with pytest.raises(LocalMisuse):
        pack_signed(note(mallory, bob), alice)
    with pytest.raises(LocalMisuse):
        pack_anoncrypt(note(alice, mallory), bob.document)
    with pytest.raises(LocalMisuse):
        pack_anoncrypt(note(alice, bob), bob.document, enc="A128GCM")


def test_parties_without_a_common_curve_are_told_so(alice: Identity) -> None:
    bob = Identity.peer4(curves=("P-256", "Ed25519"))
    with pytest.raises(DidError, match="one curve"):
        pack_authcrypt(note(alice, bob), alice, bob.document)
    with pytest.raises(DidError, match="keyAgreement"):
        pack_anoncrypt(b"{}", DIDDocument("did:key:z"))


def test_the_sender_uses_the_curve_that_the_recipient_has(alice: Identity) -> None:
    sender, bob = Identity.peer4(curves=("X25519", "P-256", "Ed25519")), Identity.peer4(curves=("P-256",))
    opened = unpack(pack_authcrypt(note(sender, bob), sender, bob.document), Identities(bob))
    assert opened.sender_kid == f"{sender.did}#key-2"


# --- contradictions between the layers


def sealed_by(sender: Identity, recipient: Identity, message: Message | Json) -> bytes:
    """Authcrypt without the checks of `pack_authcrypt`."""
    content = message.encode() if isinstance(message, Message) else json.dumps(message).encode()
    return pack_authcrypt(content, sender, recipient.document)


@pytest.mark.parametrize("headers", [{"from_": None}, {"from_": "mallory"}, {"from_": "nonsense"}])
def test_authcrypt_by_somebody_else_than_from_is_refused(
    headers: Json, alice: Identity, bob: Identity, mallory: Identity
) -> None:
    if headers["from_"] == "mallory":
        headers = {"from_": mallory.did}
    with pytest.raises(EnvelopeError, match="from"):
        unpack(sealed_by(alice, bob, note(alice, bob, **headers)), Identities(bob))


def test_a_message_to_somebody_else_is_refused(alice: Identity, bob: Identity, mallory: Identity) -> None:
    for to in ((mallory.did,), ("nonsense",)):
        with pytest.raises(EnvelopeError, match="to"):
            unpack(sealed_by(alice, bob, note(alice, to=to)), Identities(bob))
        anonymous = pack_anoncrypt(note(alice, to=to).encode(), bob.document)
        with pytest.raises(EnvelopeError, match="to"):
            unpack(anonymous, Identities(bob))
    assert unpack(sealed_by(alice, bob, note(alice, mallory, bob)), Identities(bob))


def test_a_signature_of_somebody_else_than_from_is_refused(alice: Identity, mallory: Identity) -> None:
    with pytest.raises(EnvelopeError, match="signed"):
        unpack(signed_as(mallory, note(alice)), Identities())


def test_a_signed_and_encrypted_message_must_name_its_recipient(alice: Identity, bob: Identity) -> None:
    signed = pack_signed(note(alice), alice)
    for envelope in (pack_anoncrypt(signed, bob.document), pack_authcrypt(signed, alice, bob.document)):
        with pytest.raises(EnvelopeError, match="recipient"):
            unpack(envelope, Identities(bob))


def test_a_signed_message_cannot_be_passed_on_as_one_for_somebody_else(
    alice: Identity, bob: Identity, mallory: Identity
) -> None:
    signed = pack_signed(note(alice, mallory), alice)
    with pytest.raises(EnvelopeError):
        unpack(pack_anoncrypt(signed, bob.document), Identities(bob))


def test_a_signature_inside_the_authcrypt_of_another_is_refused(
    alice: Identity, bob: Identity, mallory: Identity
) -> None:
    signed = pack_signed(note(alice, bob), alice)
    with pytest.raises(EnvelopeError):
        unpack(pack_authcrypt(signed, mallory, bob.document), Identities(bob))


def test_a_key_that_may_only_agree_does_not_sign_and_the_reverse(bob: Identity) -> None:
    # One P-256 key listed for agreement only: its signature proves nothing.
    agrees = Identity.peer4(curves=("P-256",))
    kid, key = agrees.agreement_key
    protected, payload, signature = jose.sign({}, note(agrees).encode(), key).split(".")
    value = {
        "payload": payload,
        "signatures": [{"protected": protected, "signature": signature, "header": {"kid": kid}}],
    }
    with pytest.raises(DidError, match="authentication"):
        unpack(json.dumps(value).encode(), Identities(bob))


def test_a_key_of_ours_that_signs_opens_no_envelope() -> None:
    one = Identity.peer4(curves=("X25519", "secp256k1"))
    kid, key = one.signing_key
    header = {"alg": jose.ANONCRYPT, "enc": "A256GCM", "apv": jose.apv_of([kid])}
    sealed = jose.encrypt(header, Message(type=TYPE).encode(), [(kid, key.public)], None)
    with pytest.raises(EnvelopeError, match="only signs"):
        unpack(json.dumps(sealed).encode(), Identities(one))


# --- contradictions inside one envelope


@pytest.mark.parametrize(
    "changes",
    [
        {"typ": "application/didcomm-signed+json"},
        {"typ": 7},
        {"alg": "ECDH-ES+A256KW"},
        {"alg": "ECDH-1PU+A128KW"},
        {"alg": "ECDH-1PU"},
        {"alg": "dir"},
        {"alg": "RSA1_5"},
        {"alg": "none"},
        {"alg": None},
        {"enc": "A256GCM"},
        {"enc": "XC20P"},
        {"enc": "A128CBC-HS256"},
        {"enc": ["A256CBC-HS512"]},
        {"enc": None},
        {"apv": None},
        {"apv": 7},
        {"apv": b64url(bytes(32))},
        {"apu": None},
        {"apu": b64url(b"did:key:zOther#zOther")},
        {"apu": "*"},
        {"apu": b64url(b"\xff")},
        {"skid": "did:key:zOther#zOther"},
        {"skid": 7},
        {"epk": None},
        {"epk": {}},
        {"epk": {"kty": "OKP", "crv": "X25519", "x": b64url(bytes(32))}},
        {"epk": {"kty": "OKP", "crv": "Ed25519", "x": b64url(bytes(32))}},
        {"epk": {"kty": "OKP", "crv": "X448", "x": b64url(bytes(56))}},
        {"epk": PrivateKey.generate("P-256").public.jwk()},
        {"crit": ["exp"], "exp": 1},
        {"zip": "DEF"},
        {"b64": False},
        {"added": 1},
    ],
)
def test_a_changed_protected_header_is_refused(changes: Json, alice: Identity, bob: Identity) -> None:
    envelope = pack_authcrypt(note(alice, bob), alice, bob.document)
    with pytest.raises((EnvelopeError, DidError)):
        unpack(header_edited(envelope, **changes), Identities(bob))


def test_the_protected_header_is_authenticated_byte_for_byte(alice: Identity, bob: Identity) -> None:
    envelope = pack_authcrypt(note(alice, bob), alice, bob.document)

    def respace(value: Json) -> None:
        value["protected"] = b64url(json.dumps(json.loads(unb64url(value["protected"])), indent=1).encode())

    with pytest.raises(EnvelopeError):
        unpack(edited(envelope, respace), Identities(bob))


def test_a_header_in_any_spelling_of_json_opens(alice: Identity, bob: Identity) -> None:
    """Other makers put spaces and other orders into the protected header; the bytes are what counts."""
    public = bob.document.key_agreement[0]
    plain = jose.encrypt(
        {
            "apv": jose.apv_of([public.kid]),
            "enc": "A256GCM",
            "alg": jose.ANONCRYPT,
            "é": "ü",
            "typ": ENCRYPTED,
        },
        note(alice, bob).encode(),
        [(public.kid, public.public)],
        None,
    )
    assert unpack(json.dumps(plain, indent=2).encode(), Identities(bob)).enc == "A256GCM"


def test_apu_names_the_sender_where_skid_is_absent(alice: Identity, bob: Identity) -> None:
    skid, key = alice.agreement_key
    kid, public = bob.document.key_agreement[0].kid, bob.document.key_agreement[0].public
    header = {"typ": ENCRYPTED, "alg": jose.AUTHCRYPT, "enc": "A256CBC-HS512", "apv": jose.apv_of([kid])}
    sealed = jose.encrypt(
        {**header, "apu": b64url(skid.encode())}, note(alice, bob).encode(), [(kid, public)], key
    )
    assert unpack(json.dumps(sealed).encode(), Identities(bob)).sender == alice.did


def test_the_recipients_cannot_be_changed(alice: Identity, bob: Identity, mallory: Identity) -> None:
    envelope = pack_authcrypt(note(alice, bob), alice, bob.document)

    def add(value: Json) -> None:
        value["recipients"].append({"header": {"kid": f"{mallory.did}#key-1"}, "encrypted_key": "AA"})

    def rename(value: Json) -> None:
        value["recipients"][0]["header"]["kid"] = f"{canonical(bob.did)}#key-1"

    def none(value: Json) -> None:
        value["recipients"] = []

    def many(value: Json) -> None:
        value["recipients"] *= MAX_RECIPIENTS + 1

    def nameless(value: Json) -> None:
        value["recipients"][0]["header"] = {}

    def flattened(value: Json) -> None:
        value.update(value.pop("recipients")[0])

    for edit in (add, rename, none, many, nameless, flattened):
        with pytest.raises(EnvelopeError):
            unpack(edited(envelope, edit), Identities(bob))


def test_an_epk_beside_the_recipient_is_not_used(alice: Identity, bob: Identity) -> None:
    envelope = pack_anoncrypt(note(alice, bob), bob.document)

    def move(value: Json) -> None:
        header = json.loads(unb64url(value["protected"]))
        value["recipients"][0]["header"]["epk"] = header.pop("epk")
        value["protected"] = b64url(json.dumps(header).encode())

    with pytest.raises(EnvelopeError, match="epk"):
        unpack(edited(envelope, move), Identities(bob))


@pytest.mark.parametrize("name", ["unprotected", "aad"])
def test_members_that_didcomm_does_not_use_are_refused(name: str, alice: Identity, bob: Identity) -> None:
    envelope = pack_anoncrypt(note(alice, bob), bob.document)
    with pytest.raises(EnvelopeError):
        unpack(edited(envelope, lambda value: value.update({name: "AA"})), Identities(bob))


def test_a_sender_who_knows_only_the_recipients_key_cannot_be_another(
    alice: Identity, bob: Identity, mallory: Identity
) -> None:
    """Mallory seals with her own key under Alice's key id: Bob derives another secret."""
    skid, kid, public = alice.agreement_key[0], f"{bob.did}#key-1", bob.document.key_agreement[0].public
    header = {
        "typ": ENCRYPTED,
        "alg": jose.AUTHCRYPT,
        "enc": "A256CBC-HS512",
        "skid": skid,
        "apu": b64url(skid.encode()),
        "apv": jose.apv_of([kid]),
    }
    forged = jose.encrypt(header, note(alice, bob).encode(), [(kid, public)], mallory.agreement_key[1])
    with pytest.raises(EnvelopeError, match="cannot be opened"):
        unpack(json.dumps(forged).encode(), Identities(bob))


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value["signatures"].append(value["signatures"][0]),
        lambda value: value.update(signatures=[]),
        lambda value: value.update(signatures=[7]),
        lambda value: value["signatures"][0].pop("header"),
        lambda value: value["signatures"][0].update(header=7),
        lambda value: value["signatures"][0].pop("protected"),
        lambda value: value["signatures"][0].update(signature=""),
        lambda value: value["signatures"][0].update(signature=b64url(os.urandom(64))),
        lambda value: value["signatures"][0]["header"].update(kid="did:key:zX#zX"),
        lambda value: value.update(payload=b64url(b"{}")),
        lambda value: value.update(payload=7),
        lambda value: value["signatures"][0].update(protected=b64url(b'{"alg":"none"}')),
        lambda value: value["signatures"][0].update(protected=b64url(b'{"alg":"HS256"}')),
        lambda value: value["signatures"][0].update(protected=b64url(b'{"alg":"ES256"}')),
        lambda value: value["signatures"][0].update(protected=b64url(b"[]")),
        lambda value: value["signatures"][0].update(protected="*"),
    ],
)
def test_a_changed_signed_message_is_refused(edit: Callable[[Json], object], alice: Identity) -> None:
    with pytest.raises((EnvelopeError, DidError, MessageError)):
        unpack(edited(pack_signed(note(alice), alice), edit), Identities())


def test_a_public_key_is_no_hmac_secret(alice: Identity) -> None:
    """The old confusion: a token signed with HS256 under the public key as the secret."""
    kid, key = alice.signing_key
    protected, payload = b64url(b'{"alg":"HS256"}'), b64url(note(alice).encode())
    tag = hmac.new(key.public.raw, f"{protected}.{payload}".encode(), hashlib.sha256).digest()
    signature = {"protected": protected, "signature": b64url(tag), "header": {"kid": kid}}
    with pytest.raises(EnvelopeError):
        unpack(json.dumps({"payload": payload, "signatures": [signature]}).encode(), Identities())


def test_a_short_tag_is_refused(alice: Identity, bob: Identity) -> None:
    for enc in sorted(jose.ANONCRYPT_ENC):
        envelope = pack_anoncrypt(note(alice, bob), bob.document, enc)
        for size in (0, 1, 12, 15):

            def cut(value: Json, size: int = size) -> None:
                value["tag"] = b64url(unb64url(value["tag"])[:size])

            with pytest.raises(EnvelopeError):
                unpack(edited(envelope, cut), Identities(bob))


def test_recipients_are_read_without_opening(alice: Identity, bob: Identity) -> None:
    envelope = pack_authcrypt(note(alice, bob), alice, bob.document)
    assert envelope_recipients(envelope) == (f"{bob.did}#key-1",)
    for other in (b"", b"7", b"{}", pack_signed(note(alice), alice), b'{"recipients":[7]}'):
        with pytest.raises((EnvelopeError, MessageError)):
            envelope_recipients(other)


def test_a_resolver_of_ones_own_is_asked_for_the_sender(alice: Identity, bob: Identity) -> None:
    asked: list[str] = []

    def recording(name: str) -> DIDDocument:
        asked.append(name)
        return did.resolve(name)

    unpack(pack_authcrypt(note(alice, bob), alice, bob.document), Identities(bob), recording)
    assert asked == [alice.did]


def test_a_key_of_another_curve_than_its_name_promises_is_refused(alice: Identity, bob: Identity) -> None:
    envelope = pack_authcrypt(note(alice, bob), alice, bob.document)
    impostor = Identities(Identity(bob.did, {f"{bob.did}#key-1": PrivateKey.generate("P-256")}))
    with pytest.raises(EnvelopeError, match="curve"):
        unpack(envelope, impostor)
