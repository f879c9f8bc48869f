"""The handshake: what two honest sides get, and what a dishonest or damaged one is refused for."""

import base64
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import LocalMisuse, SessionError
from didmpc.protocols.identity import Identity
from didmpc.protocols.session.handshake import (
    CLASSICAL,
    HYBRID,
    Established,
    Initiation,
    Party,
    decline_body,
    respond,
)

LINK = {"attempt": "a1", "manifest_sha256": "00" * 32, "pid_i": 0, "pid_r": 2}
ALICE, BOB = Party.of(Identity.peer4()), Party.of(Identity.peer4())
OPEN = Initiation(ALICE, BOB, "id", link=LINK).body


def altered(body, **members):
    """The same body with members of its hello changed; a member set to None is left out."""
    text = body["hs"]
    value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    value.update(members)
    value = {name: member for name, member in value.items() if member is not None or name == "link"}
    return {**body, "hs": b64url(json.dumps(value).encode())}


def test_two_sides_agree_and_see_what_the_other_stated():
    initiation = Initiation(
        ALICE, BOB, "id", link=LINK, caps=[{"channel": 1}], policy={"session": "required"}
    )
    accept, responder = respond(
        BOB, ALICE, "id", initiation.body, link={"attempt": "a1"}, limits={"window_records": 9}
    )
    initiator = initiation.finish(accept)
    assert initiator.secret_send == responder.secret_receive
    assert initiator.secret_receive == responder.secret_send
    assert initiator.secret_send != initiator.secret_receive
    assert initiator.exporter == responder.exporter
    assert responder.peer_hs == {
        "link": LINK,
        "caps": [{"channel": 1}],
        "limits": {},
        "policy": {"session": "required"},
    }
    assert initiator.peer_hs["limits"] == {"window_records": 9}


@pytest.mark.parametrize(
    ("offered", "accepted", "chosen"),
    [
        ((HYBRID, CLASSICAL), (HYBRID, CLASSICAL), HYBRID),
        ((CLASSICAL, HYBRID), (CLASSICAL, HYBRID), HYBRID),
        ((CLASSICAL,), (HYBRID, CLASSICAL), CLASSICAL),
        ((HYBRID, CLASSICAL), (CLASSICAL,), CLASSICAL),
    ],
)
def test_the_hybrid_suite_is_taken_where_both_offer_it(offered, accepted, chosen):
    initiation = Initiation(ALICE, BOB, "id", suites=offered)
    accept, responder = respond(BOB, ALICE, "id", initiation.body, suites=accepted)
    assert initiation.finish(accept).suite == responder.suite == chosen


def test_without_a_common_suite_there_is_no_session():
    initiation = Initiation(ALICE, BOB, "id", suites=[CLASSICAL])
    with pytest.raises(SessionError) as refusal:
        respond(BOB, ALICE, "id", initiation.body, suites=[HYBRID])
    assert decline_body(refusal.value) == {"code": "suite"}
    assert decline_body("busy") == {"code": "busy"}
    assert decline_body(SessionError("anything else")) == {"code": "policy"}


def test_every_handshake_gives_other_keys():
    sessions = []
    for _ in range(2):
        initiation = Initiation(ALICE, BOB, "id")
        sessions.append(initiation.finish(respond(BOB, ALICE, "id", initiation.body)[0]))
    assert sessions[0].secret_send != sessions[1].secret_send
    assert sessions[0].sid_in != sessions[1].sid_in


def test_long_and_short_forms_of_a_did_are_the_same_party():
    short = dataclasses.replace(
        BOB,
        did=BOB.did.rpartition(":")[0],
        kid="#".join((BOB.did.rpartition(":")[0], BOB.kid.partition("#")[2])),
    )
    initiation = Initiation(ALICE, short, "id")
    accept, responder = respond(BOB, ALICE, "id", initiation.body)
    assert initiation.finish(accept).transcript == responder.transcript
    with pytest.raises(SessionError, match="from and to"):
        Initiation(BOB, short, "id")
    with pytest.raises(SessionError, match="from and to"):
        respond(BOB, short, "id", OPEN)


