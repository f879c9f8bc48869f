"""WebSocket frames as they come: in any pieces, masked, bounded; and what is no frame."""

import os

import pytest

from didmpc.mediator.sockets import frames
from didmpc.mediator.sockets.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    CloseCode,
    FrameError,
    FrameReader,
)

LIMIT = 300_000
Message = tuple[int, bytes]


def masked(opcode: int, payload: bytes, *, final: bool = True, key: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A frame as a client sends it."""
    head = bytearray(frames.head(opcode, len(payload)))
    head[0] ^= 0 if final else 0x80
    head[1] |= 0x80
    body = bytearray(payload)
    frames.unmask(key, body)
    return bytes(head) + key + bytes(body)


def read(stream: bytes, piece: int) -> list[Message]:
    """What a reader makes of a stream that comes in pieces of so many bytes."""
    messages: list[Message] = []

    def heard(opcode: int, payload: bytearray) -> None:
        messages.append((opcode, bytes(payload)))

    reader = FrameReader(LIMIT, heard, lambda payload: heard(BINARY, payload))
    while stream:
        room = reader.room()
        count = min(len(room), piece, len(stream))
        room[:count] = stream[:count]
        del room
        reader.take(count)
        stream = stream[count:]
    return messages


@pytest.mark.parametrize("piece", [1, 3, 1000, 70_000, 1 << 20])
def test_messages_are_whole_however_they_come(piece: int) -> None:
    sizes = (0, 1, 125, 126, 65_535, 65_536) if piece > 1 else (0, 1, 125, 126, 3000)
    sent = [(BINARY, os.urandom(size)) for size in sizes] + [(TEXT, b"{}"), (PING, b"?"), (BINARY, b"last")]
    assert read(b"".join(masked(*message, key=os.urandom(4)) for message in sent), piece) == sent


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_fragments_are_put_together_around_control_frames(piece: int) -> None:
    parts = [
        masked(BINARY, b"one ", final=False),
        masked(PING, b"?"),
        masked(CONTINUATION, b"", final=False),
        masked(CONTINUATION, b"whole"),
        masked(TEXT, b"next"),
    ]
    assert read(b"".join(parts), piece) == [(PING, b"?"), (BINARY, b"one whole"), (TEXT, b"next")]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frames.head(BINARY, 8) + bytes(8), CloseCode.PROTOCOL_ERROR),  # not masked
        (b"\xc2\x80" + bytes(4), CloseCode.PROTOCOL_ERROR),  # of an extension
        (masked(3, b""), CloseCode.PROTOCOL_ERROR),
        (masked(0xB, b""), CloseCode.PROTOCOL_ERROR),
        (masked(PING, bytes(126)), CloseCode.PROTOCOL_ERROR),
        (masked(PING, b"", final=False), CloseCode.PROTOCOL_ERROR),
        (masked(CONTINUATION, b""), CloseCode.PROTOCOL_ERROR),
        (masked(BINARY, b"", final=False) + masked(BINARY, b""), CloseCode.PROTOCOL_ERROR),
        (b"\x82\xff" + b"\xff" * 8 + bytes(4), CloseCode.TOO_BIG),
        (masked(BINARY, bytes(LIMIT + 1))[:14], CloseCode.TOO_BIG),  # said before it comes
        (masked(BINARY, bytes(LIMIT), final=False) + masked(CONTINUATION, b"x"), CloseCode.TOO_BIG),
        (masked(BINARY, b"", final=False) + masked(CONTINUATION, b"", final=False) * 2000, CloseCode.TOO_BIG),
    ],
)
def test_what_is_no_frame_or_too_much_is_refused(stream: bytes, code: CloseCode) -> None:
    with pytest.raises(FrameError) as refused:
        read(stream, 1 << 20)
    assert refused.value.code == code


def test_memory_is_set_aside_only_for_what_has_come() -> None:
    reader = FrameReader(1 << 24, lambda opcode, payload: None, lambda payload: None)
    stream = masked(BINARY, bytes(1 << 24))[:1014]
    reader.room()[: len(stream)] = stream
    reader.take(len(stream))
    assert len(reader.room()) <= frames.TRUST * 1024


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xed", b"\x03\xee", b"\x00\x00", b"\x03\xe8\xff"])
def test_a_close_says_a_code_that_may_be_said_and_text(payload: bytes) -> None:
    with pytest.raises(FrameError):
        frames.close_code(payload)


def test_a_close_of_ours_is_no_longer_than_it_may_be_and_is_text() -> None:
    payload = frames.close_payload(1008, "\u00e4" * 100)
    assert len(payload) <= 125 and set(payload[2:].decode()) == {"\u00e4"}
    assert frames.close_code(payload) == 1008
    assert read(masked(CLOSE, b""), 1000) == [(CLOSE, b"")]
    assert frames.close_code(b"") == CloseCode.NONE
