"""What is bound to a session: exported secrets, continuations of a link, contact proofs."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import SessionError
from didmpc.protocols.session.exports import contact_proof, export
from didmpc.protocols.session.handshake import CLASSICAL, Initiation, respond
from didmpc.protocols.session.schedule import extract, label


def continued(alice, bob, mine, theirs, open_id="second"):
    """The second handshake of a link; `theirs` are the exporters that the responder has of it."""
    initiation = Initiation(alice, bob, open_id, suites=[CLASSICAL], continues=mine)
    accept, responder = respond(bob, alice, open_id, initiation.body, continues=theirs)
    return initiation.finish(accept), responder


def test_exports_differ_by_name_and_session_and_have_any_length():
    assert export(b"e" * 32, "a") == export(b"e" * 32, "a", 64)[:32]
    assert len({export(b"e" * 32, "a"), export(b"e" * 32, "b"), export(b"f" * 32, "a")}) == 3


def test_a_link_goes_on_in_a_session_that_proves_the_one_before(parties, pair):
    first = pair[0].exporter
    initiator, responder = continued(*parties, first, [b"x" * 32, first])
    assert initiator.exporter == responder.exporter != first
    assert continued(*parties, initiator.exporter, [initiator.exporter], "third")


def test_accepts_that_get_lost_however_often_do_not_end_that(parties, pair):
    first = pair[0].exporter
    held = (first,)
    for attempt in range(5):  # the initiator has not heard of any of these, and tries again
        initiation = Initiation(
            parties[0], parties[1], f"lost {attempt}", suites=[CLASSICAL], continues=first
        )
        _, responder = respond(parties[1], parties[0], f"lost {attempt}", initiation.body, continues=held)
        held = responder.continuable
    initiator, responder = continued(*parties, first, held, "arrived")
    assert initiator.continuable == responder.continuable == (first, initiator.exporter)
    _, responder = continued(*parties, initiator.exporter, responder.continuable, "an hour later")
    with pytest.raises(SessionError):
        continued(*parties, first, responder.continuable, "by a thief of old keys")


@pytest.mark.parametrize(
    ("mine", "theirs", "code"),
    [
        (b"e" * 32, [b"f" * 32], "e.p.session.policy"),
        (b"e" * 32, [], "e.p.session.roster"),
        (None, [b"e" * 32], "e.p.session.roster"),
    ],
)
def test_who_cannot_prove_the_session_before_does_not_take_over_its_link(parties, mine, theirs, code):
    with pytest.raises(SessionError) as caught:
        continued(*parties, mine, theirs)
    assert caught.value.code == code


def test_a_responder_that_proves_nothing_is_refused(parties):
    """As whoever has stolen both static keys would be."""
    alice, bob = parties
    continuing = Initiation(alice, bob, "id", suites=[CLASSICAL], continues=b"e" * 32)
    plain = Initiation(alice, bob, "id", suites=[CLASSICAL])
    thief = respond(bob, alice, "id", plain.body)[0]
    with pytest.raises(SessionError) as caught:
        continuing.finish(thief)
    assert caught.value.code == "e.p.session.policy"
    eager = respond(bob, alice, "id", continuing.body, continues=[b"e" * 32])[0]
    with pytest.raises(SessionError):
        plain.finish(eager)


def test_a_thief_of_both_static_keys_who_takes_the_proof_gets_no_session(parties, pair):
    """It opens the `open` that continues the link, puts its own keys there, and keeps id and proof."""
    alice, bob = parties
    before = pair[0].exporter
    genuine = Initiation(alice, bob, "second", suites=[CLASSICAL], continues=before)
    secret = X25519PrivateKey.generate()
    hello = json.loads(unb64url(genuine.body["hs"]))
    hello |= {"e": b64url(secret.public_key().public_bytes_raw()), "k": b64url(bytes(32))}
    forged = {"hs": b64url(json.dumps(hello).encode())}
    accept, bobs = respond(bob, alice, "second", forged, continues=[before])
    answer = json.loads(unb64url(accept["hs"]))
    known = extract(
        CLASSICAL,
        kem_secret=b"",
        dh_secret=secret.exchange(X25519PublicKey.from_public_bytes(unb64url(answer["e"]))),
        k_i=bytes(32),
        k_r=unb64url(answer["k"]),
    )
    assert label(known, "i2r", bobs.transcript) != bobs.secret_receive
    with pytest.raises(SessionError):  # nor does the party that it took it from take that answer
        genuine.finish(accept)


def test_a_contact_proof_is_bound_to_secret_role_and_session():
    proofs = [
        contact_proof(secret, role, exporter)
        for secret in (b"p" * 32, b"q" * 32)
        for role in ("i", "r")
        for exporter in (b"e" * 32, b"f" * 32)
    ]
    assert len(set(proofs)) == 8
    assert {len(proof) for proof in proofs} == {32}
