"""Packets in the JSON form: envelopes that are read strictly and open once."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import SessionError
from didmpc.protocols.session.handshake import CLASSICAL, WIRE_BINARY, WIRE_JSON, Initiation, respond
from didmpc.protocols.session.packet import EpochLimits, PacketSealer
from didmpc.protocols.session.packet_json import (
    JsonOpener,
    JsonSealer,
    largest_plaintext,
    parse,
    sid_of,
)

SECRET, SID = b"s" * 32, b"\xfb\xff sid.."


def ends(recording=None, **limits):
    options = {"aead": recording} if recording else {}
    sealer = JsonSealer(SECRET, SID, ordered=True, limits=EpochLimits(**limits), **options)
    return sealer, JsonOpener(SECRET, SID)


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def rewritten(packet, **members):
    """The packet with outer members changed; a member set to None is left out."""
    value = {**json.loads(packet), **members}
    return json.dumps({name: member for name, member in value.items() if member is not None}).encode()


def with_header(packet, **members):
    header = {**json.loads(unb64(json.loads(packet)["protected"])), **members}
    header = {name: member for name, member in header.items() if member is not None}
    return rewritten(packet, protected=b64url(json.dumps(header, separators=(",", ":")).encode()))


def refusal(opener, packet):
    with pytest.raises(SessionError) as caught:
        opener.open(packet)
    return caught.value.code


def test_a_packet_is_a_general_json_jwe_with_direct_encryption():
    sealer, _ = ends()
    packet = json.loads(sealer.seal(b"frames"))
    assert set(packet) == {"protected", "recipients", "iv", "ciphertext", "tag"}
    assert packet["recipients"] == [{}]
    assert unb64(packet["protected"]).decode() == (
        '{"alg":"dir","enc":"A256GCM","kid":"-_8gc2lkLi4.0","typ":"application/didcomm-encrypted+json"}'
    )
    assert sid_of(packet) == SID


def test_a_jose_library_opens_it_with_the_key_alone(recording):
    """It is what RFC 7516 says, not only what we say."""
    from joserfc import jwe
    from joserfc.jwk import OctKey

    from didmpc.protocols.session.schedule import epoch_key

    packet = json.loads(ends()[0].seal(b"frames"))
    compact = ".".join((packet["protected"], "", packet["iv"], packet["ciphertext"], packet["tag"]))
    opened = jwe.decrypt_compact(
        compact,
        OctKey.import_key(epoch_key(SECRET)[0]),
        registry=jwe.JWERegistry(algorithms=["dir", "A256GCM"], strict_check_header=False),
    )
    assert opened.plaintext == b"frames"


def test_each_packet_opens_once_in_any_order_across_epochs(recording):
    sealer, opener = ends(recording, packets=16)
    for epoch in range(20):
        packets = [sealer.seal(b"%d" % number) for number in range(16)]
        assert parse(packets[0]).epoch == epoch
        for packet in reversed(packets):
            opener.open(packet)
        assert {refusal(opener, packet) for packet in packets} == {"e.p.session.replay"}
    assert opener.epoch == 19


def test_an_epoch_that_is_over_or_far_ahead_is_refused():
    sealer, opener = ends(packets=1)
    packets = [sealer.seal(b"x") for _ in range(4)]
    assert refusal(opener, packets[2]) == "e.p.session.epoch"
    for packet in packets[1:]:
        opener.open(packet)
    assert refusal(opener, packets[0]) == "e.p.session.epoch"


def test_json_may_be_written_anew_on_the_way():
    sealer, opener = ends()
    value = json.loads(sealer.seal(b"frames"))
    again = json.dumps(dict(sorted(value.items())), indent=3).encode()
    assert opener.open(again) == b"frames"


def test_a_protected_header_of_another_order_opens_if_it_was_sealed_so():
    sealer, opener = ends()
    header = {
        "typ": "application/didcomm-encrypted+json",
        "kid": "-_8gc2lkLi4.0",
        "enc": "A256GCM",
        "alg": "dir",
    }
    sealer._protected = b64url(json.dumps(header).encode()).encode()
    assert opener.open(sealer.seal(b"frames")) == b"frames"


def test_whatever_is_altered_is_refused_and_changes_nothing():
    sealer, opener = ends()
    packet = sealer.seal(b"frames")
    value = json.loads(packet)
    malformed = {
        "not json": b"{",
        "no object": b"[]",
        "not utf-8": b'"\xff"',
        "twice": packet[:-1] + b',"iv":"AAAAAAAAAAAAAAAA"}',
        "too long": packet + b" " * (1 << 20),
        "no iv": rewritten(packet, iv=None),
        "another member": rewritten(packet, aad="AA"),
        "unprotected": rewritten(packet, unprotected={}),
        "no recipient": rewritten(packet, recipients=[]),
        "two recipients": rewritten(packet, recipients=[{}, {}]),
        "a key": rewritten(packet, recipients=[{"encrypted_key": ""}]),
        "padded base64": rewritten(packet, tag=value["tag"] + "=="),
        "other base64": rewritten(packet, tag=value["tag"][:-1] + "B"),
        "short iv": rewritten(packet, iv=value["iv"][:-4]),
        "short tag": rewritten(packet, tag=value["tag"][:-6]),
        "iv no text": rewritten(packet, iv=5),
        "alg": with_header(packet, alg="A256KW"),
        "enc": with_header(packet, enc="A128GCM"),
        "typ": with_header(packet, typ="JWE"),
        "no typ": with_header(packet, typ=None),
        "zip": with_header(packet, zip="DEF"),
        "crit": with_header(packet, crit=["zip"]),
        **{
            f"kid {kid}": with_header(packet, kid=kid)
            for kid in (
                "",
                "-_8gc2lkLi4",
                "-_8gc2lkLi4.",
                "-_8gc2lkLi4.00",
                "-_8gc2lkLi4.+0",
                "-_8gc2lkLi4.4294967296",
                "-_8gc2lkLi4.٣",
                "-_8gc2lkLi4.0.0",
                "-_8gc2lkLi5.0",
                "-_8gc2lkLg.0",
                7,
            )
        },
    }
    for name, wrong in malformed.items():
        assert refusal(opener, wrong) == "e.p.session.packet", name
    assert opener.failed == 0
    assert refusal(opener, with_header(packet, kid="AAAAAAAAAAA.0")) == "e.p.session.unknown"
    forged = {
        "tag": rewritten(packet, tag=b64url(bytes(16))),
        "iv of another number": rewritten(packet, iv=b64url(unb64(value["iv"])[:-1] + b"\0")),
        "iv of no number": rewritten(packet, iv=b64url(b"\0" + unb64(value["iv"])[1:])),
        "ciphertext": rewritten(packet, ciphertext=b64url(b"frames")),
        "next epoch": with_header(packet, kid="-_8gc2lkLi4.1"),
    }
    for name, wrong in forged.items():
        assert refusal(opener, wrong) == "e.p.trust.crypto", name
    assert opener.failed == len(forged)
    assert (opener.epoch, opener.highest) == (0, -1)
    assert opener.open(packet) == b"frames"


@given(st.integers(0, 3000))
def test_what_is_said_to_fit_fits(room):
    sealer, _ = ends()
    length = largest_plaintext(room)
    assert not length or len(sealer.seal(bytes(length))) <= room


MEMBERS = st.sampled_from(["protected", "recipients", "iv", "ciphertext", "tag"])
VALUES = st.none() | st.text(max_size=5) | st.sampled_from([[{}], {}, "e30", 0])


@settings(max_examples=100)
@given(st.binary(max_size=100) | st.dictionaries(MEMBERS, VALUES))
def test_noise_is_refused(noise):
    _, opener = ends()
    data = noise if isinstance(noise, bytes) else json.dumps(noise).encode()
    assert refusal(opener, data) == "e.p.session.packet"


def test_envelopes_of_another_kind_belong_to_no_session():
    assert sid_of({}) is None
    assert sid_of({"protected": 5}) is None
    assert sid_of({"protected": b64url(b'{"alg":"ECDH-ES+A256KW"}')}) is None


def test_no_key_seals_in_both_forms(parties):
    """The form is chosen in the handshake, and each has its own keys."""
    alice, bob = parties
    initiation = Initiation(alice, bob, "id", suites=[CLASSICAL], wires=(WIRE_JSON, WIRE_BINARY))
    accept, responder = respond(bob, alice, "id", initiation.body, wires=(WIRE_BINARY, WIRE_JSON))
    initiator = initiation.finish(accept)
    assert initiator.wire == responder.wire == WIRE_JSON
    assert initiator.secret_send == responder.secret_receive
    opener = JsonOpener(responder.secret_receive, responder.sid_in)
    assert opener.open(JsonSealer(initiator.secret_send, initiator.sid_out).seal(b"x")) == b"x"
    binary = PacketSealer(initiator.secret_send, initiator.sid_out).seal(b"x")
    assert refusal(opener, binary) == "e.p.session.packet"


def test_a_form_that_the_other_side_lacks_is_not_chosen(parties):
    alice, bob = parties
    both = Initiation(alice, bob, "id", suites=[CLASSICAL], wires=(WIRE_JSON, WIRE_BINARY))
    assert respond(bob, alice, "id", both.body, wires=[WIRE_BINARY])[1].wire == WIRE_BINARY
    one = Initiation(alice, bob, "id", suites=[CLASSICAL], wires=[WIRE_JSON])
    with pytest.raises(SessionError) as caught:
        respond(bob, alice, "id", one.body, wires=[WIRE_BINARY])
    assert caught.value.code == "e.p.session.suite"
