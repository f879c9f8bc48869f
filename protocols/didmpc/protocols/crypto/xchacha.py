"""XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), which `cryptography` has no call for.

Its one missing piece is HChaCha20, the block function without the final addition. The block of ordinary
ChaCha20 is that plus the initial state, so subtracting the known words of the state gives it back.
"""

import struct

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

KEY_SIZE = 32
NONCE_SIZE = 24
TAG_SIZE = 16

_WORDS = struct.Struct("<16I")
_FOUR = struct.Struct("<4I")
_CONSTANTS = _FOUR.unpack(b"expand 32-byte k")


def encrypt(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """The ciphertext with the tag at its end."""
    return ChaCha20Poly1305(_subkey(key, nonce)).encrypt(_inner_nonce(nonce), plaintext, aad)


def decrypt(key: bytes, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    """The plaintext of what `encrypt` gave. Raises `cryptography.exceptions.InvalidTag`."""
    return ChaCha20Poly1305(_subkey(key, nonce)).decrypt(_inner_nonce(nonce), ciphertext, aad)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The subkey of a 32-byte key and a 16-byte nonce (section 2.2)."""
    block = _WORDS.unpack(Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64)))
    initial = (*_CONSTANTS, *_FOUR.unpack(nonce))
    words = zip((*block[:4], *block[12:]), initial, strict=True)
    return struct.pack("<8I", *((word - start) & 0xFFFFFFFF for word, start in words))


def _subkey(key: bytes, nonce: bytes) -> bytes:
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} bytes")
    return hchacha20(key, nonce[:16])


def _inner_nonce(nonce: bytes) -> bytes:
    return bytes(4) + nonce[16:]
