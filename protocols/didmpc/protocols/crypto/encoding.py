"""The encodings that DIDs and envelopes are written in: base64url, multibase and multicodec.

All decoders take text of a peer: they raise `ValueError` and nothing else, and the quadratic one
(base58) refuses long input before it starts.
"""

import base58
import msgspec

BASE58_LIMIT = 8192
"""Longest base58 text that is decoded: its cost grows with the square of the length."""

_BASE58_DIGITS = {chr(character): digit for digit, character in enumerate(base58.BITCOIN_ALPHABET)}
_BASE58_CHUNK = 10
_VARINT_LIMIT = 9
"""Longest varint in bytes (unsigned-varint specification, "Practical maximum")."""


def b64url(data: bytes) -> str:
    """Base64url without padding, as JOSE writes it (RFC 7515, section 2)."""
    # msgspec's base64 is two to four times as fast as that of Python 3.11, and as strict.
    padded: str = msgspec.to_builtins(data)
    return padded.rstrip("=").replace("+", "-").replace("/", "_")


def unb64url(text: str) -> bytes:
    """Decode base64 of either alphabet, padded or not: attachments and DIDs carry all four kinds."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return msgspec.convert(plain + "=" * (-len(plain) % 4), bytes)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ValueError(f"not base64: {error}") from None


def multibase(data: bytes) -> str:
    """Multibase text in base58btc, the one base that did:peer and did:key write."""
    return "z" + base58.b58encode(data).decode("ascii")


def unmultibase(text: str) -> bytes:
    """Decode multibase text in base58btc (`z`) or base64url (`u`)."""
    if text[:1] == "u":
        return unb64url(text[1:])
    if text[:1] != "z":
        raise ValueError("multibase text must start with z or u")
    if len(text) > BASE58_LIMIT:
        raise ValueError(f"base58 text longer than {BASE58_LIMIT} characters")
    return base58_decode(text[1:])


def base58_decode(text: str) -> bytes:
    """Decode bare base58btc, as the 2018 and 2019 verification methods write keys."""
    if len(text) > BASE58_LIMIT:
        raise ValueError(f"base58 text longer than {BASE58_LIMIT} characters")
    # Ten digits at a time: a long DID has a thousand, and each step touches the whole number.
    number = 0
    for start in range(0, len(text), _BASE58_CHUNK):
        chunk = text[start : start + _BASE58_CHUNK]
        value = 0
        for character in chunk:
            digit = _BASE58_DIGITS.get(character)
            if digit is None:
                raise ValueError(f"{character!r:.12} is no base58 character")
            value = value * 58 + digit
        number = number * 58 ** len(chunk) + value
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def varint(number: int) -> bytes:
    """An unsigned varint: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def split_varint(data: bytes) -> tuple[int, bytes]:
    """The varint at the start of `data`, and what follows it."""
    number = 0
    for index, byte in enumerate(data[:_VARINT_LIMIT]):
        number |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            if byte == 0 and index:
                raise ValueError("a varint must not end in zero bits")
            return number, data[index + 1 :]
    raise ValueError("a varint is cut short or too long")
