"""`from_prior`: telling a peer that a DID was replaced (DIDComm Messaging 2.1, "DID Rotation").

A JWT in which the old DID says which DID follows it. It stands in every message from the new DID until
the peer is seen to use that.
"""

import math
from dataclasses import dataclass

from didmpc.protocols import did as dids
from didmpc.protocols import jwt
from didmpc.protocols.did import Resolve, did_of
from didmpc.protocols.errors import EnvelopeError
from didmpc.protocols.identity import Identity


def create(old: Identity, new_did: str, now: float) -> str:
    """The JWT in which `old` names `new_did` as what follows it."""
    return jwt.sign(old, {"iss": old.did, "sub": new_did, "iat": math.floor(now)})


@dataclass(frozen=True, slots=True)
class Prior:
    """A DID that another has followed, and when it said so (None: it did not say when)."""

    did: str
    stated: float | None


def verify(text: str, new_did: str, resolve: Resolve = dids.resolve, *, now: float | None = None) -> str:
    """The old DID, proven to have named `new_did`: `read` without the time."""
    return read(text, new_did, resolve, now=now).did


def read(text: str, new_did: str, resolve: Resolve = dids.resolve, *, now: float | None = None) -> Prior:
    """The old DID, proven to have named `new_did` (the authenticated sender of the message).

    With `now`, one that has expired is refused too. Raises `MessageError`, `EnvelopeError` or `DidError`. The
    caller decides whether it knows the old DID, and must have taken `new_did` from what the envelope
    proves, never from the message alone.
    """
    claims = jwt.verify(text, "from_prior", resolve, now)
    if not jwt.names(claims["sub"], new_did):
        raise EnvelopeError("A from_prior names another new DID than the sender of the message.")
    return Prior(did_of(claims["iss"]), claims.get("iat"))
