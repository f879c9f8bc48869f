"""The key schedule of `session/1.0`: transcript hash, extract, labels, epoch keys.

docs/session-extension.md, "Key schedule". Every function here is a formula of that section.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

PROTOCOL = b"didmpc session/1.0"


def length_prefixed(value: bytes) -> bytes:
    """LP(x) = u32 length || x: no two different lists of values give the same bytes."""
    return len(value).to_bytes(4, "big") + value


@dataclass(frozen=True, slots=True)
class Transcript:
    """What both parties must have seen alike; DIDs and kids in canonical (short) form."""

    did_i: str
    did_r: str
    kid_i: str
    public_i: bytes
    kid_r: str
    public_r: bytes
    open_id: str
    hs_i: bytes
    hs_r: bytes

    def hash(self) -> bytes:
        """TH: SHA-256 over the name of the protocol and every part, length-prefixed."""
        parts = (
            self.did_i.encode(),
            self.did_r.encode(),
            self.kid_i.encode(),
            self.public_i,
            self.kid_r.encode(),
            self.public_r,
            self.open_id.encode(),
            self.hs_i,
            self.hs_r,
        )
        return hashlib.sha256(PROTOCOL + b"".join(map(length_prefixed, parts))).digest()


def extract(
    suite: str, *, kem_secret: bytes, dh_secret: bytes, k_i: bytes, k_r: bytes, continued: bytes = b""
) -> bytes:
    """PRK = HKDF-Extract(salt = protocol and suite, IKM = LP(KEM secret or "") || ee || k_i || k_r || c).

    c is `continuation_key` of the session that is continued, else nothing.
    """
    material = length_prefixed(kem_secret) + dh_secret + k_i + k_r + continued
    return hmac.digest(PROTOCOL + b" " + suite.encode(), material, "sha256")


def label(prk: bytes, name: str, transcript_hash: bytes, length: int = 32) -> bytes:
    """X(l, n) = HKDF-Expand(PRK, "didmpc s1 " || l || 0x00 || TH, n)."""
    return expand(prk, b"didmpc s1 " + name.encode() + b"\x00" + transcript_hash, length)


def epoch_key(secret: bytes) -> tuple[bytes, bytes, bytes]:
    """From S[e]: the AEAD key, the iv, and S[e+1]. The caller forgets S[e]."""
    return expand(secret, b"key", 32), expand(secret, b"iv", 12), expand(secret, b"next", 32)


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, section 2.3)."""
    return HKDFExpand(SHA256(), length, info).derive(secret)
