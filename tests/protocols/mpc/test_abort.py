"""A signed abort speaks for its signer, in one attempt, and for nothing else."""

import pytest

from didmpc.protocols.errors import MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.mpc.abort import check, sign

ATTEMPT, OTHER = "ab" * 32, "cd" * 32
CAUSE = {"kind": "raised", "what": "Bob's program raised an exception.", "why": "ValueError."}


def test_an_abort_holds_for_who_signed_it_and_is_not_bound_to_how_it_came():
    bob = Identity.peer4()
    signature = sign(bob, ATTEMPT, 1, CAUSE)
    check(bob.did, ATTEMPT, 1, CAUSE, signature)
    check(bob.did, ATTEMPT, 1, {**CAUSE, "signature": signature}, signature)


@pytest.mark.parametrize(
    "change",
    [
        {"attempt": OTHER},
        {"pid": 2},
        {"cause": {**CAUSE, "kind": "killed"}},
        {"cause": {**CAUSE, "why": ""}},
        {"cause": {**CAUSE, "about": 2}},
        {"did": Identity.peer4().did},
        {"did": "did:example:nobody"},
        {"signature": None},
        {"signature": "%"},
        {"signature": "AAAA"},
    ],
    ids=["attempt", "pid", "kind", "why", "about", "another", "nobody", "none", "no base64", "short"],
)
def test_anything_else_does_not_hold(change: dict[str, object]):
    bob = Identity.peer4()
    said = {
        "did": bob.did,
        "attempt": ATTEMPT,
        "pid": 1,
        "cause": CAUSE,
        "signature": sign(bob, ATTEMPT, 1, CAUSE),
    }
    said |= change
    with pytest.raises(MessageError):
        check(said["did"], said["attempt"], said["pid"], said["cause"], said["signature"])
