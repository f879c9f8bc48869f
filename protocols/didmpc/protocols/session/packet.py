"""Packets: the sealed unit of `session/1.0`, on links and on hops alike.

    ver u8 | sid 8 | epoch u32 | number u64 | ciphertext | tag 16          big endian

The header is the associated data, the nonce is iv XOR number. A number is sealed once and never again,
in whatever epoch: numbers are never reset, so a second seal under one (key, nonce) cannot be written
down (docs/session-extension.md, "Packets"). Each direction has its own keys.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from didmpc.protocols.errors import SessionError
from didmpc.protocols.session.schedule import epoch_key

VERSION = 1
HEADER = struct.Struct(">B8sIQ")
_HEAD_BYTES = HEADER.size - 8  # all but the number: the same for every packet of an epoch
_SPLIT = struct.Struct(f">{_HEAD_BYTES}sQ")
SID = slice(1, 9)
"""Where a packet names its session, unproven."""
TAG_BYTES = 16
OVERHEAD = HEADER.size + TAG_BYTES
_ROOM_BEFORE, _ROOM_BEHIND = bytes(HEADER.size), bytes(TAG_BYTES)
REPLAY_WINDOW = 1 << 14
MAX_FAILED_OPENS = 1 << 20
MAX_PACKET_BYTES = 1 << 20
MALFORMED = "e.p.session.packet"
# Far below what AES-GCM bears under one key. Reached only when nobody ever acknowledges.
_EPOCH_CEILING = 1 << 28
_LAST_EPOCH = (1 << 32) - 1
_WORTH_A_VIEW = 4096  # bytes; a smaller piece is copied faster than looked at


def largest_plaintext(room: int) -> int:
    """The most bytes of plaintext whose packet still fits into `room`."""
    return room - OVERHEAD


def unsealed(*plaintext: bytes) -> bytearray:
    """A packet to be, with the plaintext (in pieces) in its place: for `seal_in_place`."""
    return bytearray().join((_ROOM_BEFORE, *plaintext, _ROOM_BEHIND))


def inside(packet: bytearray) -> memoryview:
    """The place of the plaintext in a packet that is unsealed, or was opened in place."""
    return memoryview(packet)[HEADER.size : -TAG_BYTES]


class SessionOver(SessionError):
    """This session can carry nothing more: too old, idle too long, or under attack. Make a new one."""

    code = "e.p.session.over"


def replayed() -> SessionError:
    return SessionError("A packet was opened before, or is too old to tell.", code="e.p.session.replay")


class Aead(Protocol):
    """The calls of `AESGCM` that packets use; tests hand in one that records its nonces.

    `..._into` writes where it is told, which may be where it reads.
    """

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None) -> bytes: ...

    def encrypt_into(
        self, nonce: bytes, data: memoryview, associated_data: bytes | None, buf: memoryview
    ) -> int: ...

    def decrypt_into(
        self, nonce: bytes, data: memoryview, associated_data: bytes | None, buf: memoryview
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class EpochLimits:
    """When the sealing side steps to the next epoch: whichever of the three comes first."""

    packets: int = 1 << 20
    bytes: int = 1 << 30
    seconds: float = 600.0


class PacketSealer:
    """Seals one direction of a session.

    An epoch is left only after one of its packets was acknowledged (`acknowledged`), so the receiver is
    never more than one epoch behind. On a path that keeps order and loses nothing (the WebSocket of a
    hop session: `ordered`) every sealed packet counts as acknowledged.
    """

    def __init__(
        self,
        secret: bytes,
        sid: bytes,
        *,
        ordered: bool = False,
        limits: EpochLimits | None = None,
        aead: Callable[[bytes], Aead] = AESGCM,
    ) -> None:
        self._aead = aead
        self._sid = sid
        self._ordered = ordered
        self._limits = limits or EpochLimits()
        self._step_bytes = self._limits.bytes
        self._secret = secret
        self.number = 0  # of the next packet
        self.epoch = -1
        self._acknowledged = -1
        self._bytes = 0  # sealed in this epoch
        self._step_time = -inf  # known from the first `now` in this epoch
        self._step()

    def __repr__(self) -> str:
        return f"<PacketSealer epoch={self.epoch} number={self.number}>"

    def seal(self, plaintext: bytes, now: float = -inf) -> bytes:
        """Seal one packet. Without `now` epochs change by packets and bytes only."""
        number = self.number
        if number >= self._step_number or self._bytes >= self._step_bytes or now >= self._step_time:
            self._consider_step(now)
        self.number = number + 1  # whatever goes wrong from here on, it is used up
        self._bytes += len(plaintext)
        header = self._head + number.to_bytes(8, "big")
        return header + self._encrypt((self._iv ^ number).to_bytes(12, "big"), plaintext, header)

    def seal_in_place(self, packet: bytearray, now: float = -inf) -> None:
        """Seal what lies between the room for a header and that for a tag, as `open_in_place` leaves it."""
        sealed = memoryview(packet)[HEADER.size :]
        number = self.number
        if number >= self._step_number or self._bytes >= self._step_bytes or now >= self._step_time:
            self._consider_step(now)
        self.number = number + 1
        self._bytes += len(sealed) - TAG_BYTES
        packet[: HEADER.size] = header = self._head + number.to_bytes(8, "big")
        nonce = (self._iv ^ number).to_bytes(12, "big")
        self._cipher.encrypt_into(nonce, sealed[:-TAG_BYTES], header, sealed)

    def _take_number(self, size: int, now: float) -> int:
        """As `seal` does it in line: a call costs as much as what it does."""
        number = self.number
        if number >= self._step_number or self._bytes >= self._step_bytes or now >= self._step_time:
            self._consider_step(now)
        self.number = number + 1
        self._bytes += size
        return number

    def acknowledged(self, number: int) -> None:
        """The peer holds the packet `number` of this direction (and so knows its epoch)."""
        self._acknowledged = max(self._acknowledged, number)

    def _consider_step(self, now: float) -> None:
        if self._step_time == -inf:
            self._step_time = inf if now == -inf else now + self._limits.seconds
            if self.number < self._step_number and self._bytes < self._step_bytes:
                return
        confirmed = self.number - 1 if self._ordered else self._acknowledged
        if confirmed >= self._first:
            self._step()
        elif self.number - self._first >= _EPOCH_CEILING:
            raise SessionOver("The session cannot go on: the peer acknowledged none of 2^28 packets.")

    def _step(self) -> None:
        if self.epoch == _LAST_EPOCH:
            raise SessionOver("The session has used up its epochs.")
        key, iv, self._secret = epoch_key(self._secret)
        self._cipher = self._aead(key)
        self._encrypt = self._cipher.encrypt
        self._iv = int.from_bytes(iv, "big")
        self.epoch += 1
        self._head = HEADER.pack(VERSION, self._sid, self.epoch, 0)[:_HEAD_BYTES]
        self._first = self.number
        self._step_number = self.number + self._limits.packets
        self._step_time = -inf
        self._bytes = 0


class PacketOpener:
    """Opens one direction of a session: epochs e-1, e and e+1, each packet number once.

    A packet that is refused changes nothing but the count of failed opens; at 2^20 of them the session
    is over, before guessing tags becomes worth anybody's while.
    """

    def __init__(self, secret: bytes, sid: bytes, *, aead: Callable[[bytes], Aead] = AESGCM) -> None:
        self._aead = aead
        self._sid = sid
        self._next_secret = secret
        self._derived = -1
        self._keys: dict[int, tuple[Aead, int]] = {}
        self.highest = -1  # the highest authentic packet number
        self.failed = 0
        self._seen = bytearray(REPLAY_WINDOW)
        self._derive()
        self._enter(0)

    def __repr__(self) -> str:
        return f"<PacketOpener epoch={self.epoch} highest={self.highest} failed={self.failed}>"

    def open(self, packet: bytes | memoryview) -> bytes:
        """The plaintext of an authentic packet that was not opened before; else SessionError."""
        if not OVERHEAD <= len(packet) <= MAX_PACKET_BYTES:
            raise SessionError("A packet has an impossible length.", code=MALFORMED)
        header = bytes(packet[: HEADER.size])
        head, number = _SPLIT.unpack_from(header)
        # nearly every packet is a new one of the present epoch
        fresh = number > self.highest and head == self._head
        epoch, cipher, iv = self._present if fresh else self._admit(header)
        sealed = memoryview(packet)[HEADER.size :] if len(packet) > _WORTH_A_VIEW else packet[HEADER.size :]
        try:
            plaintext = cipher.decrypt((iv ^ number).to_bytes(12, "big"), sealed, header)
        except InvalidTag:
            raise self._forged() from None
        if fresh and number == self.highest + 1:
            self.highest = number
            self._seen[number % REPLAY_WINDOW] = 1
        else:
            self._opened(epoch, number)
        return plaintext

    def open_in_place(self, packet: bytearray) -> memoryview:
        """As `open`, but the plaintext takes the place of the ciphertext: who relays can seal it there again.

        Where it fails, the packet is spoilt.
        """
        if not OVERHEAD <= len(packet) <= MAX_PACKET_BYTES:
            raise SessionError("A packet has an impossible length.", code=MALFORMED)
        sealed = memoryview(packet)[HEADER.size :]
        header = bytes(packet[: HEADER.size])
        head, number = _SPLIT.unpack_from(header)
        fresh = number > self.highest and head == self._head
        epoch, cipher, iv = self._present if fresh else self._admit(header)
        plaintext = sealed[:-TAG_BYTES]
        try:
            cipher.decrypt_into((iv ^ number).to_bytes(12, "big"), sealed, header, plaintext)
        except InvalidTag:
            raise self._forged() from None
        if fresh and number == self.highest + 1:
            self.highest = number
            self._seen[number % REPLAY_WINDOW] = 1
        else:
            self._opened(epoch, number)
        return plaintext

    def _admit(self, header: bytes) -> tuple[int, Aead, int]:
        """The epoch of a packet, and what opens it; SessionError for one that is not to be opened."""
        version, sid, epoch, number = HEADER.unpack(header)
        if version != VERSION or sid != self._sid:
            raise SessionError("A packet belongs to no session here.", code="e.p.session.unknown")
        highest = self.highest
        if number <= highest and (highest - number >= REPLAY_WINDOW or self._seen[number % REPLAY_WINDOW]):
            raise replayed()
        return epoch, *(self._keys.get(epoch) or self._key_ahead(epoch))

    def _forged(self) -> SessionError:
        self.failed += 1
        if self.failed >= MAX_FAILED_OPENS:
            self._die()
        return SessionError("A packet is not authentic.", code="e.p.trust.crypto")

    def _opened(self, epoch: int, number: int) -> None:
        """Remember an authentic packet: it does not open again, and may take a step to its epoch."""
        if number == self.highest + 1:
            self.highest = number
        elif number > self.highest:
            self._forget_skipped(number)
        self._seen[number % REPLAY_WINDOW] = 1
        if epoch > self.epoch:
            self._keys.pop(epoch - 2, None)
            self._enter(epoch)

    def _enter(self, epoch: int) -> None:
        """From now on most packets are of this epoch."""
        self.epoch = epoch
        self._present = (epoch, *self._keys[epoch])
        self._head = HEADER.pack(VERSION, self._sid, epoch, 0)[:_HEAD_BYTES]

    def _forget_skipped(self, number: int) -> None:
        """Slots between the highest number so far and `number` stand for packets not seen yet."""
        if number - self.highest > REPLAY_WINDOW:
            self._seen = bytearray(REPLAY_WINDOW)
        else:
            for skipped in range(self.highest + 1, number):
                self._seen[skipped % REPLAY_WINDOW] = 0
        self.highest = number

    def _key_ahead(self, epoch: int) -> tuple[Aead, int]:
        if self.failed >= MAX_FAILED_OPENS:
            self._die()
        if epoch != self._derived + 1 or epoch != self.epoch + 1:
            raise SessionError("A packet is of an epoch that is over or far ahead.", code="e.p.session.epoch")
        self._derive()
        return self._keys[epoch]

    def _derive(self) -> None:
        key, iv, self._next_secret = epoch_key(self._next_secret)
        self._derived += 1
        self._keys[self._derived] = (self._aead(key), int.from_bytes(iv, "big"))

    def _die(self) -> None:
        self._keys.clear()
        self._next_secret = self._head = b""
        raise SessionOver("The session was ended: a million packets for it were not authentic.")
