"""Identities: keys under the right names, found in either form, never shown."""

import json

import pytest

from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.did import Service, canonical
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.identity import Identities, Identity


@pytest.mark.parametrize("make", [Identity.peer4, Identity.peer2])
def test_an_identity_has_the_keys_that_its_document_names(make: type[Identity]) -> None:
    identity = make([Service("http://x")], ("P-256", "X25519", "Ed25519", "P-384"))  # type: ignore[arg-type]
    document = identity.document
    assert len(identity.keys) == 4
    for kid, key in identity.keys.items():
        assert document.key(kid).public == key.public
    assert identity.agreement_key[0].endswith("#key-1")
    assert identity.signing_key[0].endswith("#key-3")


def test_a_stored_identity_comes_back() -> None:
    for identity in (Identity.peer4(), Identity.peer2(), Identity.key("P-256")):
        assert Identity.from_json(json.loads(json.dumps(identity.to_json()))) == identity


def test_a_stored_identity_with_foreign_keys_is_refused() -> None:
    stored, other = Identity.peer4().to_json(), Identity.peer4().to_json()
    for damaged in ({**stored, "keys": other["keys"]}, {"did": stored["did"]}, {**stored, "did": "x"}, {}):
        with pytest.raises(LocalMisuse, match="damaged"):
            Identity.from_json(damaged)


def test_an_identity_does_not_show_its_keys() -> None:
    identity = Identity.peer4()
    for key in identity.keys.values():
        assert key.jwk()["d"] not in repr(identity) + str(identity)
        assert repr(key.raw) not in repr(identity)


def test_an_x25519_did_key_cannot_sign() -> None:
    with pytest.raises(LocalMisuse, match="sign"):
        _ = Identity.key().signing_key
    assert Identity.key("P-256").signing_key


def test_keys_are_found_under_the_long_and_the_short_form() -> None:
    identity, other = Identity.peer4(), Identity.peer4()
    held = Identities(identity)
    for kid, key in identity.keys.items():
        short_kid = f"{canonical(identity.did)}#{kid.partition('#')[2]}"
        assert held.find(kid) == held.find(short_kid) == key
    assert held.find(next(iter(other.keys))) is None
    assert held.find("nonsense") is None
    assert held.identity(canonical(identity.did)) is held.identity(identity.did) is identity
    assert held.known(canonical(identity.did)) == identity.did
    assert held.known(canonical(other.did)) is None


def test_a_removed_identity_is_gone_with_its_keys() -> None:
    identity, other = Identity.peer4(), Identity.peer4()
    held = Identities(identity, other)
    held.remove(canonical(identity.did))
    held.remove(identity.did)
    assert [found.did for found in held] == [other.did]
    assert all(held.find(kid) is None for kid in identity.keys)
    assert all(held.find(kid) for kid in other.keys)


def test_the_keys_of_an_identity_cannot_be_changed() -> None:
    identity = Identity.peer4()
    with pytest.raises(TypeError):
        identity.keys["x"] = PrivateKey.generate("X25519")  # type: ignore[index]
