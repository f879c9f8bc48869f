"""The JOSE algorithms that DIDComm allows, on `joserfc`, and nothing else of JOSE.

Four properties of joserfc 1.8 decide how it is used here:

* its size caps (1,024 bytes of protected header, 64 KiB of ciphertext) are below what a did:peer:4 in
  long form and an ordinary attachment need: the registries here raise them to limits of our own;
* its JSON form writes `epk` into the header of each recipient, where DIDComm wants one in the protected
  header: the ephemeral key is made here and put there before it encrypts;
* its JSON form authenticates a protected header that it has written anew instead of the one received:
  opening goes through the compact form, which takes the received bytes;
* its XC20P needs a library that we do not carry, and its EdDSA prints a warning at each use: both are
  replaced here.

A256CBC-HS512, which all authcrypt uses, takes the short way of `cbc_hs512`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from joserfc import jwe, jws
from joserfc.drafts.jwe_ecdh_1pu import register_ecdh_1pu
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWEEncModel, JWSAlgModel
from joserfc.jwk import ECKey, OKPKey

from didmpc.protocols.crypto import cbc_hs512, xchacha
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.crypto.keys import Curve, PrivateKey, PublicKey
from didmpc.protocols.errors import EnvelopeError

MAX_PROTECTED = 65_536
"""Largest protected header in base64url: it may carry the key id of a long DID twice."""
MAX_CIPHERTEXT = 32 * 1024 * 1024

AUTHCRYPT = "ECDH-1PU+A256KW"
ANONCRYPT = "ECDH-ES+A256KW"
# The key derivation of ECDH-1PU covers the tag, which only commits to the key in AES-CBC with HMAC.
AUTHCRYPT_ENC = frozenset({"A256CBC-HS512"})
ANONCRYPT_ENC = frozenset({"A256CBC-HS512", "A256GCM", "XC20P"})
SIGNATURE_ALG: dict[Curve, str] = {
    "Ed25519": "EdDSA",
    "P-256": "ES256",
    "P-384": "ES384",
    "secp256k1": "ES256K",
}

# What joserfc and cryptography raise on foreign input; `AssertionError` is joserfc's check of headers.
_FAILURES = (JoseError, ValueError, TypeError, KeyError, AttributeError, InvalidTag, AssertionError)


class _XC20P(JWEEncModel):
    """XChaCha20-Poly1305 content encryption (draft-amringer-jose-chacha-02, section 4)."""

    name = "XC20P"
    description = "XChaCha20-Poly1305"
    iv_size = xchacha.NONCE_SIZE * 8
    cek_size = xchacha.KEY_SIZE * 8

    def encrypt(self, plaintext: bytes, cek: bytes, iv: bytes, aad: bytes) -> tuple[bytes, bytes]:
        sealed = xchacha.encrypt(cek, iv, plaintext, aad)
        return sealed[: -xchacha.TAG_SIZE], sealed[-xchacha.TAG_SIZE :]

    def decrypt(self, ciphertext: bytes, tag: bytes, cek: bytes, iv: bytes, aad: bytes) -> bytes:
        if len(tag) != xchacha.TAG_SIZE:
            raise ValueError(f"a tag has {xchacha.TAG_SIZE} bytes")
        return xchacha.decrypt(cek, iv, ciphertext + tag, aad)


class _Encryption(jwe.JWERegistry):
    max_protected_header_length = MAX_PROTECTED
    max_ciphertext_length = MAX_CIPHERTEXT


class _Signature(jws.JWSRegistry):
    max_header_length = MAX_PROTECTED
    max_payload_length = MAX_CIPHERTEXT

    def get_alg(self, name: str) -> JWSAlgModel:
        """As the base class, but silent about EdDSA, the name DIDComm prescribes."""
        if name not in SIGNATURE_ALG.values():
            raise UnsupportedAlgorithmError(f"Algorithm of '{name}' is not allowed")
        return self.algorithms[name]


register_ecdh_1pu()
jwe.JWERegistry.register(_XC20P())
_AUTHCRYPT = _Encryption(algorithms=[AUTHCRYPT, *AUTHCRYPT_ENC], strict_check_header=False)
_ANONCRYPT = _Encryption(algorithms=[ANONCRYPT, *ANONCRYPT_ENC], strict_check_header=False)
_SIGNATURE = _Signature(strict_check_header=False)


def encrypt(
    protected: Mapping[str, Any],
    plaintext: bytes,
    recipients: Sequence[tuple[str, PublicKey]],
    sender: PrivateKey | None,
) -> dict[str, Any]:
    """A General JSON JWE (RFC 7516, 7.2.1) to keys of one curve, a fresh `epk` in its protected header."""
    ephemeral = PrivateKey.generate(recipients[0][1].curve)
    header = {**protected, "epk": ephemeral.public.jwk()}
    if header["enc"] == cbc_hs512.NAME:
        text = b64url(msgspec.json.encode(header))
        publics = [public for _, public in recipients]
        iv, ciphertext, tag, keys = cbc_hs512.seal(header, text, plaintext, publics, ephemeral, sender)
        sealed = {"protected": text, "iv": iv, "ciphertext": ciphertext, "tag": tag}
    else:
        sealed, keys = _encrypt(header, plaintext, recipients, ephemeral, sender)
    return {
        **sealed,
        "recipients": [
            {"header": {"kid": kid}, "encrypted_key": key}
            for (kid, _), key in zip(recipients, keys, strict=True)
        ],
    }


def _encrypt(
    header: dict[str, Any],
    plaintext: bytes,
    recipients: Sequence[tuple[str, PublicKey]],
    ephemeral: PrivateKey,
    sender: PrivateKey | None,
) -> tuple[dict[str, Any], list[str]]:
    """By joserfc: the envelope without its recipients, and the encrypted key of each."""
    jose_ephemeral = _jose_key(ephemeral)
    content = jwe.GeneralJSONEncryption(header, plaintext)
    for kid, public in recipients:
        content.add_recipient({"kid": kid}, _jose_key(public))
        content.recipients[-1].ephemeral_key = jose_ephemeral
    sealed = jwe.encrypt_json(
        content,
        None,
        registry=_AUTHCRYPT if sender else _ANONCRYPT,
        sender_key=_jose_key(sender) if sender else None,
    )
    return dict(sealed), [item["encrypted_key"] for item in sealed["recipients"]]


def decrypt(
    header: Mapping[str, Any],
    envelope: Mapping[str, str],
    encrypted_key: str,
    key: PrivateKey,
    ephemeral: PublicKey,
    sender: PublicKey | None,
) -> bytes:
    """The plaintext of a JWE for one of its recipients. Raises `EnvelopeError`.

    `header` is what `protected` holds, its `alg` and `enc` allowed, and `ephemeral` its epk.
    """
    try:
        if header["enc"] == cbc_hs512.NAME:
            return cbc_hs512.open_(header, envelope, encrypted_key, key, ephemeral, sender)
        return _decrypt(envelope, encrypted_key, key, sender)
    except _FAILURES:
        raise EnvelopeError(
            "An envelope cannot be opened: it was damaged, or not made for this key."
        ) from None


def _decrypt(
    envelope: Mapping[str, str], encrypted_key: str, key: PrivateKey, sender: PublicKey | None
) -> bytes:
    """By joserfc."""
    parts = (envelope["protected"], encrypted_key, envelope["iv"], envelope["ciphertext"], envelope["tag"])
    opened = jwe.decrypt_compact(
        ".".join(parts),
        _jose_key(key),
        registry=_AUTHCRYPT if sender else _ANONCRYPT,
        sender_key=_jose_key(sender) if sender else None,
    )
    assert opened.plaintext is not None
    return opened.plaintext


def sign(protected: Mapping[str, Any], payload: bytes, key: PrivateKey) -> str:
    """A compact JWS (RFC 7515, 7.1); `alg` follows from the key."""
    header = {**protected, "alg": SIGNATURE_ALG[key.curve]}
    return jws.serialize_compact(header, payload, _jose_key(key), registry=_SIGNATURE)


def verify(compact: str, key: PublicKey) -> bytes:
    """The payload of a compact JWS that this key signed. Raises `EnvelopeError`."""
    try:
        verified = jws.deserialize_compact(compact, _jose_key(key), registry=_SIGNATURE)
    except _FAILURES:
        raise EnvelopeError("A signature does not match its key and what it signs.") from None
    header = verified.headers()
    if header["alg"] != SIGNATURE_ALG.get(key.curve) or "crit" in header or "b64" in header:
        raise EnvelopeError("A signature uses an algorithm or an extension that DIDComm does not allow.")
    return verified.payload


def apv_of(kids: Sequence[str]) -> str:
    """PartyVInfo: the hash of the sorted key ids (DIDComm Messaging 2.1, "ECDH-1PU key wrapping")."""
    return b64url(hashlib.sha256(".".join(sorted(kids)).encode()).digest())


def _jose_key(key: PrivateKey | PublicKey) -> OKPKey | ECKey:
    kind = OKPKey if key.curve in ("X25519", "Ed25519") else ECKey
    return kind.import_key(key.handle)  # type: ignore[arg-type]
