"""`from_prior`: telling a peer that a DID was replaced (DIDComm Messaging 2.1, "DID Rotation").

A JWT in which the old DID says which DID follows it. It stands in every message from the new DID until
the peer is seen to use that.
"""

import json
import math

from didmpc.protocols import did as dids
from didmpc.protocols import jose
from didmpc.protocols.did import Resolve, did_of, same_party
from didmpc.protocols.encoding import unb64url
from didmpc.protocols.errors import DidmpcError, EnvelopeError, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import decode_json

MAX_JWT = 65_536


def create(old: Identity, new_did: str, now: float) -> str:
    """The JWT in which `old` names `new_did` as what follows it."""
    kid, key = old.signing_key
    claims = {"iss": old.did, "sub": new_did, "iat": math.floor(now)}
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return jose.sign({"typ": "JWT", "kid": kid}, payload, key)


def verify(jwt: str, new_did: str, resolve: Resolve = dids.resolve) -> str:
    """The old DID, proven to have named `new_did` (the authenticated sender of the message).

    Raises `MessageError` or `EnvelopeError`. The caller decides whether it knows the old DID, and must have
    taken `new_did` from what the envelope proves, never from the message alone.
    """
    if len(jwt) > MAX_JWT:
        raise MessageError("A from_prior is too large.")
    try:
        header = decode_json(unb64url(jwt.partition(".")[0]), MAX_JWT)
        kid = header.get("kid") if isinstance(header, dict) else None
        if not isinstance(kid, str):
            raise MessageError("A from_prior does not name the key that signed it.")
        signer = resolve(did_of(kid)).authentication_key(kid)
        claims = decode_json(jose.verify(jwt, signer.public), MAX_JWT)
    except ValueError:
        raise MessageError("A from_prior is not a JWT.") from None
    except EnvelopeError as error:
        raise EnvelopeError("The signature of a from_prior is wrong.", why=error.what) from None
    issuer, subject = (claims.get("iss"), claims.get("sub")) if isinstance(claims, dict) else (None, None)
    if not isinstance(issuer, str) or not isinstance(subject, str):
        raise MessageError("A from_prior must say which DID follows which (iss and sub).")
    if not _same(issuer, kid):
        raise EnvelopeError("A from_prior is signed by a key of another DID than the one it replaces.")
    if not _same(subject, new_did):
        raise EnvelopeError("A from_prior names another new DID than the sender of the message.")
    return did_of(issuer)


def _same(one: str, other: str) -> bool:
    try:
        return same_party(one, other)
    except DidmpcError:
        return False
