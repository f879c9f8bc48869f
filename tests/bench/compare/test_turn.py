"""Our client of TURN: what it writes and reads. What a real server makes of it: `make test-netlab`."""

import pytest

from didmpc.bench.compare import turn
from didmpc.bench.compare.turn import TurnError, decode, encode, read_address, xor_address


def test_addresses_are_hidden_as_in_the_test_vector():
    """RFC 5769, section 2.2: 192.0.2.1, port 32853."""
    value = bytes.fromhex("0001a147e112a643")
    assert xor_address("192.0.2.1", 32853) == value
    assert read_address(value) == ("192.0.2.1", 32853)


def test_a_message_is_read_as_it_was_written():
    message = encode(turn.ALLOCATE, b"t" * 12, [(turn.REALM, b"mpc"), (turn.NONCE, b"12345")])
    kind, transaction, attributes = decode(message[:20], message[20:])
    assert (kind, transaction) == (turn.ALLOCATE, b"t" * 12)
    assert attributes == {turn.REALM: b"mpc", turn.NONCE: b"12345"}
    assert len(message) % 4 == 0


def test_integrity_is_over_all_before_it_and_needs_the_key():
    attributes = [(turn.USERNAME, b"ann")]
    first, second = (encode(turn.REFRESH, b"t" * 12, attributes, key) for key in (b"one", b"two"))
    assert first[:-20] == second[:-20]
    assert first[-20:] != second[-20:]
    assert decode(first[:20], first[20:])[2][turn.INTEGRITY] == first[-20:]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(bytes(20), id="no cookie"),
        pytest.param(encode(3, bytes(12), [])[:20] + b"\0\x14\0\x09abc", id="attribute beyond the end"),
    ],
)
def test_what_is_no_stun_is_refused(message):
    with pytest.raises(TurnError):
        decode(message[:20], message[20:])


@pytest.mark.parametrize("value", [b"", bytes(8), bytes([0, 2]) + bytes(18)])
def test_an_address_of_another_kind_is_refused(value):
    with pytest.raises(TurnError):
        read_address(value)
