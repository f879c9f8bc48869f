"""The proof that a DID wants an account of a mediator to take in its mail.

Neither version of coordinate-mediation carries one: whoever registers a DID first has it. Here an update
item may have `proof`, a JWT signed by a key of the recipient DID for authentication:

    {"iss": recipient DID, "sub": account DID, "aud": mediator DID, "iat": seconds since 1970}

It is of no use to another account or at another mediator. A mediator keeps the `iat` and takes
only a later one in its place, so an old proof cannot take a DID back that has moved on. A DID that cannot
sign proves itself by sending the update: then it is the account.
"""

import math

from didmpc.protocols import did as dids
from didmpc.protocols import jwt
from didmpc.protocols.did import Resolve, canonical, fragment_of
from didmpc.protocols.errors import EnvelopeError, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.namespace import NAMESPACE

PROTOCOL = f"{NAMESPACE}/binding-proof/1.0"
CLOCK_SKEW = 300
"""Seconds by which the clock of whoever signed may be ahead of ours."""


def create(recipient: Identity, account_did: str, mediator_did: str, now: float) -> str:
    """Short, because a did:peer:4 is named by its short form: the update names the long one."""
    did = canonical(recipient.did)
    claims = {
        "iss": did,
        "sub": canonical(account_did),
        "aud": canonical(mediator_did),
        "iat": math.floor(now),
    }
    return jwt.sign(recipient, claims, kid=f"{did}#{fragment_of(recipient.signing_key[0])}")


def verify(
    proof: str,
    recipient_did: str,
    account_did: str,
    mediator_did: str,
    now: float,
    resolve: Resolve = dids.resolve,
) -> int:
    """When the recipient DID has stated it. Raises `MessageError`, `EnvelopeError` or `DidError`."""
    claims = jwt.verify(proof, "proof of a key binding", resolve, now, by=recipient_did)
    if not jwt.names(claims["sub"], account_did):
        raise EnvelopeError("A proof of a key binding is for another account.")
    audience = claims.get("aud")
    if not isinstance(audience, str) or not jwt.names(audience, mediator_did):
        raise EnvelopeError("A proof of a key binding is for another mediator.")
    stated = claims.get("iat")
    if stated is None or not 0 < stated <= now + CLOCK_SKEW:
        raise MessageError(
            "A proof of a key binding must say when it was made (iat), and not a time to come.",
            fix="Check the clocks.",
        )
    return int(stated)
