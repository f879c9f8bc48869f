"""Keys: how they are written, what they refuse, and that they do what their curve can."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didmpc.protocols.crypto.encoding import (
    b64url,
    base58_decode,
    multibase,
    split_varint,
    unb64url,
    unmultibase,
    varint,
)
from didmpc.protocols.crypto.keys import CURVES, Curve, PrivateKey, PublicKey
from didmpc.protocols.errors import DidError, EnvelopeError, LocalMisuse

SIGNING: list[Curve] = ["Ed25519", "P-256", "P-384", "secp256k1"]
AGREEING: list[Curve] = ["X25519", "P-256", "P-384", "P-521"]


@pytest.mark.parametrize("curve", CURVES)
def test_a_key_survives_every_way_of_writing_it(curve: Curve) -> None:
    key = PrivateKey.generate(curve)
    assert PrivateKey.from_jwk(key.jwk()) == key
    assert PublicKey.from_jwk(key.public.jwk()) == key.public
    assert PublicKey.from_multikey(key.public.multikey()) == key.public
    assert "d" not in key.public.jwk()


@pytest.mark.parametrize(
    ("curve", "start"),
    [
        ("X25519", "z6LS"),
        ("Ed25519", "z6Mk"),
        ("P-256", "zDn"),
        ("P-384", "z82"),
        ("P-521", "z2J9"),
        ("secp256k1", "zQ3s"),
    ],
)
def test_a_multikey_starts_as_its_multicodec_says(curve: Curve, start: str) -> None:
    assert PrivateKey.generate(curve).public.multikey().startswith(start)


def test_the_multicodec_of_p256_is_a_varint_and_not_two_plain_bytes() -> None:
    public = PrivateKey.generate("P-256").public
    assert unmultibase(public.multikey())[:2] == b"\x80\x24"
    with pytest.raises(DidError):
        PublicKey.from_multikey(multibase(b"\x12\x00" + public.raw))


@pytest.mark.parametrize("curve", SIGNING)
def test_a_signature_is_good_for_its_data_and_key_only(curve: Curve) -> None:
    key, other = PrivateKey.generate(curve), PrivateKey.generate(curve)
    signature = key.sign(b"data")
    key.public.verify(signature, b"data")
    for public, claimed, data in (
        (key.public, signature, b"else"),
        (other.public, signature, b"data"),
        (key.public, signature[:-1], b"data"),
        (key.public, signature + b"\0", b"data"),
        (key.public, b"", b"data"),
        (key.public, bytes(len(signature)), b"data"),
    ):
        with pytest.raises(EnvelopeError):
            public.verify(claimed, data)


@pytest.mark.parametrize("curve", AGREEING)
def test_two_keys_agree_on_one_secret(curve: Curve) -> None:
    one, other = PrivateKey.generate(curve), PrivateKey.generate(curve)
    assert one.exchange(other.public) == other.exchange(one.public)


def test_keys_of_different_curves_do_not_agree() -> None:
    for one in AGREEING:
        for other in {*CURVES} - {one}:
            with pytest.raises(EnvelopeError):
                PrivateKey.generate(one).exchange(PrivateKey.generate(other).public)


def test_a_point_of_low_order_is_refused() -> None:
    for raw in (bytes(32), (1).to_bytes(32, "little")):
        with pytest.raises(EnvelopeError):
            PrivateKey.generate("X25519").exchange(PublicKey("X25519", raw))


def test_a_point_that_is_not_on_its_curve_is_refused() -> None:
    jwk = PrivateKey.generate("P-256").public.jwk()
    y = bytearray(unb64url(jwk["y"]))
    y[5] ^= 1
    with pytest.raises(DidError):
        PublicKey.from_jwk({**jwk, "y": b64url(bytes(y))})
    with pytest.raises(DidError):
        PublicKey("P-256", b"\x02" + b"\xff" * 32)
    with pytest.raises(DidError):
        PublicKey("P-384", b"\x04" + bytes(96))


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_a_coordinate_without_its_leading_zeros_is_the_same_point(curve: Curve) -> None:
    """Peers leave them out, although RFC 7518, 6.2.1.2 does not let them."""
    size = 32 if curve == "P-256" else 48
    short = 0
    while short < 2:
        public = PrivateKey.generate(curve).public
        written = public.jwk()
        assert len(unb64url(written["x"])) == len(unb64url(written["y"])) == size
        bare = {name: b64url(unb64url(written[name]).lstrip(b"\0")) for name in "xy"}
        short += any(bare[name] != written[name] for name in "xy")
        assert PublicKey.from_jwk({**written, **bare}) == public


def test_an_x25519_key_does_not_sign() -> None:
    key = PrivateKey.generate("X25519")
    with pytest.raises(LocalMisuse):
        key.sign(b"")
    with pytest.raises(EnvelopeError):
        key.public.verify(bytes(64), b"")


def test_a_private_key_does_not_show_itself() -> None:
    key = PrivateKey.generate("Ed25519")
    for shown in (repr(key), str(key), f"{key}", repr([key])):
        assert key.raw.hex() not in shown
        assert key.jwk()["d"] not in shown
        assert repr(key.raw) not in shown


def test_a_private_jwk_beside_a_foreign_public_one_is_refused() -> None:
    one, other = PrivateKey.generate("X25519"), PrivateKey.generate("X25519")
    with pytest.raises(LocalMisuse):
        PrivateKey.from_jwk({**one.jwk(), "x": other.jwk()["x"]})


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "OKP"},
        {"kty": "OKP", "crv": "X448", "x": "AA"},
        {"kty": "EC", "crv": "X25519", "x": b64url(bytes(32))},
        {"kty": "OKP", "crv": "X25519", "x": 7},
        {"kty": "OKP", "crv": "X25519", "x": "!"},
        {"kty": "OKP", "crv": "X25519", "x": b64url(bytes(31))},
        {"kty": "OKP", "crv": ["X25519"], "x": b64url(bytes(32))},
        {"kty": "EC", "crv": "P-256", "x": b64url(bytes(32))},
        {"kty": "EC", "crv": "P-256", "x": "", "y": ""},
        {"kty": "EC", "crv": "P-256", "x": b64url(bytes(33)), "y": b64url(bytes(33))},
    ],
)
def test_a_malformed_jwk_is_the_peers_fault(jwk: dict[str, object]) -> None:
    with pytest.raises(DidError):
        PublicKey.from_jwk(jwk)


@given(st.text(max_size=80))
def test_any_text_as_a_multikey_is_a_key_or_the_peers_fault(text: str) -> None:
    for candidate in (text, "z" + text, "z6LS" + text):
        with contextlib.suppress(DidError):
            PublicKey.from_multikey(candidate)


@given(st.binary(max_size=200))
def test_bytes_survive_base64url_and_multibase(data: bytes) -> None:
    assert unb64url(b64url(data)) == data
    assert unmultibase(multibase(data)) == data


@given(st.integers(min_value=0, max_value=2**62), st.binary(max_size=4))
def test_a_number_survives_its_varint(number: int, rest: bytes) -> None:
    assert split_varint(varint(number) + rest) == (number, rest)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 20, b"\x81\x00"])
def test_a_varint_that_is_cut_short_or_not_minimal_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="varint"):
        split_varint(data)


def test_base58_that_would_take_long_is_refused_before_it_starts() -> None:
    for decode in (unmultibase, base58_decode):
        with pytest.raises(ValueError, match="longer"):
            decode("z" * 1_000_000)


@pytest.mark.parametrize("curve", AGREEING)
def test_a_standing_secret_is_the_exchanged_one_and_kept_for_a_bounded_number_of_partners(
    curve: Curve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("didmpc.protocols.crypto.keys._MAX_STANDING", 2)
    key = PrivateKey.generate(curve)
    partners = [PrivateKey.generate(curve) for _ in range(3)]
    for _ in range(2):
        for partner in partners:
            assert key.standing_secret(partner.public) == partner.exchange(key.public)
    assert len(key._standing) <= 2
    assert "_standing" not in repr(key)
