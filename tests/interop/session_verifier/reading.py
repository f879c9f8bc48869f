"""Section 1 of the specification: base64url, JSON, canonical DIDs; and the keys of did:peer:4 and did:key."""

import base64
import hashlib
import json
import re

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Refused(Exception):
    """What a receiver refuses, with the code of section 15."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def from_b64url(text, code, size=None):
    """Bytes of base64url in its one canonical spelling."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise Refused(code)
    data = base64.urlsafe_b64decode(text + "==")
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text or size not in (None, len(data)):
        raise Refused(code)
    return data


def to_b64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def object_of(data, code):
    """A JSON object in UTF-8: no member twice, no NaN, no Infinity."""

    def pairs(members):
        if len({name for name, _ in members}) < len(members):
            raise ValueError
        return dict(members)

    def constant(name):
        raise ValueError(name)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError):
        raise Refused(code) from None
    if type(value) is not dict:
        raise Refused(code)
    return value


def canonical(did):
    """Short for did:peer:4, else as it is."""
    return ":".join(did.split(":")[:3]) if did.startswith("did:peer:4") else did


def base58_bytes(text):
    number = 0
    for letter in text:
        number = number * 58 + ALPHABET.index(letter)
    size = (number.bit_length() + 7) // 8
    return bytes(len(text) - len(text.lstrip("1"))) + number.to_bytes(size, "big")


def base58_text(data):
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def agreement_key(did):
    """The canonical id and the raw bytes of the first keyAgreement key of a did:peer:4 or X25519 did:key."""
    if did.startswith("did:key:"):
        multikey = did.removeprefix("did:key:")
        kid = f"{did}#{multikey}"
    else:
        short, _, encoded = did.rpartition(":")
        digest = b"\x12\x20" + hashlib.sha256(encoded.encode()).digest()
        assert short == f"did:peer:4z{base58_text(digest)}", "the hash of a did:peer:4"
        data = base58_bytes(encoded[1:])
        assert data[:2] == b"\x80\x04", "the codec of a did:peer:4"
        document = json.loads(data[2:])
        reference = document["keyAgreement"][0]
        (method,) = (item for item in document["verificationMethod"] if item["id"] == reference)
        multikey, kid = method["publicKeyMultibase"], short + reference
    data = base58_bytes(multikey[1:])
    assert data[:2] in (b"\xec\x01", b"\x80\x24"), "the codec of a keyAgreement key"
    return kid, data[2:]
