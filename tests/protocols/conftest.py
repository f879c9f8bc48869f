"""Two parties, and the envelopes that other implementations packed."""

import json
from pathlib import Path
from typing import Any

import pytest

from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.identity import Identities, Identity

VECTORS = Path(__file__).parent.parent / "vectors" / "envelopes"


@pytest.fixture(scope="session")
def alice() -> Identity:
    return Identity.peer4()


@pytest.fixture(scope="session")
def bob() -> Identity:
    return Identity.peer4()


@pytest.fixture(scope="session")
def mallory() -> Identity:
    return Identity.peer4()


@pytest.fixture(scope="session")
def foreign_keys() -> dict[str, Any]:
    keys: dict[str, Any] = json.loads((VECTORS / "keys.json").read_text())
    return keys


@pytest.fixture(scope="session")
def foreign_bob(foreign_keys: dict[str, Any]) -> Identities:
    """The recipient of the foreign envelopes, under each of its DIDs."""
    person = foreign_keys["bob"]
    ed, x, p256 = (PrivateKey.from_jwk(person[name]) for name in ("ed", "x", "p256"))
    two, two_p256, four = person["peer2"], person["peer2_p256"], person["peer4_long"]
    return Identities(
        Identity(two, {f"{two}#key-1": ed, f"{two}#key-2": x}),
        Identity(two_p256, {f"{two_p256}#key-1": ed, f"{two_p256}#key-2": p256}),
        Identity(four, {f"{four}#key-1": x}),
    )
