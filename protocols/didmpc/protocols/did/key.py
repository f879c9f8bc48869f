"""did:key (W3C CCG, "The did:key Method"): a DID that is one public key.

An Ed25519 one also agrees, under the X25519 key that derives from it, as the method's
`enableEncryptionKeyDerivation` describes.
"""

from didmpc.protocols.crypto.keys import AGREEMENT_CURVES, SIGNING_CURVES, PublicKey
from didmpc.protocols.did.document import DIDDocument, VerificationMethod
from didmpc.protocols.errors import DidError

PREFIX = "did:key:"
_P = 2**255 - 19  # the field of Curve25519


def create(public: PublicKey) -> str:
    return PREFIX + public.multikey()


def kid(public: PublicKey) -> str:
    """The DID URL of the key of a did:key: the fragment repeats the key."""
    return f"{create(public)}#{public.multikey()}"


def resolve(did: str) -> DIDDocument:
    multikey = did.removeprefix(PREFIX)
    public = PublicKey.from_multikey(multikey)
    if public.multikey() != multikey:
        raise DidError("A did:key is not written in its one canonical way.")
    method = VerificationMethod(f"{did}#{multikey}", public)
    agreement = (method,) if public.curve in AGREEMENT_CURVES else ()
    if public.curve == "Ed25519":
        derived = _x25519_of(public)
        agreement = (VerificationMethod(f"{did}#{derived.multikey()}", derived),)
    authentication = (method,) if public.curve in SIGNING_CURVES else ()
    return DIDDocument(did, key_agreement=agreement, authentication=authentication)


def _x25519_of(public: PublicKey) -> PublicKey:
    """The birational map u = (1 + y) / (1 - y) of RFC 7748, section 4.1."""
    y = int.from_bytes(public.raw, "little") & (2**255 - 1)
    if y >= _P or y == 1:
        raise DidError("An Ed25519 key has no X25519 counterpart.")
    u = (1 + y) * pow(1 - y, -1, _P) % _P
    return PublicKey("X25519", u.to_bytes(32, "little"))