def test_another_open_id_sender_or_key_does_not_confirm():
    carol = Party.of(Identity.peer4())
    for me, peer, open_id in [(BOB, ALICE, "other"), (carol, ALICE, "id"), (BOB, carol, "id")]:
        initiation = Initiation(ALICE, BOB, "id")
        with pytest.raises(SessionError):
            initiation.finish(respond(me, peer, open_id, initiation.body)[0])


def test_a_refused_accept_leaves_the_initiation_as_it_was():
    initiation = Initiation(ALICE, BOB, "id")
    accept, responder = respond(BOB, ALICE, "id", initiation.body)
    with pytest.raises(SessionError, match="not from its peer"):
        initiation.finish({**accept, "confirm": b64url(bytes(32))})
    assert initiation.finish(accept).transcript == responder.transcript


def test_an_initiation_completes_once_and_then_holds_no_keys():
    initiation = Initiation(ALICE, BOB, "id")
    accept, _ = respond(BOB, ALICE, "id", initiation.body)
    initiation.finish(accept)
    with pytest.raises(SessionError, match="before"):
        initiation.finish(accept)
    assert initiation._x25519 is None
    assert initiation._kem is None


def test_the_text_of_hs_is_hashed_as_it_was_received():
    """A member that neither side reads still belongs to the transcript."""
    initiation = Initiation(ALICE, BOB, "id")
    accept, _ = respond(BOB, ALICE, "id", altered(initiation.body, unheard_of=1))
    with pytest.raises(SessionError, match="not from its peer"):
        initiation.finish(accept)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ({**LINK, "attempt": "a2"}, {"attempt": "a1"}),
        ({"pid_i": 0, "pid_r": 2}, {"attempt": "a1"}),
        (None, {"attempt": "a1"}),
        ({**LINK, "pid_i": 2, "pid_r": 0}, {}),
        ({**LINK, "pid_i": 1, "pid_r": 1}, {}),
        ({**LINK, "pid_i": False, "pid_r": True}, {}),
        ({**LINK, "pid_i": "0"}, {}),
        ({"pid_r": 1}, {}),
    ],
)
def test_an_open_for_another_link_is_declined(link, expected):
    initiation = Initiation(ALICE, BOB, "id", link=link)
    with pytest.raises(SessionError) as refusal:
        respond(BOB, ALICE, "id", initiation.body, link=expected)
    assert decline_body(refusal.value) == {"code": "roster"}


SMALL_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_that_makes_an_all_zero_secret_is_refused(point):
    with pytest.raises(SessionError, match="no secret"):
        respond(BOB, ALICE, "id", altered(OPEN, e=b64url(point)))
    initiation = Initiation(ALICE, BOB, "id", link=LINK)
    accept, _ = respond(BOB, ALICE, "id", initiation.body)
    with pytest.raises(SessionError, match="no secret"):
        initiation.finish(altered(accept, e=b64url(point)))


@pytest.mark.parametrize(
    "members",
    [
        {"v": 2},
        {"v": True},
        {"suites": []},
        {"suites": "X25519-HKDFSHA256-A256GCM"},
        {"suites": [HYBRID] * 40},
        {"suites": [CLASSICAL]},  # and yet a kem_pk
        {"kem_pk": None},
        {"kem_pk": b64url(bytes(1183))},
        {"kem_pk": b64url(b"\xff" * 1184)},
        {"wire": ["carrier pigeon"]},
        {"e": b64url(bytes(31))},
        {"e": None},
        {"k": b64url(bytes(33))},
        {"k": "====", "sid": "A"},
        {"sid": b64url(bytes(7))},
        {"kid_i": BOB.kid},
        {"kid_r": ""},
        {"link": "me"},
        {"limits": {"window_records": -1}},
        {"limits": {"window_records": True}},
        {"limits": []},
        {"policy": None},
        {"caps": {}},
        {"caps": [1] * 100},
    ],
)
def test_a_malformed_open_is_refused(members):
    with pytest.raises(SessionError):
        respond(BOB, ALICE, "id", altered(OPEN, **members))


