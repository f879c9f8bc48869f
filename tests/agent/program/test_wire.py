"""Frames on the socket pair."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didmpc.agent.program.config import Config
from didmpc.agent.program.wire import (
    MAX_JSON,
    MAX_PAYLOAD,
    Decoder,
    Frame,
    FrameType,
    WireError,
    encode,
    encode_json,
)

DATA = st.builds(
    Frame,
    st.just(FrameType.DATA),
    st.integers(0, 0xFFFF),
    st.integers(1, 0xFFFFFFFF),
    st.binary(max_size=300),
)
CONFIG = {"pid": 1, "m": 3, "threshold": 1, "entry": "sum.py", "arguments": [], "names": ["a", "b", "c"]}


@given(st.lists(DATA, max_size=8), st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames, cuts):
    stream = b"".join(encode(*frame) for frame in frames)
    decoder, out, position, turn = Decoder(), [], 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        out += decoder.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert out == frames
    assert not decoder.incomplete


def test_a_frame_that_has_not_come_whole_leaves_the_decoder_incomplete():
    decoder = Decoder()
    assert list(decoder.feed(encode(FrameType.DATA, 1, 1, b"abc")[:-1])) == []
    assert decoder.incomplete


@pytest.mark.parametrize(
    "header",
    [
        (0, 0, 0, 0),  # no type
        (99, 0, 0, 0),
        (FrameType.DATA, 1, 0, 1),  # no start generation
        (FrameType.GO, 1, 0, 0),  # an address where none belongs
        (FrameType.STATE, 0, 1, 2),
        (FrameType.GO, 0, 0, 1),  # a payload where none belongs
        (FrameType.END, 1, 1, 1),
        (FrameType.STATS, 0, 0, MAX_JSON + 1),
        (FrameType.DATA, 1, 1, MAX_PAYLOAD + 1),
    ],
)
def test_a_header_against_the_rules_is_refused_before_its_payload_is_kept(header):
    with pytest.raises(WireError):
        list(Decoder().feed(struct.pack(">BHII", *header)))


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_raise_anything_else(data):
    try:
        for frame in Decoder().feed(data):
            assert frame.type in FrameType
    except WireError:
        pass


@pytest.mark.parametrize("payload", [b"", b"[]", b"nonsense", b"\xff", b"[" * 100_000])
def test_json_that_is_no_object_is_refused(payload):
    with pytest.raises(WireError):
        Frame(FrameType.STATS, 0, 0, payload).json()


def test_a_payload_beyond_the_limit_is_refused_where_it_is_sent():
    with pytest.raises(WireError, match="larger"):
        encode(FrameType.DATA, 1, 1, bytes(MAX_PAYLOAD + 1))


def test_json_frames_carry_an_object():
    [frame] = Decoder().feed(encode_json(FrameType.STATE, {"state": "computing"}))
    assert frame.json() == {"state": "computing"}


def test_a_good_config_is_taken_over():
    config = Config.from_json(CONFIG | {"options": {"bit_length": 64}, "coalesce": False})
    assert (config.pid, config.m, config.options["bit_length"], config.coalesce) == (1, 3, 64, False)
    assert not config.allow_threshold_change


@pytest.mark.parametrize(
    "wrong",
    [
        {"pid": 3},
        {"pid": True},
        {"m": 0},
        {"threshold": 2},  # 2t < m
        {"threshold": -1},
        {"names": ["a"]},
        {"arguments": "-x"},
        {"arguments": [1]},
        {"entry": "../x.py"},
        {"entry": "/etc/x.py"},
        {"entry": ""},
        {"options": {"ssl": True}},
        {"options": {"bit_length": True}},
        {"options": []},
        {"log_level": "loud"},
        {"limits": {"messages": 0}},
    ],
)
def test_a_config_that_cannot_be_is_refused(wrong):
    with pytest.raises(WireError):
        Config.from_json(CONFIG | wrong)
