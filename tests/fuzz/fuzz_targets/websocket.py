"""WebSocket frames of anybody, in whatever pieces the network makes of them."""

from collections.abc import Iterator
from contextlib import suppress

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
from fuzz_targets.target import Target

LIMIT = 2048
Read = tuple[list[tuple[int, bytes]], CloseCode | None]


def websocket(data: bytes) -> None:
    """Pieces make no difference; what comes out is within the limit, and control frames are short."""
    whole = _read(data[1:], len(data))
    assert _read(data[1:], data[0] + 1 if data else 1) == whole
    for opcode, payload in whole[0]:
        assert len(payload) <= (125 if opcode & 8 else LIMIT)
        if opcode == CLOSE:
            with suppress(FrameError):
                frames.close_code(payload)


def _read(stream: bytes, piece: int) -> Read:
    read: list[tuple[int, bytes]] = []

    def heard(opcode: int, payload: bytearray) -> None:
        read.append((opcode, bytes(payload)))

    reader = FrameReader(LIMIT, heard, lambda payload: heard(BINARY, payload))
    while stream:
        room = reader.room()
        count = min(len(room), piece, len(stream))
        room[:count] = stream[:count]
        del room
        try:
            reader.take(count)
        except FrameError as error:
            return read, error.code
        stream = stream[count:]
    return read, None


def _masked(opcode: int, payload: bytes, final: bool = True) -> bytes:
    head = bytearray(frames.head(opcode, len(payload)))
    head[0] ^= 0 if final else 0x80
    head[1] |= 0x80
    body = bytearray(payload)
    frames.unmask(b"mask", body)
    return bytes(head) + b"mask" + bytes(body)


def _seeds() -> Iterator[bytes]:
    yield b"\x02" + _masked(BINARY, bytes(200)) + _masked(TEXT, b"{}") + _masked(PING, b"?")
    yield b"\x00" + _masked(BINARY, b"a", False) + _masked(PING, b"") + _masked(CONTINUATION, b"b")
    yield b"\xff" + _masked(BINARY, bytes(1000)) * 2 + _masked(CLOSE, frames.close_payload(1000, "bye"))
    yield b"\x10" + _masked(BINARY, b"a" * 1500, False) + _masked(CONTINUATION, b"b" * 1500)


TARGETS = (Target("websocket", websocket, _seeds, is_json=False),)
