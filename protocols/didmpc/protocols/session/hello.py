"""`hs_i` and `hs_r`: what each side says in the handshake, read strictly and within limits.

Base64url of UTF-8 JSON. The transcript hashes the base64url text exactly as it was received, so how it
is read here cannot make two sides agree on different things (docs/session-extension.md, "hs").
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import LocalMisuse, SessionError
from didmpc.protocols.session.strict_json import read_object

CLASSICAL = "X25519-HKDFSHA256-A256GCM"
HYBRID = "X25519MLKEM768-HKDFSHA256-A256GCM"
SUITES = (HYBRID, CLASSICAL)  # best first
WIRE_BINARY = "binary"
WIRE_JSON = "json"
WIRES = (WIRE_BINARY, WIRE_JSON)
VERSION = 1
MAX_HELLO = 32 * 1024  # characters of base64url
MAX_ITEMS = 32  # of a list
MAX_TEXT = 9 * 1024  # a kid may be the URL of a DID in long form
KEM_PUBLIC_BYTES = 1184
KEM_CIPHERTEXT_BYTES = 1088
MALFORMED = "e.p.session.hs"


@dataclass(frozen=True, slots=True, repr=False)
class Terms:
    """What both hellos have: the link, the two keys, limits, policy, capabilities, and what it continues."""

    link: dict[str, Any] | None
    kid_i: str
    kid_r: str
    limits: dict[str, int]
    policy: dict[str, Any]
    caps: tuple[Any, ...]
    continues: bytes | None = None

    def public(self) -> dict[str, Any]:
        """What the application gets to see of a peer's hello: nothing that is a key."""
        return {"link": self.link, "limits": self.limits, "policy": self.policy, "caps": list(self.caps)}

    def members(self) -> dict[str, Any]:
        continues = {} if self.continues is None else {"continues": b64url(self.continues)}
        return {**self.public(), "kid_i": self.kid_i, "kid_r": self.kid_r, **continues}

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Terms:
        link = value.get("link")
        if "link" not in value or not (link is None or isinstance(link, dict)):
            raise _wrong("link")
        limits = _object(value, "limits")
        if not all(type(limit) is int and 0 < limit < 1 << 53 for limit in limits.values()):
            raise _wrong("limits")
        return cls(
            link=link,
            kid_i=_text(value, "kid_i"),
            kid_r=_text(value, "kid_r"),
            limits=limits,
            policy=_object(value, "policy"),
            caps=tuple(_list(value, "caps")),
            continues=_optional_bytes(value, "continues", 32),
        )


@dataclass(frozen=True, slots=True, repr=False)
class HelloI:
    """The initiator's hello."""

    suites: tuple[str, ...]
    wire: tuple[str, ...]
    e: bytes
    kem_pk: bytes | None
    k: bytes
    sid: bytes
    terms: Terms

    def encode(self) -> str:
        return _encode(
            {
                "v": VERSION,
                "suites": list(self.suites),
                "wire": list(self.wire),
                "e": b64url(self.e),
                **({"kem_pk": b64url(self.kem_pk)} if self.kem_pk is not None else {}),
                "k": b64url(self.k),
                "sid": b64url(self.sid),
                **self.terms.members(),
            }
        )

    @classmethod
    def decode(cls, text: str) -> HelloI:
        value = _decode(text)
        suites, wire = _texts(value, "suites"), _texts(value, "wire")
        kem_pk = _optional_bytes(value, "kem_pk", KEM_PUBLIC_BYTES)
        if (HYBRID in suites) != (kem_pk is not None):
            raise SessionError("A session request does not fit its suites.", code="e.p.session.suite")
        return cls(
            suites=suites,
            wire=wire,
            e=exact_b64(value.get("e"), 32),
            kem_pk=kem_pk,
            k=exact_b64(value.get("k"), 32),
            sid=exact_b64(value.get("sid"), 8),
            terms=Terms.read(value),
        )


@dataclass(frozen=True, slots=True, repr=False)
class HelloR:
    """The responder's hello: one suite and one form chosen."""

    suite: str
    wire: str
    e: bytes
    kem_ct: bytes | None
    k: bytes
    sid: bytes
    terms: Terms

    def encode(self) -> str:
        return _encode(
            {
                "v": VERSION,
                "suite": self.suite,
                "wire": self.wire,
                "e": b64url(self.e),
                **({"kem_ct": b64url(self.kem_ct)} if self.kem_ct is not None else {}),
                "k": b64url(self.k),
                "sid": b64url(self.sid),
                **self.terms.members(),
            }
        )

    @classmethod
    def decode(cls, text: str) -> HelloR:
        value = _decode(text)
        return cls(
            suite=_text(value, "suite"),
            wire=_text(value, "wire"),
            e=exact_b64(value.get("e"), 32),
            kem_ct=_optional_bytes(value, "kem_ct", KEM_CIPHERTEXT_BYTES),
            k=exact_b64(value.get("k"), 32),
            sid=exact_b64(value.get("sid"), 8),
            terms=Terms.read(value),
        )


def exact_b64(value: object, size: int | None = None) -> bytes:
    """Decode base64url without padding, in its one canonical spelling, of exactly `size` bytes."""
    if isinstance(value, str) and value.isascii():
        try:
            decoded = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            decoded = None
        if decoded is not None and b64url(decoded) == value and size in (None, len(decoded)):
            return decoded
    raise SessionError("A member of a session message is not the base64url it has to be.", code=MALFORMED)


def _encode(value: dict[str, Any]) -> str:
    try:
        text = b64url(json.dumps(value, separators=(",", ":"), allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise LocalMisuse("What a session states must be plain JSON.", why=str(error)) from None
    if len(text) > MAX_HELLO:
        raise LocalMisuse("What a session states is too long.", why=f"{len(text)} of {MAX_HELLO} characters")
    return text


def _decode(text: str) -> dict[str, Any]:
    try:
        value = read_object(exact_b64(text))
    except ValueError as error:
        raise SessionError(
            "A session message holds no proper JSON.", why=str(error), code=MALFORMED
        ) from None
    if type(value.get("v")) is not int or value["v"] != VERSION:
        raise SessionError("A session message is of an unknown version.", code="e.p.session.suite")
    return value


def _wrong(name: str) -> SessionError:
    return SessionError(f"The member `{name}` of a session message is not what it has to be.", code=MALFORMED)


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
        raise _wrong(name)
    return text


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    items = value.get(name)
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        raise _wrong(name)
    return items


def _texts(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    items = _list(value, name)
    if not all(isinstance(item, str) and len(item) <= 100 for item in items):
        raise _wrong(name)
    return tuple(items)


def _object(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    member = value.get(name)
    if not isinstance(member, dict) or len(member) > MAX_ITEMS:
        raise _wrong(name)
    return member


def _optional_bytes(value: Mapping[str, Any], name: str, size: int) -> bytes | None:
    return exact_b64(value[name], size) if name in value else None
