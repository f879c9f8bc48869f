"""Envelopes that other implementations packed: the sound ones open, the two unsound kinds do not."""

import json
from pathlib import Path
from typing import Any

import pytest

from didmpc.protocols.envelope import unpack
from didmpc.protocols.errors import EnvelopeError
from didmpc.protocols.identity import Identities

VECTORS = Path(__file__).parent.parent / "vectors" / "envelopes"
PACKED = sorted(path for path in VECTORS.glob("packed_*.json"))
SOUND = [path for path in PACKED if not path.name.startswith(("packed_indicio-askar", "packed_veramo"))]


def named(path: Path) -> str:
    return path.stem.removeprefix("packed_")


def test_the_vectors_are_there() -> None:
    assert (len(PACKED), len(SOUND)) == (27, 24)


@pytest.mark.parametrize("path", SOUND, ids=named)
def test_an_envelope_of_another_implementation_opens(
    path: Path, foreign_bob: Identities, foreign_keys: dict[str, Any]
) -> None:
    opened = unpack(path.read_bytes(), foreign_bob)
    assert opened.message.type == "https://didcomm.org/basicmessage/2.0/message"
    assert opened.message.body == {"content": "hi"}
    assert opened.encrypted
    assert opened.authenticated == ("_auth" in path.stem)
    if opened.authenticated:
        form = next(form for form in ("peer2_p256", "peer4_long", "peer2") if f"_{form}_" in path.stem)
        assert opened.sender == foreign_keys["alice"][form]


@pytest.mark.parametrize("path", SOUND, ids=named)
def test_it_does_not_open_after_a_change(path: Path, foreign_bob: Identities) -> None:
    for name in ("ciphertext", "tag", "iv"):
        value = json.loads(path.read_bytes())
        value[name] = ("B" if value[name][0] == "A" else "A") + value[name][1:]
        with pytest.raises(EnvelopeError):
            unpack(json.dumps(value).encode(), foreign_bob)


@pytest.mark.parametrize("form", ["peer2", "peer4_long"])
def test_an_epk_outside_the_protected_header_is_refused(form: str, foreign_bob: Identities) -> None:
    with pytest.raises(EnvelopeError, match="epk"):
        unpack((VECTORS / f"packed_indicio-askar_{form}_anon.json").read_bytes(), foreign_bob)


def test_an_envelope_without_apv_is_refused(foreign_bob: Identities) -> None:
    with pytest.raises(EnvelopeError, match="apv"):
        unpack((VECTORS / "packed_veramo_peer2_authcrypt_A256CBC-HS512.json").read_bytes(), foreign_bob)
