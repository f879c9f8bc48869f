"""Base64 of all four kinds and base58, as DIDs and envelopes carry them."""

import base64
import os

import base58
import pytest

from didmpc.protocols.crypto.encoding import b64url, base58_decode, unb64url

ALL_BYTES = bytes(range(256))


@pytest.mark.parametrize("size", range(7))
def test_base64_is_written_without_padding_and_read_in_every_form(size: int) -> None:
    data = ALL_BYTES[250 : 250 + size] + b"\xfb\xef\xff"
    plain, url = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    assert b64url(data) == url.rstrip("=")
    for text in (plain, url, plain.rstrip("="), url.rstrip("=")):
        assert unb64url(text) == data


@pytest.mark.parametrize("text", ["A", "AAAAA", "AA A", "AA\n", "AA=A", "é", "AA\0A", "A\ud800", "%%%%"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        unb64url(text)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 34, 1000])
def test_base58_is_read_as_the_package_writes_it(size: int) -> None:
    for data in (os.urandom(size), bytes(size), b"\0\0" + os.urandom(size)):
        assert base58_decode(base58.b58encode(data).decode()) == data


@pytest.mark.parametrize("text", ["0", "O", "I", "l", "1 1", "1\n", "é", "z" * 9000])
def test_what_is_no_base58_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base58"):
        base58_decode(text)
