"""A256CBC-HS512 done here and by joserfc: each opens what the other sealed, and refuses the same damage."""

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from didmpc.protocols.crypto import cbc_hs512, jose
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.keys import Curve, PrivateKey
from didmpc.protocols.errors import EnvelopeError

CURVES: tuple[Curve, ...] = ("X25519", "P-256", "P-384")
PLAINTEXTS = (b"", b"{}", b"x" * 15, b"x" * 16, b"x" * 5000)


def header_for(sender: PrivateKey | None, ephemeral: PrivateKey) -> dict[str, Any]:
    named = {"skid": "did:a:b#1", "apu": b64url(b"did:a:b#1")} if sender else {}
    alg = jose.AUTHCRYPT if sender else jose.ANONCRYPT
    apv = jose.apv_of(["did:c:d#1"])
    return {"alg": alg, "enc": cbc_hs512.NAME, "apv": apv, "epk": ephemeral.public.jwk(), **named}


class Parties:
    def __init__(self, curve: Curve, *, authenticated: bool) -> None:
        self.recipient, self.ephemeral = PrivateKey.generate(curve), PrivateKey.generate(curve)
        self.sender = PrivateKey.generate(curve) if authenticated else None
        self.header = header_for(self.sender, self.ephemeral)

    def seal(self, plaintext: bytes) -> tuple[dict[str, str], str]:
        protected = b64url(msgspec.json.encode(self.header))
        iv, ciphertext, tag, (key,) = cbc_hs512.seal(
            self.header, protected, plaintext, [self.recipient.public], self.ephemeral, self.sender
        )
        return {"protected": protected, "iv": iv, "ciphertext": ciphertext, "tag": tag}, key

    def open(self, envelope: dict[str, str], key: str) -> bytes:
        sender = self.sender.public if self.sender else None
        return jose.decrypt(self.header, envelope, key, self.recipient, self.ephemeral.public, sender)

    def open_by_joserfc(self, envelope: dict[str, str], key: str) -> bytes:
        return jose._decrypt(envelope, key, self.recipient, self.sender.public if self.sender else None)


@pytest.mark.parametrize("authenticated", [False, True], ids=["anoncrypt", "authcrypt"])
@pytest.mark.parametrize("curve", CURVES)
def test_joserfc_opens_what_is_sealed_here_and_the_reverse(curve: Curve, authenticated: bool) -> None:
    parties = Parties(curve, authenticated=authenticated)
    for plaintext in PLAINTEXTS:
        envelope, key = parties.seal(plaintext)
        assert parties.open(envelope, key) == plaintext
        assert parties.open_by_joserfc(envelope, key) == plaintext
        theirs, (their_key,) = jose._encrypt(
            parties.header,
            plaintext,
            [("did:c:d#1", parties.recipient.public)],
            parties.ephemeral,
            parties.sender,
        )
        assert parties.open(theirs, their_key) == plaintext


@pytest.mark.parametrize("authenticated", [False, True], ids=["anoncrypt", "authcrypt"])
@pytest.mark.parametrize("name", ["iv", "ciphertext", "tag", "key"])
def test_a_changed_bit_or_a_missing_byte_anywhere_is_refused(name: str, authenticated: bool) -> None:
    parties = Parties("X25519", authenticated=authenticated)
    envelope, key = parties.seal(b"a message of more than one block")
    right = unb64url(key if name == "key" else envelope[name])
    for wrong in (
        bytes([right[0] ^ 1]) + right[1:],
        right[:-1] + bytes([right[-1] ^ 0x80]),
        *(right[:-1], right + b"\0", b""),
    ):
        damaged = envelope if name == "key" else {**envelope, name: b64url(wrong)}
        with pytest.raises(EnvelopeError):
            parties.open(damaged, b64url(wrong) if name == "key" else key)


def test_the_header_is_covered_as_it_was_sent() -> None:
    parties = Parties("X25519", authenticated=False)
    envelope, key = parties.seal(b"{}")
    rewritten = b64url(msgspec.json.encode(dict(reversed(parties.header.items()))))
    with pytest.raises(EnvelopeError):
        parties.open({**envelope, "protected": rewritten}, key)


@pytest.mark.parametrize("name", ["alg", "apv", "apu"])
def test_what_the_key_derivation_covers_must_be_the_senders(name: str) -> None:
    parties = Parties("X25519", authenticated=True)
    envelope, key = parties.seal(b"{}")
    parties.header[name] = "QUFB"
    with pytest.raises(EnvelopeError):
        parties.open(envelope, key)


@pytest.mark.parametrize("size", [16, 32, 48, 72, 128])
def test_a_wrapped_key_of_another_length_is_refused(size: int) -> None:
    parties = Parties("X25519", authenticated=False)
    envelope, _ = parties.seal(b"{}")
    secret = parties.ephemeral.exchange(parties.recipient.public)
    wrapped = aes_key_wrap(cbc_hs512._kek(secret, parties.header, None), bytes(size))
    with pytest.raises(EnvelopeError):
        parties.open(envelope, b64url(wrapped))


@pytest.mark.parametrize("padded", [b"", b"\0" * 16, b"x" * 15 + b"\x11", b"x" * 14 + b"\x01\x02"])
def test_padding_that_cannot_be_is_refused_even_under_a_right_tag(padded: bytes) -> None:
    parties = Parties("X25519", authenticated=False)
    cek, iv, protected = bytes(64), bytes(16), b64url(msgspec.json.encode(parties.header))
    encryptor = cbc_hs512.Cipher(cbc_hs512.AES256(cek[32:]), cbc_hs512.CBC(iv)).encryptor()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    tag = cbc_hs512._tag(cek, protected.encode(), iv, ciphertext)
    secret = parties.ephemeral.exchange(parties.recipient.public)
    key = aes_key_wrap(cbc_hs512._kek(secret, parties.header, None), cek)
    parts = {"iv": iv, "ciphertext": ciphertext, "tag": tag}
    envelope = {"protected": protected, **{name: b64url(part) for name, part in parts.items()}}
    with pytest.raises(EnvelopeError):
        parties.open(envelope, b64url(key))
