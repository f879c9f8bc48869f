"""Keys as DIDComm uses them: a curve and the raw bytes, with the ways to write and to use them.

DIDComm Messaging 2.1 ("Curves and Content Encryption Algorithms") asks for X25519, P-256 and P-384
in key agreement; Ed25519, P-256 and P-384 sign. P-521 (to agree) and secp256k1 (to sign) are read, and never
offered or written. A key object that exists is valid: the point was found to be on its curve when the object
was made.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from didmpc.protocols.crypto.encoding import b64url, multibase, split_varint, unb64url, unmultibase, varint
from didmpc.protocols.errors import DidError, EnvelopeError, LocalMisuse

Curve = Literal["X25519", "Ed25519", "P-256", "P-384", "P-521", "secp256k1"]
CURVES: tuple[Curve, ...] = get_args(Curve)
AGREEMENT_CURVES: frozenset[Curve] = frozenset({"X25519", "P-256", "P-384", "P-521"})
SIGNING_CURVES: frozenset[Curve] = frozenset({"Ed25519", "P-256", "P-384", "secp256k1"})
RECEIVED_ONLY: frozenset[Curve] = frozenset({"P-521", "secp256k1"})
"""What a peer may use towards us and we never use towards a peer."""

# Multicodec table (multiformats/multicodec): p256-pub is the varint of 0x1200, which is 80 24.
_MULTICODEC: dict[Curve, int] = {
    "X25519": 0xEC,
    "Ed25519": 0xED,
    "P-256": 0x1200,
    "P-384": 0x1201,
    "P-521": 0x1202,
    "secp256k1": 0xE7,
}
_CURVE_OF: dict[int, Curve] = {code: curve for curve, code in _MULTICODEC.items()}

_EC: dict[Curve, tuple[ec.EllipticCurve, hashes.HashAlgorithm, int]] = {
    "P-256": (ec.SECP256R1(), hashes.SHA256(), 32),
    "P-384": (ec.SECP384R1(), hashes.SHA384(), 48),
    "P-521": (ec.SECP521R1(), hashes.SHA512(), 66),
    "secp256k1": (ec.SECP256K1(), hashes.SHA256(), 32),
}
_OKP_SIZE = 32
_MAX_STANDING = 4096


def multikey_curve(text: str) -> Curve | None:
    """The curve of a multikey; None where it is well written but of a kind that is not supported here."""
    try:
        return _CURVE_OF.get(split_varint(unmultibase(text))[0])
    except ValueError as error:
        raise DidError("A public key in a DID is damaged.", why=str(error)) from None


PublicHandle = X25519PublicKey | Ed25519PublicKey | ec.EllipticCurvePublicKey
PrivateHandle = X25519PrivateKey | Ed25519PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key. `raw` is 32 bytes for X25519 and Ed25519, else the compressed SEC1 point."""

    curve: Curve
    raw: bytes
    handle: PublicHandle = field(init=False, repr=False, compare=False)
    """The same key as `cryptography` holds it."""

    def __post_init__(self) -> None:
        try:
            handle = _public_handle(self.curve, self.raw)
        except ValueError as error:
            raise DidError(f"This is not a public key of the curve {self.curve}.", why=str(error)) from None
        object.__setattr__(self, "handle", handle)

    def jwk(self) -> dict[str, str]:
        """The key as a JWK (RFC 7517; RFC 8037 for X25519 and Ed25519)."""
        if not isinstance(self.handle, ec.EllipticCurvePublicKey):
            return {"kty": "OKP", "crv": self.curve, "x": b64url(self.raw)}
        numbers, size = self.handle.public_numbers(), _EC[self.curve][2]
        return {
            "kty": "EC",
            "crv": self.curve,
            "x": b64url(numbers.x.to_bytes(size, "big")),
            "y": b64url(numbers.y.to_bytes(size, "big")),
        }

    def multikey(self) -> str:
        """The key as multibase(multicodec || raw): begins z6LS, z6Mk, zDn, z82, z2J9 or zQ3s."""
        return multibase(varint(_MULTICODEC[self.curve]) + self.raw)

    @classmethod
    def from_multikey(cls, text: str) -> "PublicKey":
        try:
            code, raw = split_varint(unmultibase(text))
        except ValueError as error:
            raise DidError("A public key in a DID is damaged.", why=str(error)) from None
        if code not in _CURVE_OF:
            raise DidError(
                "A public key in a DID is of a kind that is not supported here.",
                why=f"its multicodec is {code:#x}; supported are {', '.join(CURVES)}",
            )
        return cls(_CURVE_OF[code], raw)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> "PublicKey":
        curve = jwk.get("crv")
        if curve not in CURVES or jwk.get("kty") != ("EC" if curve in _EC else "OKP"):
            raise DidError(
                "A public key in JWK form is of a kind that is not supported here.",
                why=f"supported curves are {', '.join(CURVES)}",
            )
        if curve not in _EC:
            return cls(curve, _member(jwk, "x", _OKP_SIZE))
        x, y = (_coordinate(jwk, name, _EC[curve][2]) for name in "xy")
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(_EC[curve][0], b"\x04" + x + y)
        except ValueError:
            raise DidError(f"A public key in JWK form is not a point of the curve {curve}.") from None
        return cls(curve, point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint))

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return when `signature` is this key's over `data`, else raise `EnvelopeError`.

        Signatures are as JOSE has them: 64 bytes for Ed25519, r || s for the NIST curves (RFC 7518, 3.4).
        """
        try:
            if isinstance(self.handle, Ed25519PublicKey):
                self.handle.verify(signature, data)
            elif isinstance(self.handle, ec.EllipticCurvePublicKey):
                _, digest, size = _EC[self.curve]
                if len(signature) != 2 * size:
                    raise InvalidSignature
                r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
                self.handle.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
            else:
                raise EnvelopeError(f"A key of the curve {self.curve} cannot sign.")
        except InvalidSignature:
            raise EnvelopeError("A signature does not match its key and what it signs.") from None


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """A private key. `raw` is the 32-byte seed or scalar, or the big-endian scalar of a NIST curve."""

    curve: Curve
    raw: bytes
    handle: PrivateHandle = field(init=False, compare=False)
    public: PublicKey = field(init=False, compare=False)
    _standing: dict[PublicKey, bytes] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        try:
            handle = _private_handle(self.curve, self.raw)
        except ValueError:
            raise LocalMisuse(f"This is not a private key of the curve {self.curve}.") from None
        if isinstance(handle, ec.EllipticCurvePrivateKey):
            raw = handle.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        else:
            raw = handle.public_key().public_bytes_raw()
        object.__setattr__(self, "handle", handle)
        object.__setattr__(self, "public", PublicKey(self.curve, raw))

    def __repr__(self) -> str:
        return f"PrivateKey(curve={self.curve!r}, raw=<secret>)"

    @classmethod
    def generate(cls, curve: Curve) -> "PrivateKey":
        if curve not in _EC:
            return cls(curve, secrets.token_bytes(_OKP_SIZE))  # any 32 bytes are a key (RFC 7748, 8032)
        params, _, size = _EC[curve]
        return cls(curve, (secrets.randbelow(params.group_order - 1) + 1).to_bytes(size, "big"))

    def jwk(self) -> dict[str, str]:
        """The key as a private JWK: for encrypted storage only."""
        return {**self.public.jwk(), "d": b64url(self.raw)}

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> "PrivateKey":
        public = PublicKey.from_jwk(jwk)
        size = _EC[public.curve][2] if public.curve in _EC else _OKP_SIZE
        key = cls(public.curve, _member(jwk, "d", size))
        if key.public != public:
            raise LocalMisuse("A private key and the public key beside it do not belong together.")
        return key

    def sign(self, data: bytes) -> bytes:
        """Sign `data`; the form is that of `PublicKey.verify`."""
        if isinstance(self.handle, Ed25519PrivateKey):
            return self.handle.sign(data)
        if isinstance(self.handle, ec.EllipticCurvePrivateKey):
            _, digest, size = _EC[self.curve]
            r, s = decode_dss_signature(self.handle.sign(data, ec.ECDSA(digest)))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        raise LocalMisuse(f"A key of the curve {self.curve} cannot sign.")

    def exchange(self, public: PublicKey) -> bytes:
        """The Diffie-Hellman secret of this key and `public`; an all-zero one is refused (RFC 7748, 6.1)."""
        try:
            if isinstance(self.handle, X25519PrivateKey) and isinstance(public.handle, X25519PublicKey):
                return self.handle.exchange(public.handle)
            if isinstance(self.handle, ec.EllipticCurvePrivateKey) and public.curve == self.curve:
                assert isinstance(public.handle, ec.EllipticCurvePublicKey)
                return self.handle.exchange(ec.ECDH(), public.handle)
        except ValueError:
            raise EnvelopeError(
                "A peer's public key gives no shared secret (a point of low order)."
            ) from None
        raise EnvelopeError(f"Keys of the curves {self.curve} and {public.curve} cannot agree on a secret.")

    def standing_secret(self, public: PublicKey) -> bytes:
        """As `exchange`, remembered with this key: for a partner's own key, never for an ephemeral one."""
        secret = self._standing.get(public)
        if secret is None:
            secret = self.exchange(public)
            if len(self._standing) >= _MAX_STANDING:
                self._standing.clear()
            self._standing[public] = secret
        return secret


