"""Hop frames of `relay/1.0`: what a hop packet carries between an agent and a mediator.

    type u8 | channel u32 | payload                       big endian, one frame per hop packet

    DATA     1  a packet, handed on unread to the other end of the channel
    BIND     2  capability 32 | rebind public key 32 (Ed25519) | signature 64       leg -> mediator
    BOUND    3  credit u32: both ends are bound, this many bytes may be sent        mediator -> leg
    UNBOUND  4  reason u8: the other end is not there, all credit is void           mediator -> leg
    CREDIT   5  bytes u32: the far socket has drained them, send that many more     mediator -> leg
    ERROR    6  code u8: the mediator closed the channel                            mediator -> leg
    PING     7  8 bytes, channel 0; answered by
    PONG     8  the same 8 bytes

Channel numbers are chosen by the leg that binds and mean nothing elsewhere. What a frame costs in
credit is the length of its DATA payload (docs/session-extension.md, "The hop").
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from didmpc.protocols.crypto.keys import PrivateKey, PublicKey
from didmpc.protocols.errors import DidmpcError, SessionError

HEADER = struct.Struct(">BI")
CAPABILITY_BYTES = 32
MAX_CHANNEL = (1 << 32) - 1
MALFORMED = "e.p.relay.frame"
_U32 = struct.Struct(">I")
_BIND = struct.Struct(">32s32s64s")
_BIND_CONTEXT = b"didmpc relay/1.0 bind\x00"


class FrameType(IntEnum):
    DATA = 1
    BIND = 2
    BOUND = 3
    UNBOUND = 4
    CREDIT = 5
    ERROR = 6
    PING = 7
    PONG = 8


_DATA = int(FrameType.DATA)  # which is read for each packet: an attribute of an enum takes its time


class UnboundReason(IntEnum):
    """Why the other end of a channel is not there (any more)."""

    LEFT = 1  # its leg went away; it may come back
    DISPLACED = 2  # a later bind of this very end took its place
    REVOKED = 3  # the owner took the channel back
    EXPIRED = 4


class ErrorCode(IntEnum):
    """Why the mediator refused or closed a channel."""

    UNKNOWN_CAPABILITY = 1
    EXPIRED = 2
    WRONG_REBIND_KEY = 3
    BAD_PROOF = 4
    OVER_CREDIT = 5
    CHANNEL_IN_USE = 6
    TOO_MANY_CHANNELS = 7
    NOT_BOUND = 8


class Data(NamedTuple):
    channel: int
    packet: bytes


class Bind(NamedTuple):
    channel: int
    capability: bytes
    rebind_key: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"Bind(channel={self.channel}, capability=<redacted>)"


class Bound(NamedTuple):
    channel: int
    credit: int


class Unbound(NamedTuple):
    channel: int
    reason: UnboundReason


class Credit(NamedTuple):
    channel: int
    bytes: int


class Error(NamedTuple):
    channel: int
    code: ErrorCode


class Ping(NamedTuple):
    token: bytes


class Pong(NamedTuple):
    token: bytes


Frame: TypeAlias = Data | Bind | Bound | Unbound | Credit | Error | Ping | Pong


def encode_data(channel: int, packet: bytes) -> bytes:
    return HEADER.pack(_DATA, channel) + packet


def is_data(frame: bytes | memoryview) -> bool:
    """Whether it is a DATA frame: those need no `decode` to be passed on."""
    return len(frame) >= HEADER.size and frame[0] == _DATA


def channel_of(frame: bytes | memoryview) -> int:
    """The channel of a DATA frame."""
    return int(HEADER.unpack_from(frame)[1])


def split_data(frame: bytes) -> tuple[int, bytes]:
    """Channel and packet of a DATA frame."""
    _, channel = HEADER.unpack_from(frame)
    return channel, frame[HEADER.size :]


def readdress(frame: memoryview, channel: int) -> None:
    """Make of a DATA frame one for another channel, where it is."""
    HEADER.pack_into(frame, 0, _DATA, channel)


def encode_bind(bind: Bind) -> bytes:
    return HEADER.pack(FrameType.BIND, bind.channel) + _BIND.pack(
        bind.capability, bind.rebind_key, bind.signature
    )


def encode_bound(channel: int, credit: int) -> bytes:
    return HEADER.pack(FrameType.BOUND, channel) + _U32.pack(credit)


def encode_unbound(channel: int, reason: UnboundReason) -> bytes:
    return HEADER.pack(FrameType.UNBOUND, channel) + bytes((reason,))


def encode_credit(channel: int, count: int) -> bytes:
    return HEADER.pack(FrameType.CREDIT, channel) + _U32.pack(count)


def encode_error(channel: int, code: ErrorCode) -> bytes:
    return HEADER.pack(FrameType.ERROR, channel) + bytes((code,))


def encode_ping(token: bytes) -> bytes:
    return HEADER.pack(FrameType.PING, 0) + token


def encode_pong(token: bytes) -> bytes:
    return HEADER.pack(FrameType.PONG, 0) + token


def decode(frame: bytes) -> Frame:
    """Read one hop frame; SessionError for whatever the table above does not allow."""
    if len(frame) < HEADER.size:
        raise SessionError("A hop frame is too short.", code=MALFORMED)
    kind, channel = HEADER.unpack_from(frame)
    payload = frame[HEADER.size :]
    if kind == FrameType.DATA:
        return Data(channel, payload)
    reader = _READERS.get(kind)
    if reader is None:
        raise SessionError("A hop frame is of an unknown type.", code=MALFORMED)
    try:
        return reader(channel, payload)
    except (struct.error, ValueError) as error:
        raise SessionError("A hop frame is malformed.", why=str(error), code=MALFORMED) from None


def _read_ping(channel: int, payload: bytes) -> Ping:
    return Ping(_token(channel, payload))


def _read_pong(channel: int, payload: bytes) -> Pong:
    return Pong(_token(channel, payload))


def _token(channel: int, payload: bytes) -> bytes:
    if channel or len(payload) != 8:
        raise ValueError("a ping or pong has channel 0 and 8 bytes")
    return payload


def _one_byte(payload: bytes) -> int:
    (value,) = struct.unpack(">B", payload)
    return int(value)


_READERS: dict[int, Callable[[int, bytes], Frame]] = {
    FrameType.BIND: lambda channel, payload: Bind(channel, *_BIND.unpack(payload)),
    FrameType.BOUND: lambda channel, payload: Bound(channel, *_U32.unpack(payload)),
    FrameType.UNBOUND: lambda channel, payload: Unbound(channel, UnboundReason(_one_byte(payload))),
    FrameType.CREDIT: lambda channel, payload: Credit(channel, *_U32.unpack(payload)),
    FrameType.ERROR: lambda channel, payload: Error(channel, ErrorCode(_one_byte(payload))),
    FrameType.PING: _read_ping,
    FrameType.PONG: _read_pong,
}


def bind(channel: int, capability: bytes, rebind_key: PrivateKey, exporter: bytes) -> Bind:
    """Claim an end of a channel on the hop session whose exporter is given."""
    proof = bind_proof(rebind_key, exporter, capability)
    return Bind(channel, capability, rebind_key.public.raw, proof)


def bind_proof(rebind_key: PrivateKey, exporter: bytes, capability: bytes) -> bytes:
    """Ed25519 over context, exporter and capability: good for this one hop session only."""
    return rebind_key.sign(_BIND_CONTEXT + exporter + capability)


def verify_bind(frame: Bind, exporter: bytes) -> None:
    """SessionError unless the frame was made for the hop session of `exporter` with its rebind key."""
    try:
        public = PublicKey("Ed25519", frame.rebind_key)
        public.verify(frame.signature, _BIND_CONTEXT + exporter + frame.capability)
    except (DidmpcError, ValueError):
        raise SessionError(
            "The proof of a bind does not fit its rebind key.", code="e.p.relay.proof"
        ) from None
