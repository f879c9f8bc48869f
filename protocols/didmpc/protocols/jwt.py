"""A JWT by which a DID states something (RFC 7519): signed by a key that the DID's document names.

DIDComm Messaging carries one in `from_prior`; the proof of a key binding is another.
"""

import json
from collections.abc import Mapping
from typing import Any

from didmpc.protocols.crypto import jose
from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.did import Resolve, did_of, same_party
from didmpc.protocols.errors import DidmpcError, EnvelopeError, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import decode_json

MAX_JWT = 65_536


def sign(signer: Identity, claims: Mapping[str, Any], *, kid: str | None = None) -> str:
    """`kid` is another way to write the signing key's id (a did:peer:4 has two)."""
    own_kid, key = signer.signing_key
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return jose.sign({"typ": "JWT", "kid": kid or own_kid}, payload, key)


def verify(
    jwt: str, what: str, resolve: Resolve, now: float | None, *, by: str | None = None
) -> dict[str, Any]:
    """The claims of a JWT whose `iss` has signed it, and that holds at `now` (None: whenever that was).

    `iss`, `sub` and `kid` are texts in it, and `iat`, `nbf` and `exp` are numbers where they are present.
    With `by` it must be this DID's. Raises `MessageError`, `EnvelopeError` or `DidError`, in whose words
    the JWT is called `what`.
    """
    if len(jwt) > MAX_JWT:
        raise MessageError(f"A {what} is too large.")
    try:
        header = decode_json(unb64url(jwt.partition(".")[0]), MAX_JWT)
        kid = header.get("kid") if isinstance(header, dict) else None
        if not isinstance(kid, str):
            raise MessageError(f"A {what} does not name the key that signed it.")
        if by is not None and not names(kid, by):  # before it leads us to resolve some other DID
            raise EnvelopeError(f"A {what} is signed by a key of another DID than it must be.")
        signer = resolve(did_of(kid)).authentication_key(kid)
        claims = decode_json(jose.verify(jwt, signer.public), MAX_JWT)
    except ValueError:
        raise MessageError(f"A {what} is not a JWT.") from None
    except EnvelopeError as error:
        raise EnvelopeError(f"The signature of a {what} is wrong.", why=error.what) from None
    if not isinstance(claims, dict) or not all(isinstance(claims.get(name), str) for name in ("iss", "sub")):
        raise MessageError(f"A {what} must say who states it of whom (iss and sub).")
    if not names(claims["iss"], kid):
        raise EnvelopeError(f"A {what} is signed by a key of another DID than the one that it is from.")
    _check_times(claims, what, now)
    return claims


def names(one: str, other: str) -> bool:
    """Whether two texts of a peer name one party."""
    try:
        return same_party(one, other)
    except DidmpcError:
        return False


def _check_times(claims: Mapping[str, Any], what: str, now: float | None) -> None:
    for name in ("iat", "nbf", "exp"):
        value = claims.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise MessageError(f"The {name} of a {what} is not a time.")
    if now is None:
        return
    if claims.get("exp") is not None and claims["exp"] <= now:
        raise MessageError(f"A {what} has expired.", code="e.p.msg.expired")
    if claims.get("nbf") is not None and claims["nbf"] > now:
        raise MessageError(f"A {what} does not hold yet.", fix="Check the clocks.")
