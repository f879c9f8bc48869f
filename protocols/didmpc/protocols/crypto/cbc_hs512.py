"""JWE with A256CBC-HS512, straight on `cryptography`: all authcrypt, and what we send anonymously.

A mediator opens one for each message that passes, and most of the time went into the models and registries
of a general JOSE library. So this one content encryption is done here, with both key agreements; all
others stay with `joserfc` (`jose`), against which this module is tested.

    Z    = ECDH(epk, recipient)                              ECDH-ES (RFC 7518, 4.6)
           ECDH(epk, recipient) || ECDH(sender, recipient)   ECDH-1PU (draft-madden-jose-ecdh-1pu-04, 2.2)
    KEK  = SHA-256(00000001 || Z || alg || apu || apv || 00000100 || tag)
           alg, apu, apv and tag each after its length; the tag in ECDH-1PU only
    CEK  = MAC key (32 bytes) || ENC key (32 bytes), wrapped with the KEK (RFC 3394)
    tag  = HMAC-SHA-512(MAC key, AAD || IV || ciphertext || bits of AAD)[:32] (RFC 7518, 5.2.2.1)
"""

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.keys import PrivateKey, PublicKey

NAME = "A256CBC-HS512"

_HALF = 32
_CEK_SIZE = 2 * _HALF
_IV_SIZE = 16
_BLOCK = 16
_ROUND = (1).to_bytes(4, "big")
_KEK_BITS = (256).to_bytes(4, "big")


def seal(
    header: Mapping[str, Any],
    protected: str,
    plaintext: bytes,
    recipients: Sequence[PublicKey],
    ephemeral: PrivateKey,
    sender: PrivateKey | None,
) -> tuple[str, str, str, list[str]]:
    """IV, ciphertext, tag, and the encrypted key of each recipient, all in base64url.

    `protected` is the header as it is sent; `ephemeral` is the key of its epk, used for nothing else.
    """
    cek, iv = os.urandom(_CEK_SIZE), os.urandom(_IV_SIZE)
    padding = _BLOCK - len(plaintext) % _BLOCK
    encryptor = Cipher(AES256(cek[_HALF:]), CBC(iv)).encryptor()
    ciphertext = encryptor.update(plaintext + bytes([padding]) * padding) + encryptor.finalize()
    tag = _tag(cek, protected.encode("ascii"), iv, ciphertext)
    keys = []
    for recipient in recipients:
        secret = ephemeral.exchange(recipient)
        if sender is not None:
            secret += sender.standing_secret(recipient)
        keys.append(b64url(aes_key_wrap(_kek(secret, header, tag if sender else None), cek)))
    return b64url(iv), b64url(ciphertext), b64url(tag), keys


def open_(
    header: Mapping[str, Any],
    envelope: Mapping[str, str],
    encrypted_key: str,
    key: PrivateKey,
    ephemeral: PublicKey,
    sender: PublicKey | None,
) -> bytes:
    """The plaintext. Raises `ValueError` or `EnvelopeError` where anything does not fit."""
    iv, ciphertext, tag = (unb64url(envelope[name]) for name in ("iv", "ciphertext", "tag"))
    secret = key.exchange(ephemeral)
    if sender is not None:
        secret += key.standing_secret(sender)
    try:
        cek = aes_key_unwrap(_kek(secret, header, tag if sender else None), unb64url(encrypted_key))
    except InvalidUnwrap:
        raise ValueError("the key cannot be unwrapped") from None
    if len(cek) != _CEK_SIZE or len(iv) != _IV_SIZE:
        raise ValueError("a key or an IV has a wrong length")
    if not hmac.compare_digest(_tag(cek, envelope["protected"].encode("ascii"), iv, ciphertext), tag):
        raise ValueError("the tag does not match")
    decryptor = Cipher(AES256(cek[_HALF:]), CBC(iv)).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    # After the tag was checked: what the padding says is the sender's word, and tells nobody anything.
    padding = padded[-1] if padded else 0
    if not 0 < padding <= _BLOCK or not padded.endswith(bytes([padding]) * padding):
        raise ValueError("the padding is damaged")
    return padded[:-padding]


def _tag(cek: bytes, aad: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    covered = b"".join((aad, iv, ciphertext, (8 * len(aad)).to_bytes(8, "big")))
    return hmac.digest(cek[:_HALF], covered, "sha512")[:_HALF]


def _kek(secret: bytes, header: Mapping[str, Any], tag: bytes | None) -> bytes:
    """The Concat KDF (RFC 7518, 4.6.2): one round, for its 256 bits are one SHA-256."""
    parties = (unb64url(header.get("apu", "")), unb64url(header.get("apv", "")))
    parts = [_ROUND, secret, *map(_counted, (header["alg"].encode(), *parties)), _KEK_BITS]
    if tag is not None:
        parts.append(_counted(tag))
    return hashlib.sha256(b"".join(parts)).digest()


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
