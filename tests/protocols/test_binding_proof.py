"""A DID states which account of which mediator is to take in its mail."""

from functools import partial

import pytest

from didmpc.protocols import binding_proof, jwt
from didmpc.protocols.did import canonical, resolve
from didmpc.protocols.errors import DidError, LocalMisuse, RemoteViolation
from didmpc.protocols.identity import Identity

RECIPIENT, ACCOUNT, OTHER, MEDIATOR = (Identity.peer4() for _ in range(4))
NOW = 1_700_000_000.5
PROOF = binding_proof.create(RECIPIENT, ACCOUNT.did, MEDIATOR.did, NOW)
KNOWN = partial(resolve, known={canonical(RECIPIENT.did): RECIPIENT.did}.get)


def verify(proof: str, recipient: str = RECIPIENT.did, account: str = ACCOUNT.did, now: float = NOW) -> int:
    return binding_proof.verify(proof, recipient, account, MEDIATOR.did, now, KNOWN)


def test_a_proof_says_when_the_did_chose_the_account() -> None:
    assert verify(PROOF) == 1_700_000_000
    assert verify(PROOF, canonical(RECIPIENT.did), canonical(ACCOUNT.did)) == 1_700_000_000
    assert len(PROOF) < 600  # the short form of the DID: the long one stands beside it


@pytest.mark.parametrize("curve", ["P-256", "P-384", "Ed25519"])
def test_any_key_that_signs_makes_a_proof(curve: str) -> None:
    recipient = Identity.key(curve)  # type: ignore[arg-type]
    proof = binding_proof.create(recipient, ACCOUNT.did, MEDIATOR.did, NOW)
    assert verify(proof, recipient.did) == 1_700_000_000


def claims(**changed: object) -> dict[str, object]:
    names = {"iss": RECIPIENT.did, "sub": ACCOUNT.did, "aud": MEDIATOR.did, "iat": int(NOW)}
    return {name: value for name, value in {**names, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    "changed",
    [
        {"sub": OTHER.did},
        {"aud": OTHER.did},
        {"aud": None},
        {"iss": OTHER.did},
        {"iat": None},
        {"iat": 0},
        {"iat": "now"},
        {"iat": True},
        {"iat": int(NOW) + 10_000},
        {"iat": 1e300},
        {"exp": int(NOW) - 1},
        {"nbf": int(NOW) + 10},
    ],
)
def test_a_proof_for_others_or_for_another_time_is_refused(changed: dict[str, object]) -> None:
    assert verify(jwt.sign(RECIPIENT, claims())) == int(NOW)
    with pytest.raises(RemoteViolation):
        verify(jwt.sign(RECIPIENT, claims(**changed)))


def test_nobody_else_can_sign_a_proof() -> None:
    for forged in (
        jwt.sign(OTHER, claims()),
        jwt.sign(OTHER, claims(), kid=RECIPIENT.signing_key[0]),
        PROOF[:-8] + "AAAAAAAA",
        "",
        "a.b.c",
    ):
        with pytest.raises(RemoteViolation):
            verify(forged)


def test_a_proof_for_one_mediator_is_none_for_another() -> None:
    with pytest.raises(RemoteViolation, match="another mediator"):
        binding_proof.verify(PROOF, RECIPIENT.did, ACCOUNT.did, OTHER.did, NOW, KNOWN)


def test_a_short_name_needs_its_long_form() -> None:
    with pytest.raises(DidError, match="never seen"):
        binding_proof.verify(PROOF, RECIPIENT.did, ACCOUNT.did, MEDIATOR.did, NOW)


def test_a_did_that_cannot_sign_makes_no_proof() -> None:
    with pytest.raises(LocalMisuse):
        binding_proof.create(Identity.key("X25519"), ACCOUNT.did, MEDIATOR.did, NOW)
