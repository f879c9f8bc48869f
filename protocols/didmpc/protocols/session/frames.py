"""Frames: what the plaintext of a link's packet holds, one after another, then zero padding.

    PADDING 0  the rest of the plaintext
    RECORD  1  number u64 | start u32 | length u32 | data        at most 256 KiB with this header
    READY   2
    ACK     3  flags u8 | packet u64 | next u64 | count u8 | count x (first u64 | end u64)
    PING    4  id u32 | length u16 | state (JSON object)
    PONG    5  id u32 | length u16 | state
    CLOSE   6  records u64: how many there are in all; none follows
    ABORT   7  length u16 | cause (JSON object)
    CONTACT 8  count u16 | count x proof (32 bytes)

All big endian. ACK: `packet` is the highest packet number received, every record below `next` has
arrived, and those from each `first` up to but not including its `end`; of `flags` 1 is set once a CLOSE
has arrived, and 2 once a CONTACT has (docs/session-extension.md, "Frames").
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from didmpc.protocols.errors import LocalMisuse, SessionError
from didmpc.protocols.session.strict_json import read_object

PADDING, RECORD, READY, ACK, PING, PONG, CLOSE, ABORT, CONTACT = range(9)
RECORD_HEADER = struct.Struct(">BQII")
MAX_RECORD = 256 * 1024
MAX_RECORD_DATA = MAX_RECORD - RECORD_HEADER.size
MAX_RANGES = 32
MAX_STATE = 4096
MAX_CAUSE = 4096
MAX_START = (1 << 32) - 1
PROOF_BYTES = 32
PROOF_COUNTS = (16, 64, 256, 1024)
"""How many proofs a CONTACT may hold: how many contacts somebody has is nobody's business."""
CLOSED, CONTACTS = 1, 2

_ACK = struct.Struct(">BBQQB")
_RANGE = struct.Struct(">QQ")
_PING = struct.Struct(">BIH")
_CLOSE = struct.Struct(">BQ")
_ABORT = struct.Struct(">BH")


Record: TypeAlias = tuple[int, int, bytes]
"""Number, start generation, data. A bare tuple: most packets hold one, and a class would double its cost."""


class PeerViolation(SessionError):
    """An authentic packet says what no honest peer says. Unlike a forged one, this is the peer's fault."""

    code = "e.p.session.frame"


class Ack(NamedTuple):
    closed: bool
    packet: int
    next: int
    ranges: tuple[tuple[int, int], ...]
    contacts: bool = False


class Ping(NamedTuple):
    id: int
    state: dict[str, Any]


class Pong(NamedTuple):
    id: int
    state: dict[str, Any]


@dataclass(slots=True)
class Control:
    """The control frames of one packet: of each kind at most one."""

    ack: Ack | None = None
    ping: Ping | None = None
    pong: Pong | None = None
    close: int | None = None
    abort: dict[str, Any] | None = None
    contact: tuple[bytes, ...] | None = None


def padded_length(length: int) -> int:
    """Multiples of 64 below 1 KiB, then Padmé: at most 12 % more, and few lengths to tell apart."""
    if length < 1024:
        return (length + 63) & ~63
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


def largest_unpadded(room: int) -> int:
    """The most bytes whose padded length still fits into `room`."""
    if room < 1024:
        return max(room, 0) & ~63
    exponent = room.bit_length() - 1
    return room & ~((1 << (exponent - exponent.bit_length())) - 1)


def encode_ack(ack: Ack) -> bytes:
    head = _ACK.pack(ACK, ack.closed | ack.contacts << 1, ack.packet, ack.next, len(ack.ranges))
    return head + b"".join(_RANGE.pack(first, end) for first, end in ack.ranges)


def encode_ready() -> bytes:
    return bytes((READY,))


def encode_ping(number: int, state: bytes) -> bytes:
    return _PING.pack(PING, number, len(state)) + state


def encode_pong(number: int, state: bytes) -> bytes:
    return _PING.pack(PONG, number, len(state)) + state


def encode_close(records: int) -> bytes:
    return _CLOSE.pack(CLOSE, records)


def encode_abort(cause: bytes) -> bytes:
    return _ABORT.pack(ABORT, len(cause)) + cause


def encode_contact(proofs: Sequence[bytes]) -> bytes:
    return bytes((CONTACT,)) + len(proofs).to_bytes(2, "big") + b"".join(proofs)


