"""Frames and padding: exact bytes, and that whatever a peer writes is read or refused."""

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.session import frames
from didmpc.protocols.session.frames import Ack, PeerViolation


def record(number, start, data):
    return frames.RECORD_HEADER.pack(frames.RECORD, number, start, len(data)) + data


def test_the_bytes_of_each_frame():
    assert record(1, 2, b"hi") == b"\x01" + bytes(7) + b"\x01" + bytes(3) + b"\x02" + bytes(3) + b"\x02hi"
    assert frames.encode_ready() == b"\x02"
    assert frames.encode_ack(Ack(True, 5, 7, ((9, 11),))) == struct.pack(">BBQQBQQ", 3, 1, 5, 7, 1, 9, 11)
    assert frames.encode_ping(3, b"{}") == b"\x04\x00\x00\x00\x03\x00\x02{}"
    assert frames.encode_pong(3, b"{}") == b"\x05\x00\x00\x00\x03\x00\x02{}"
    assert frames.encode_close(9) == b"\x06" + bytes(7) + b"\x09"
    assert frames.encode_abort(b'{"kind":"x"}') == b'\x07\x00\x0c{"kind":"x"}'


def test_all_kinds_in_one_packet():
    plaintext = b"".join(
        (
            frames.encode_abort(b'{"kind":"x"}'),
            frames.encode_ready(),
            frames.encode_ack(Ack(False, 5, 7, ((9, 11), (12, 13)))),
            frames.encode_pong(1, b"{}"),
            frames.encode_ping(2, b'{"state":"computing"}'),
            frames.encode_close(4),
            frames.encode_contact([bytes([n]) * 32 for n in range(16)]),
            record(0, 1, b"one"),
            record(1, 1, b""),
            bytes(40),
        )
    )
    records, control = frames.decode(plaintext)
    assert records == [(0, 1, b"one"), (1, 1, b"")]
    assert control.ack == (False, 5, 7, ((9, 11), (12, 13)), False)
    assert control.contact == tuple(bytes([n]) * 32 for n in range(16))
    assert control.ping == (2, {"state": "computing"})
    assert control.pong == (1, {})
    assert (control.close, control.abort) == (4, {"kind": "x"})


@pytest.mark.parametrize(
    "plaintext",
    [
        b"\x08",
        b"\xff" * 64,
        b"\x01",
        record(0, 1, b"abc")[:-1],
        record(0, 1, bytes(frames.MAX_RECORD_DATA + 1)),
        struct.pack(">BBQQB", 3, 4, 0, 0, 0),
        struct.pack(">BBQQB", 3, 0, 0, 0, 33) + bytes(33 * 16),
        frames.encode_ack(Ack(False, 0, 5, ((5, 6),))),
        frames.encode_ack(Ack(False, 0, 5, ((7, 7),))),
        frames.encode_ack(Ack(False, 0, 5, ((9, 10), (7, 8)))),
        frames.encode_ack(Ack(False, 0, 5, ((7, 8),)))[:-1],
        frames.encode_ack(Ack(False, 0, 5, ())) * 2,
        frames.encode_ping(1, b"{}") * 2,
        frames.encode_pong(1, b"{}") * 2,
        frames.encode_close(0) * 2,
        frames.encode_abort(b"{}") * 2,
        frames.encode_contact([bytes(32)] * 16) * 2,
        frames.encode_contact([bytes(32)] * 17),
        frames.encode_contact([bytes(32)] * 16)[:-1],
        frames.encode_ping(1, b"[]"),
        frames.encode_ping(1, b"{"),
        frames.encode_ping(1, b"\xff\xff"),
        frames.encode_ping(1, b"[" * 4000),
        frames.encode_ping(1, b'{"a":"' + b"x" * frames.MAX_STATE + b'"}'),
        frames.encode_ping(1, b"{}")[:-1],
        frames.encode_abort(b"7"),
        frames.encode_close(1)[:-1],
    ],
)
def test_what_is_no_frame_is_a_violation(plaintext):
    with pytest.raises(PeerViolation):
        frames.decode(plaintext)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120) | st.lists(st.integers(0, 8), max_size=60).map(bytes))
def test_any_plaintext_is_read_or_refused(plaintext):
    with contextlib.suppress(PeerViolation):
        frames.decode(plaintext)


def test_padding_hides_lengths_and_costs_little():
    assert [frames.padded_length(n) for n in (0, 1, 64, 65, 959, 961, 1023, 1024)] == [
        0,
        64,
        64,
        128,
        960,
        1024,
        1024,
        1024,
    ]
    for n in range(1024, 300_000, 37):
        padded = frames.padded_length(n)
        assert n <= padded <= n * 1.12
        assert frames.padded_length(padded) == padded
    assert frames.padded_length(frames.MAX_RECORD) == frames.MAX_RECORD  # bulk costs no padding


@given(st.integers(-50, 1 << 22))
def test_the_largest_unpadded_length_is_exactly_that(room):
    largest = frames.largest_unpadded(room)
    assert frames.padded_length(largest) <= max(room, 0)
    assert frames.padded_length(largest + 1) > room


def test_states_must_be_small_plain_json():
    assert frames.encode_object({"a": 1}, 100) == b'{"a":1}'
    for value in ({"a": "x" * 100}, {"a": b"bytes"}, {"a": float("nan")}):
        with pytest.raises(LocalMisuse):
            frames.encode_object(value, 100)


def test_ranges_join_neighbours_and_are_few():
    assert frames.ranges_of([1, 2, 3, 7, 9, 10]) == ((1, 4), (7, 8), (9, 11))
    assert len(frames.ranges_of(range(0, 200, 2))) == frames.MAX_RANGES