@pytest.mark.parametrize(
    "members", [{"suite": "none"}, {"suite": CLASSICAL}, {"kem_ct": None}, {"wire": "x"}]
)
def test_an_accept_that_chooses_what_was_not_offered_is_refused(members):
    initiation = Initiation(ALICE, BOB, "id", link=LINK)
    accept, _ = respond(BOB, ALICE, "id", initiation.body)
    with pytest.raises(SessionError):
        initiation.finish(altered(accept, **members))


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "!!",
        "é",
        b64url(b"[]"),
        b64url(b"{"),
        b64url(b'{"v":1,"v":1}'),
        b64url(b'{"v":NaN}'),
        b64url(b"[" * 10000),
        b64url(b'{"v":' + b"1" * 5000 + b"}"),
        "A" * 100_000,
    ],
)
def test_what_is_no_hello_is_refused(text):
    with pytest.raises(SessionError):
        respond(BOB, ALICE, "id", {"hs": text})


ACCEPTS = respond(BOB, ALICE, "id", OPEN)[0]


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, len(OPEN["hs"]) - 1), character=st.characters(codec="utf-8"))
def test_a_damaged_open_never_makes_a_common_session(position, character):
    damaged = OPEN["hs"][:position] + character + OPEN["hs"][position + 1 :]
    initiation = Initiation(ALICE, BOB, "id", link=LINK)
    text = initiation.body["hs"]
    damaged = text[:position] + character + text[position + 1 :]
    if damaged == text:
        return
    with pytest.raises(SessionError):
        initiation.finish(respond(BOB, ALICE, "id", {"hs": damaged})[0])


@settings(max_examples=100, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["v", "e", "k", "sid", "suites", "link", "caps", "x"]), inner)
        ),
        max_leaves=20,
    )
)
def test_any_json_as_hello_is_refused_or_read(value):
    body = {"hs": b64url(json.dumps(value).encode())}
    with pytest.raises(SessionError):
        respond(BOB, ALICE, "id", body)


def test_a_session_survives_the_pipe_to_another_process():
    initiation = Initiation(ALICE, BOB, "id", link=LINK)
    _, responder = respond(BOB, ALICE, "id", initiation.body)
    assert Established.from_json(json.loads(json.dumps(responder.to_json()))) == responder
    for damage in ({"role": "mediator"}, {"secret_send": "AA"}, {"suite": 1}, {"peer_hs": None}):
        with pytest.raises(LocalMisuse):
            Established.from_json({**responder.to_json(), **damage})


def test_nothing_secret_is_shown():
    initiation = Initiation(ALICE, BOB, "id")
    accept, responder = respond(BOB, ALICE, "id", initiation.body)
    shown = repr(initiation) + repr(responder) + repr(initiation._hello) + str(initiation.finish(accept))
    for secret in (responder.secret_send, responder.exporter, initiation._hello.k):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
        assert b64url(secret) not in shown
    assert "k" not in responder.peer_hs


def test_our_own_mistakes_are_ours():
    with pytest.raises(LocalMisuse):
        Initiation(ALICE, BOB, "id", suites=[])
    with pytest.raises(LocalMisuse):
        Initiation(ALICE, BOB, "id", suites=["rot13"])
    with pytest.raises(LocalMisuse):
        Initiation(ALICE, BOB, "id", policy={"blob": "x" * 40_000})
    with pytest.raises(LocalMisuse):
        Initiation(ALICE, BOB, "id", caps=[b"bytes"])
