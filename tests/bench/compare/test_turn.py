"""Our client of TURN: what it writes and reads. What a real server makes of it: `make test-netlab`."""

import asyncio
import hashlib
import hmac
import json

import pytest

from didmpc.bench.compare import turn
from didmpc.bench.compare.turn import (
    Client,
    TurnError,
    decode,
    encode,
    read_address,
    read_message,
    xor_address,
)


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


async def answer_like_a_server(reader, writer):
    """Asks for credentials first; closes the connection when permissions are asked for a second time."""
    key = hashlib.md5(b"ann:mpc:secret").digest()
    while True:
        method, transaction, attributes = await read_message(reader)
        sent = [(number, attributes[number]) for number in attributes if number != turn.INTEGRITY]
        expected = encode(method, transaction, sent, key)[-20:]
        if not hmac.compare_digest(attributes.get(turn.INTEGRITY, b""), expected):
            error = [(turn.ERROR_CODE, b"\0\0\4\1No"), (turn.REALM, b"mpc"), (turn.NONCE, b"n1")]
            writer.write(encode(method | turn.FAILURE, transaction, error))
        elif method == turn.ALLOCATE:
            assert attributes[turn.TRANSPORT][0] == 6
            relayed = (turn.RELAYED, xor_address("192.0.2.7", 5000))
            writer.write(encode(method | turn.SUCCESS, transaction, [relayed]))
        else:
            assert read_address(attributes[turn.PEER])[0] == "192.0.2.1"
            writer.write(encode(method | turn.SUCCESS, transaction, []))
            writer.close()
            return


@pytest.fixture
async def server():
    async with await asyncio.start_server(answer_like_a_server, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()


async def test_an_address_is_lent_to_who_has_the_password(server, capsys):
    with pytest.raises(ExceptionGroup) as ended:  # as it does when the server goes
        await Client(server, "ann", "secret", 1).serve(["192.0.2.1"])
    assert ended.group_contains(EOFError)
    assert json.loads(capsys.readouterr().out) == {"address": "192.0.2.7", "port": 5000}


async def test_a_wrong_password_is_refused_and_not_tried_for_ever(server):
    with pytest.raises(ExceptionGroup) as ended:
        await Client(server, "ann", "guess", 1).serve(["192.0.2.1"])
    assert ended.group_contains(TurnError, match="refused: No")