def encode_object(value: Mapping[str, Any], limit: int) -> bytes:
    """The JSON of a state or cause, within its limit."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise LocalMisuse("What is told to a peer must be plain JSON.", why=str(error)) from None
    if len(text) > limit:
        raise LocalMisuse("What is told to a peer is too long.", why=f"{len(text)} of {limit} bytes")
    return text


def decode(plaintext: bytes) -> tuple[list[Record], Control | None]:
    """All frames of a packet, or PeerViolation: then none of them counts."""
    records: list[Record] = []
    control: Control | None = None
    position, end = 0, len(plaintext)
    try:
        while position < end:
            kind = plaintext[position]
            if kind == RECORD:
                _, number, start, length = RECORD_HEADER.unpack_from(plaintext, position)
                position += 17
                stop = position + length
                if stop > end or length > MAX_RECORD_DATA:
                    raise PeerViolation("A record is longer than it may be.")
                records.append((number, start, plaintext[position:stop]))
                position = stop
            elif kind == PADDING:
                break
            else:
                reader = _READERS.get(kind)
                if reader is None:
                    raise PeerViolation("A packet holds a frame of an unknown kind.")
                control = control or Control()
                position = reader(control, plaintext, position + 1)
    except struct.error:
        raise PeerViolation("A packet ends within a frame.") from None
    return records, control


def _once(earlier: object) -> None:
    if earlier is not None:
        raise PeerViolation("A packet holds two control frames of one kind.")


def _read_ready(control: Control, data: bytes, position: int) -> int:
    return position


def _read_ack(control: Control, data: bytes, position: int) -> int:
    flags, packet, following, count = struct.unpack_from(">BQQB", data, position)
    position += 18
    _once(control.ack)
    if flags > CLOSED | CONTACTS or count > MAX_RANGES:
        raise PeerViolation("An acknowledgement is malformed.")
    ranges = []
    last = following
    for _ in range(count):
        first, stop = _RANGE.unpack_from(data, position)
        position += _RANGE.size
        if not last < first < stop:
            raise PeerViolation("The ranges of an acknowledgement are out of order.")
        ranges.append((first, stop))
        last = stop
    control.ack = Ack(bool(flags & CLOSED), packet, following, tuple(ranges), bool(flags & CONTACTS))
    return position


def _read_ping(control: Control, data: bytes, position: int) -> int:
    _once(control.ping)
    number, state, position = _read_state(data, position)
    control.ping = Ping(number, state)
    return position


def _read_pong(control: Control, data: bytes, position: int) -> int:
    _once(control.pong)
    number, state, position = _read_state(data, position)
    control.pong = Pong(number, state)
    return position


def _read_state(data: bytes, position: int) -> tuple[int, dict[str, Any], int]:
    number, length = struct.unpack_from(">IH", data, position)
    state, position = _read_object(data, position + 6, length, MAX_STATE)
    return number, state, position


def _read_close(control: Control, data: bytes, position: int) -> int:
    (records,) = struct.unpack_from(">Q", data, position)
    _once(control.close)
    control.close = records
    return position + 8


def _read_abort(control: Control, data: bytes, position: int) -> int:
    _once(control.abort)
    (length,) = struct.unpack_from(">H", data, position)
    control.abort, position = _read_object(data, position + 2, length, MAX_CAUSE)
    return position


def _read_contact(control: Control, data: bytes, position: int) -> int:
    _once(control.contact)
    count: int = struct.unpack_from(">H", data, position)[0]
    first, stop = position + 2, position + 2 + count * PROOF_BYTES
    if count not in PROOF_COUNTS or stop > len(data):
        raise PeerViolation("A packet holds another number of contact proofs than it may.")
    control.contact = tuple(data[at : at + PROOF_BYTES] for at in range(first, stop, PROOF_BYTES))
    return stop


def _read_object(data: bytes, position: int, length: int, limit: int) -> tuple[dict[str, Any], int]:
    stop = position + length
    if stop > len(data) or length > limit:
        raise PeerViolation("A state or cause is longer than it may be.")
    try:
        return read_object(data[position:stop]), stop
    except ValueError:
        raise PeerViolation("A state or cause is no JSON object.") from None


_READERS: dict[int, Callable[[Control, bytes, int], int]] = {
    READY: _read_ready,
    ACK: _read_ack,
    PING: _read_ping,
    PONG: _read_pong,
    CLOSE: _read_close,
    ABORT: _read_abort,
    CONTACT: _read_contact,
}


def ranges_of(numbers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as (first, end) ranges, at most `MAX_RANGES` of the lowest."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        elif len(ranges) == MAX_RANGES:
            break
        else:
            ranges.append((number, number + 1))
    return tuple(ranges)