def _public_handle(curve: Curve, raw: bytes) -> PublicHandle:
    if curve in _EC:
        params, _, size = _EC[curve]
        if len(raw) != size + 1:
            raise ValueError(f"a compressed point has {size + 1} bytes, not {len(raw)}")
        return ec.EllipticCurvePublicKey.from_encoded_point(params, raw)
    kind = X25519PublicKey if curve == "X25519" else Ed25519PublicKey
    return kind.from_public_bytes(raw)


def _private_handle(curve: Curve, raw: bytes) -> PrivateHandle:
    if curve in _EC:
        params, _, size = _EC[curve]
        if len(raw) != size:
            raise ValueError(f"a scalar has {size} bytes")
        return ec.derive_private_key(int.from_bytes(raw, "big"), params)
    kind = X25519PrivateKey if curve == "X25519" else Ed25519PrivateKey
    return kind.from_private_bytes(raw)


def _coordinate(jwk: Mapping[str, Any], name: str, size: int) -> bytes:
    """A coordinate of a NIST point, where its leading zeros may be missing.

    RFC 7518, 6.2.1.2 wants them written. PyPI `authlib`, and `didcomm` with it, leaves them out: without
    this one of 128 of its envelopes could not be opened. The point is the same, and checked as any other.
    """
    return _member(jwk, name, size, at_least=1).rjust(size, b"\0")


def _member(jwk: Mapping[str, Any], name: str, size: int, at_least: int | None = None) -> bytes:
    """A member of `size` bytes, or of fewer where `at_least` says so."""
    text = jwk.get(name)
    least = size if at_least is None else at_least
    try:
        if isinstance(text, str) and len(text) <= 2 * size and least <= len(raw := unb64url(text)) <= size:
            return raw
    except ValueError:
        pass
    raise DidError(f"A key in JWK form is damaged: its {name} is not {size} bytes in base64url.")
