"""Packets in the JSON form: ordinary DIDComm envelopes, which any mediator can store.

    {"protected": "…", "recipients": [{}], "iv": "…", "ciphertext": "…", "tag": "…"}
    protected = {"alg":"dir","enc":"A256GCM","kid":"<sid>.<epoch>","typ":"application/didcomm-encrypted+json"}

A General JSON JWE with direct encryption (RFC 7516, 7.2.1; RFC 7518, 4.5). Numbers, epochs, replay and
the count of forgeries are those of the binary form; the number of a packet is in its `iv`, which is
iv[epoch] XOR number (docs/session-extension.md, section 6).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.jose import MAX_PROTECTED
from didmpc.protocols.errors import SessionError
from didmpc.protocols.session.hello import exact_b64
from didmpc.protocols.session.packet import (
    MALFORMED,
    MAX_PACKET_BYTES,
    REPLAY_WINDOW,
    TAG_BYTES,
    PacketOpener,
    PacketSealer,
    replayed,
)
from didmpc.protocols.session.strict_json import read_object

TYP = "application/didcomm-encrypted+json"
NONCE_BYTES = 12
SID_BYTES = 8
OVERHEAD = 248
"""Most bytes of a packet besides the base64url of its plaintext, with the longest epoch."""
_MEMBERS = {"protected", "recipients", "iv", "ciphertext", "tag"}
_HEADER = {"alg": "dir", "enc": "A256GCM", "typ": TYP}
_LAST_EPOCH = (1 << 32) - 1


def largest_plaintext(room: int) -> int:
    """The most bytes of plaintext whose packet still fits into `room`."""
    return max(room - OVERHEAD, 0) * 3 // 4


class JsonSealer(PacketSealer):
    """Seals one direction of a session whose wire form is JSON."""

    def seal(self, plaintext: bytes, now: float = float("-inf")) -> bytes:
        number = self._take_number(len(plaintext), now)
        nonce = (self._iv ^ number).to_bytes(NONCE_BYTES, "big")
        protected = self._protected
        sealed = self._encrypt(nonce, plaintext, protected)
        return b'{"protected":"%b","recipients":[{}],"iv":"%b","ciphertext":"%b","tag":"%b"}' % (
            protected,
            b64url(nonce).encode(),
            b64url(sealed[:-TAG_BYTES]).encode(),
            b64url(sealed[-TAG_BYTES:]).encode(),
        )

    def _step(self) -> None:
        super()._step()
        kid = f"{b64url(self._sid)}.{self.epoch}"
        header = f'{{"alg":"dir","enc":"A256GCM","kid":"{kid}","typ":"{TYP}"}}'
        self._protected = b64url(header.encode()).encode()


class JsonOpener(PacketOpener):
    """Opens one direction of a session whose wire form is JSON; refusals as in the binary form."""

    def open(self, packet: bytes | memoryview) -> bytes:
        parsed = parse(packet)
        if parsed.sid != self._sid:
            raise SessionError("A packet belongs to no session here.", code="e.p.session.unknown")
        cipher, iv = self._keys.get(parsed.epoch) or self._key_ahead(parsed.epoch)
        number = iv ^ int.from_bytes(parsed.nonce, "big")
        if number >= 1 << 64:
            raise self._forged()  # no nonce of this epoch
        highest = self.highest
        if number <= highest and (highest - number >= REPLAY_WINDOW or self._seen[number % REPLAY_WINDOW]):
            raise replayed()
        try:
            plaintext = cipher.decrypt(parsed.nonce, parsed.sealed, parsed.protected)
        except InvalidTag:
            raise self._forged() from None
        self._opened(parsed.epoch, number)
        return plaintext


class JsonPacket(NamedTuple):
    """What a packet says in the clear. `sealed` is ciphertext and tag, `protected` the associated data."""

    sid: bytes
    epoch: int
    nonce: bytes
    sealed: bytes
    protected: bytes


def parse(packet: bytes | memoryview) -> JsonPacket:
    """Read a packet strictly, without opening it. Raises SessionError (`e.p.session.packet`)."""
    if len(packet) > MAX_PACKET_BYTES:
        raise _malformed("it is too long")
    try:
        value = read_object(bytes(packet))
    except ValueError as error:
        raise _malformed(str(error)) from None
    if set(value) != _MEMBERS or value["recipients"] != [{}]:
        raise _malformed("its members are not those of a packet")
    sid, epoch = _read_protected(_binary(value, "protected"))
    nonce, tag = _binary(value, "iv"), _binary(value, "tag")
    if len(nonce) != NONCE_BYTES or len(tag) != TAG_BYTES:
        raise _malformed("its iv or tag has an impossible length")
    sealed = _binary(value, "ciphertext") + tag
    return JsonPacket(sid, epoch, nonce, sealed, value["protected"].encode())


def is_packet(envelope: bytes) -> bool:
    """Whether an envelope is a packet of some session, for those who only store it: its `alg` says so."""
    try:
        protected = msgspec.json.decode(envelope, type=_Protected).protected
        if len(protected) > MAX_PROTECTED:
            return False
        return msgspec.json.decode(unb64url(protected), type=_Algorithm).alg == _HEADER["alg"]
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False  # what else it may be is not for us to say


class _Protected(msgspec.Struct):
    protected: str


class _Algorithm(msgspec.Struct):
    alg: str


def sid_of(envelope: dict[str, Any]) -> bytes | None:
    """The session that an envelope of an inbox is for; None for ordinary ones. It is read strictly later."""
    try:
        return _read_protected(_binary(envelope, "protected"))[0]
    except SessionError:
        return None


def _read_protected(protected: bytes) -> tuple[bytes, int]:
    """The sid and epoch that a protected header names."""
    try:
        header = read_object(protected)
    except ValueError as error:
        raise _malformed(str(error)) from None
    kid = header.pop("kid", None)
    if header != _HEADER or not isinstance(kid, str):
        raise _malformed("its protected header is another")
    name, _, digits = kid.partition(".")
    try:
        sid = exact_b64(name, SID_BYTES)
    except SessionError:
        raise _malformed("its kid names no session") from None
    proper = digits.isascii() and digits.isdigit() and len(digits) <= 10 and str(int(digits)) == digits
    if not proper or int(digits) > _LAST_EPOCH:
        raise _malformed("its kid names no epoch")
    return sid, int(digits)


def _binary(value: dict[str, Any], name: str) -> bytes:
    try:
        return exact_b64(value.get(name))
    except SessionError:
        raise _malformed(f"`{name}` is no base64url") from None


def _malformed(why: str) -> SessionError:
    return SessionError("A packet in JSON is malformed.", why=why, code=MALFORMED)
