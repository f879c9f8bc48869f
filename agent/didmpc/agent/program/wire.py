"""Frames on the socket pair between a channel process and its program process, both ways.

    type u8 | pid u16 | start u32 | length u32 | payload          big endian

`pid` is the peer's, and `start` the generation of `mpc.start()` (1, 2, ...), in DATA and END; both are 0
in every other frame. The program is foreign code: what it writes is judged like a peer's bytes.
"""

import json
import struct
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from didmpc.protocols.errors import RemoteViolation

HEADER = struct.Struct(">BHII")
MAX_PAYLOAD = 64 * 1024 * 1024
"""No frame is larger. Without coalescing a frame is one MPyC message, so no message is larger either."""
MAX_JSON = 1024 * 1024
PIECE = 256 * 1024 - 17
"""With coalescing, DATA is cut into pieces of this size: one record of a link with its header."""


class FrameType(IntEnum):
    """What a frame is about, and who sends it."""

    CONFIG = 1  # channel -> program, first frame, JSON: see config.py
    DATA = 2  # both ways: bytes of MPyC to or from a party
    END = 3  # both ways: MPyC closed its connection to this party in this generation
    STATE = 4  # program -> channel, JSON: see below
    FAILED = 5  # program -> channel, JSON: {"what", "why", "kind", "pid": the peer it is about, or null}
    STATS = 6  # program -> channel, JSON: what the run cost so far; the last frame before a clean exit
    GO = 7  # channel -> program: all links are up, start() may go on


# STATE is {"state": "computing"}, {"state": "reading"} (standard input), or
# {"state": "waiting", "for": {pid: labels}, "also": [what else could wake it], "read": bytes of ours so far,
#  "at": [places in the program, where nothing else could]}.

_JSON = frozenset({FrameType.CONFIG, FrameType.STATE, FrameType.FAILED, FrameType.STATS})
_EMPTY = frozenset({FrameType.END, FrameType.GO})
_ADDRESSED = frozenset({FrameType.DATA, FrameType.END})
_TYPES = {int(kind): kind for kind in FrameType}
_DATA = FrameType.DATA


class WireError(RemoteViolation):
    """Bytes on the socket pair that are no frame; `before` are the frames that were complete by then."""

    code = "e.p.mpc.wire"
    before: "tuple[Frame, ...]" = ()


class Frame(NamedTuple):
    """One frame. A tuple, for there are many."""

    type: FrameType
    pid: int
    start: int
    payload: bytes

    def json(self) -> dict[str, Any]:
        """The payload of a JSON frame. Raises WireError."""
        try:
            value = json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise WireError(f"A {self.type.name} frame holds no JSON.", why=str(error)) from None
        if not isinstance(value, dict):
            raise WireError(f"A {self.type.name} frame holds no JSON object.")
        return value


_frame: Callable[[tuple[FrameType, int, int, bytes]], Frame] = partial(tuple.__new__, Frame)
"""The same as `Frame(...)`, at half of the price."""


def encode(kind: FrameType, pid: int = 0, start: int = 0, payload: bytes | memoryview = b"") -> bytes:
    """One frame as bytes. Raises WireError for a payload that is too large."""
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"A frame of {len(payload):,} bytes is larger than the {MAX_PAYLOAD:,} allowed.")
    return b"".join((HEADER.pack(kind, pid, start, len(payload)), payload))


def encode_json(kind: FrameType, value: dict[str, Any]) -> bytes:
    """One JSON frame as bytes."""
    return encode(kind, payload=json.dumps(value, separators=(",", ":")).encode())


def check_header(kind: int, pid: int, start: int, length: int) -> FrameType:
    """Judge a header before a byte of its payload is kept. Raises WireError."""
    known = _TYPES.get(kind)
    if known is None:
        raise WireError(f"A frame of the unknown type {kind}.")
    if known in _ADDRESSED:
        if start == 0:
            raise WireError(f"A {known.name} frame of no start generation.")
    elif pid or start:
        raise WireError(f"A {known.name} frame with an address.")
    limit = MAX_JSON if known in _JSON else 0 if known in _EMPTY else MAX_PAYLOAD
    if length > limit:
        raise WireError(f"A {known.name} frame of {length:,} bytes is larger than the {limit:,} allowed.")
    return known


class Decoder:
    """Cuts a stream of bytes into frames; holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the incomplete frame; joined only once it is complete
        self._have = 0
        self._need = HEADER.size

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises WireError, after which nothing more is to be fed."""
        frames: list[Frame] = []
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return frames
            data = b"".join(self._parts)
            self._parts.clear()
        position, end, size = 0, len(data), HEADER.size
        self._need = size
        while end - position >= size:
            kind, pid, start, length = HEADER.unpack_from(data, position)
            sound = kind == _DATA and start and length <= MAX_PAYLOAD  # as nearly all are
            try:
                known = _DATA if sound else check_header(kind, pid, start, length)
            except WireError as error:
                error.before = tuple(frames)
                raise
            stop = position + size + length
            if stop > end:
                self._need = size + length
                break
            frames.append(_frame((known, pid, start, data[position + size : stop])))
            position = stop
        if position < end:
            self._parts.append(data[position:] if position else data)
            self._have = end - position
        return frames

    @property
    def incomplete(self) -> bool:
        """Whether the stream stands in the middle of a frame."""
        return bool(self._parts)
