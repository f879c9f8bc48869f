"""Hop frames: each kind there and back, what is refused, and what a bind proves."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.errors import SessionError
from didmpc.protocols.relay import hop

KEY = PrivateKey.generate("Ed25519")
EXPORTER, CAPABILITY = b"e" * 32, b"c" * 32
BIND = hop.bind(7, CAPABILITY, KEY, EXPORTER)

FRAMES = [
    (hop.encode_data(7, b"packet"), hop.Data(7, b"packet")),
    (hop.encode_data(7, b""), hop.Data(7, b"")),
    (hop.encode_bind(BIND), BIND),
    (hop.encode_bound(7, 1 << 20), hop.Bound(7, 1 << 20)),
    (hop.encode_unbound(7, hop.UnboundReason.LEFT), hop.Unbound(7, hop.UnboundReason.LEFT)),
    (hop.encode_credit(7, 4096), hop.Credit(7, 4096)),
    (hop.encode_error(7, hop.ErrorCode.OVER_CREDIT), hop.Error(7, hop.ErrorCode.OVER_CREDIT)),
    (hop.encode_ping(b"8 bytes!"), hop.Ping(b"8 bytes!")),
    (hop.encode_pong(b"8 bytes!"), hop.Pong(b"8 bytes!")),
]


@pytest.mark.parametrize(("encoded", "frame"), FRAMES)
def test_each_frame_there_and_back(encoded, frame):
    decoded = hop.decode(encoded)
    assert decoded == frame
    assert type(decoded) is type(frame)


def test_the_layout_is_type_channel_payload():
    assert hop.encode_data(258, b"p") == b"\x01\x00\x00\x01\x02p"
    assert hop.encode_credit(1, 2) == b"\x05\x00\x00\x00\x01\x00\x00\x00\x02"
    assert len(hop.encode_bind(BIND)) == 5 + 32 + 32 + 64


@pytest.mark.parametrize("encoded", [encoded for encoded, frame in FRAMES if not isinstance(frame, hop.Data)])
def test_shorter_or_longer_frames_are_refused(encoded):
    for damaged in (encoded[:-1], encoded + b"\x00", encoded[:4]):
        with pytest.raises(SessionError):
            hop.decode(damaged)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00" * 5,
        b"\x09" * 9,
        b"\x04\x00\x00\x00\x01\x00",
        b"\x06\x00\x00\x00\x01\xff",
        b"\x07\x00\x00\x00\x01" + bytes(8),
    ],
)
def test_unknown_types_reasons_and_codes_are_refused(frame):
    with pytest.raises(SessionError):
        hop.decode(frame)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=150))
def test_any_bytes_are_read_or_refused(frame):
    with contextlib.suppress(SessionError):
        hop.decode(frame)


def test_a_bind_proves_the_rebind_key_on_this_hop_session():
    hop.verify_bind(hop.decode(hop.encode_bind(BIND)), EXPORTER)


@pytest.mark.parametrize(
    "forged",
    [
        BIND._replace(capability=b"d" * 32),
        BIND._replace(rebind_key=PrivateKey.generate("Ed25519").public.raw),
        BIND._replace(rebind_key=b"\xff" * 32),
        BIND._replace(signature=bytes(64)),
    ],
)
def test_a_forged_bind_is_refused(forged):
    with pytest.raises(SessionError):
        hop.verify_bind(forged, EXPORTER)


def test_a_bind_of_one_hop_session_is_worth_nothing_on_another():
    with pytest.raises(SessionError):
        hop.verify_bind(BIND, b"f" * 32)


def test_capabilities_are_not_shown():
    assert repr(CAPABILITY) not in repr(BIND)
    assert CAPABILITY.hex() not in repr(BIND)
