"""A DID that follows another, proven by the old one."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didmpc.protocols import from_prior
from didmpc.protocols.crypto import jose
from didmpc.protocols.did import canonical, resolve
from didmpc.protocols.errors import DidError, EnvelopeError, LocalMisuse, MessageError, RemoteViolation
from didmpc.protocols.identity import Identity

OLD, NEW, OTHER = Identity.peer4(), Identity.peer4(), Identity.peer4()
JWT = from_prior.create(OLD, NEW.did, now=1_700_000_000.5)


def forged(claims: bytes, signer: Identity, kid: str | None = None) -> str:
    own, key = signer.signing_key
    return jose.sign({"typ": "JWT", "kid": kid or own}, claims, key)


def claims(iss: str, sub: str) -> bytes:
    return f'{{"iss":"{iss}","sub":"{sub}"}}'.encode()


def test_a_rotation_names_the_old_did() -> None:
    assert from_prior.verify(JWT, NEW.did) == OLD.did
    assert from_prior.verify(JWT, canonical(NEW.did)) == OLD.did


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_a_rotation_is_signed_with_any_signing_key(curve: str) -> None:
    old = Identity.key(curve)  # type: ignore[arg-type]
    assert from_prior.verify(from_prior.create(old, NEW.did, now=0), NEW.did) == old.did


def test_a_rotation_from_a_short_did_needs_its_long_form() -> None:
    short = canonical(OLD.did)
    jwt = forged(claims(short, NEW.did), OLD, f"{short}#key-2")
    with pytest.raises(DidError, match="never seen"):
        from_prior.verify(jwt, NEW.did)
    assert from_prior.verify(jwt, NEW.did, partial(resolve, known={short: OLD.did}.get)) == short


def test_a_rotation_to_somebody_else_is_refused() -> None:
    for claimed in (OTHER.did, "nonsense", ""):
        with pytest.raises(EnvelopeError):
            from_prior.verify(JWT, claimed)


@pytest.mark.parametrize(
    "jwt",
    [
        forged(claims(OLD.did, NEW.did), OTHER),
        forged(claims(OLD.did, NEW.did), OTHER, kid=OLD.signing_key[0]),
        forged(claims(OTHER.did, NEW.did), OLD),
        forged(claims("nonsense", NEW.did), OLD),
        forged(b"[]", OLD),
        forged(b"{}", OLD),
        forged(b"x", OLD),
        forged(b'{"iss":7,"sub":7}', OLD),
        forged(claims(OLD.did, NEW.did), OLD, kid=OLD.agreement_key[0]),
        JWT[:-6],
        JWT + "AA",
        JWT.replace(".", "", 1),
        "",
        "a.b.c",
        "x" * 100_000,
    ],
)
def test_a_rotation_that_the_old_did_did_not_sign_is_refused(jwt: str) -> None:
    with pytest.raises((EnvelopeError, MessageError, DidError)):
        from_prior.verify(jwt, NEW.did)


@given(st.integers(min_value=0, max_value=len(JWT) - 1), st.characters(codec="ascii"))
def test_a_rotation_with_any_change_is_refused(place: int, character: str) -> None:
    changed = JWT[:place] + character + JWT[place + 1 :]
    if changed != JWT:
        with pytest.raises(RemoteViolation):
            from_prior.verify(changed, NEW.did)


def test_a_did_that_cannot_sign_cannot_be_replaced() -> None:
    with pytest.raises(LocalMisuse, match="sign"):
        from_prior.create(Identity.key("X25519"), NEW.did, now=0)
