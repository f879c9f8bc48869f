"""Sections 6 and 8: packets of both forms, as one receiver opens them."""

import re
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import schedule
from .reading import Refused, from_b64url, object_of

MALFORMED, UNKNOWN = "e.p.session.packet", "e.p.session.unknown"
REPLAY, EPOCH, CRYPTO = "e.p.session.replay", "e.p.session.epoch", "e.p.trust.crypto"


def read_binary(packet):
    """sid, epoch, number (or a nonce), sealed, associated data."""
    if not 37 <= len(packet) <= 1_048_576:
        raise Refused(MALFORMED)
    version, sid, epoch, number = struct.unpack("!B8sLQ", packet[:21])
    if version != 1:
        raise Refused(UNKNOWN)
    return sid, epoch, number, None, packet[21:], packet[:21]


def read_json(packet):
    if len(packet) > 1_048_576:
        raise Refused(MALFORMED)
    outer = object_of(packet, MALFORMED)
    if sorted(outer) != ["ciphertext", "iv", "protected", "recipients", "tag"] or outer["recipients"] != [{}]:
        raise Refused(MALFORMED)
    header = object_of(from_b64url(outer["protected"], MALFORMED), MALFORMED)
    kid = header.pop("kid", None)
    if header != {"alg": "dir", "enc": "A256GCM", "typ": "application/didcomm-encrypted+json"}:
        raise Refused(MALFORMED)
    if not isinstance(kid, str):
        raise Refused(MALFORMED)
    match = re.fullmatch(r"([A-Za-z0-9_-]{11})\.(0|[1-9][0-9]{0,9})", kid)
    if match is None or int(match[2]) > 4_294_967_295:
        raise Refused(MALFORMED)
    sid = from_b64url(match[1], MALFORMED, 8)
    nonce = from_b64url(outer["iv"], MALFORMED, 12)
    sealed = from_b64url(outer["ciphertext"], MALFORMED) + from_b64url(outer["tag"], MALFORMED, 16)
    return sid, int(match[2]), None, nonce, sealed, outer["protected"].encode()


class Receiver:
    """One direction of a session. It keeps every number it has opened: clear, where a window is quick."""

    def __init__(self, secret, sid, wire):
        self.secrets, self.sid = [secret], sid
        self.read = read_binary if wire == "binary" else read_json
        self.epoch, self.opened = 0, set()

    def keys(self, epoch):
        while len(self.secrets) <= epoch:
            self.secrets.append(schedule.epoch(self.secrets[-1])[2])
        return schedule.epoch(self.secrets[epoch])[:2]

    def open(self, packet):
        sid, epoch, number, nonce, sealed, associated = self.read(packet)
        if sid != self.sid:
            raise Refused(UNKNOWN)
        if number is not None:
            self.check_new(number)
        if not self.epoch - 1 <= epoch <= self.epoch + 1:
            raise Refused(EPOCH)
        key, iv = self.keys(epoch)
        if nonce is None:
            nonce = iv[:4] + (int.from_bytes(iv[4:], "big") ^ number).to_bytes(8, "big")
        else:
            if nonce[:4] != iv[:4]:
                raise Refused(CRYPTO)
            number = int.from_bytes(nonce[4:], "big") ^ int.from_bytes(iv[4:], "big")
            self.check_new(number)
        try:
            plaintext = AESGCM(key).decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise Refused(CRYPTO) from None
        self.opened.add(number)
        self.epoch = max(self.epoch, epoch)
        return number, epoch, plaintext

    def check_new(self, number):
        if number in self.opened or (self.opened and number <= max(self.opened) - 16_384):
            raise Refused(REPLAY)
