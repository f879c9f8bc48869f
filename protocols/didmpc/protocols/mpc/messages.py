"""Messages of `mpc/1.0`: from a proposal to a signed manifest, and the word that ends a run.

    host                                   guest
     | -- propose ------------------------> |   what would be computed, by whom, under which threshold
     | <--------------- bundle-request ---- |
     | -- bundle (1..n parts) ------------> |   the program, by content hash
     | <------------------------- join ---- |   a session DID made for this attempt, versions, features
     | -- gathering ----------------------> |   who is here, who is missing (lobby.py); again and again, and
     | <------------------------- here ---- |   each answered: that is how both know that the other is there
     | -- manifest -----------------------> |   all is fixed; from here on session DIDs speak
     | <- signature, reveal, session/1.0 -> |   everyone to everyone
     | <- frame, alive (without session) -> |
     | <- abort --------------------------> |   one party ends it, about itself

Whoever comes by a link says `knock` first, to the DID of the link's invitation, with that as `pthid`. It is
answered by `propose`, by `door` (the host is being asked whether to let it in), or by a problem report.

`decline`, `leave` (a guest) and `cancel` (the host) end an attempt while people gather.
Messages up to the manifest travel between contacts; those after it between the session DIDs of the roster.
`pthid` is the attempt in all of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.did.names import MAX_DID, did_of
from didmpc.protocols.errors import DidError, MessageError, RemoteViolation
from didmpc.protocols.namespace import NAMESPACE

PREFIX = f"{NAMESPACE}/mpc/1.0/"
PROPOSE = PREFIX + "propose"
JOIN = PREFIX + "join"
DECLINE = PREFIX + "decline"
LEAVE = PREFIX + "leave"
CANCEL = PREFIX + "cancel"
KNOCK = PREFIX + "knock"
DOOR = PREFIX + "door"
GATHERING = PREFIX + "gathering"
HERE = PREFIX + "here"
BUNDLE_REQUEST = PREFIX + "bundle-request"
BUNDLE = PREFIX + "bundle"
MANIFEST = PREFIX + "manifest"
SIGNATURE = PREFIX + "signature"
REVEAL = PREFIX + "reveal"
FRAME = PREFIX + "frame"
ALIVE = PREFIX + "alive"
ABORT = PREFIX + "abort"

MAX_PARTIES = 64
ATTEMPT_DIGITS = 32
MAX_NAME = 64
MAX_SENTENCE = 500
MAX_ARGUMENTS = 256
MAX_ARGUMENT_BYTES = 4_096  # of all arguments: no more than a person will look at
# A part of a bundle, in bytes: with two layers of base64 it must fit into one message of a mediator (1 MiB).
BUNDLE_PART = 262_144
MAX_BUNDLE_PARTS = 512


def text(body: Mapping[str, Any], name: str, limit: int = MAX_SENTENCE, *, default: str | None = None) -> str:
    """The string `name` of `body`, at most `limit` characters, without control characters.

    Whatever a peer writes may end on a terminal, so control characters are refused here once.
    """
    value = body.get(name, default)
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise MessageError(f"“{name}” must be one line of at most {limit} printable characters.")
    return value


def hexadecimal(body: Mapping[str, Any], name: str, digits: int) -> str:
    """The value `name` of `body`: so many lower-case hexadecimal digits, safe in any file name."""
    value = body.get(name)
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{digits}}}", value, re.ASCII):
        raise MessageError(f"“{name}” must have {digits} hexadecimal digits.")
    return value


def sentence(value: str) -> str:
    """Any text as `text` takes it at the other end: one line, bounded, printable."""
    return "".join(c if c.isprintable() else " " for c in value)[:MAX_SENTENCE]


def number(body: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """The integer `name` of `body`, within [low, high]."""
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MessageError(f"“{name}” must be a whole number from {low} to {high}.")
    return value


def flag(body: Mapping[str, Any], name: str) -> bool:
    """The boolean `name` of `body`."""
    value = body.get(name)
    if not isinstance(value, bool):
        raise MessageError(f"“{name}” must be true or false.")
    return value


def octets(body: Mapping[str, Any], name: str, limit: int, exactly: int | None = None) -> bytes:
    """The base64url value `name` of `body`."""
    value = body.get(name)
    try:
        raw = unb64url(value) if isinstance(value, str) else None
    except (RemoteViolation, ValueError):
        raw = None
    if raw is None:
        raise MessageError(f"“{name}” must be base64url.")
    if len(raw) > limit or (exactly is not None and len(raw) != exactly):
        raise MessageError(f"“{name}” has {len(raw)} bytes, which is not its length.")
    return raw


def names(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of names for people to read."""
    value = body.get(name)
    if not isinstance(value, list) or len(value) > MAX_PARTIES:
        raise MessageError(f"“{name}” must be a list of at most {MAX_PARTIES} names.")
    return tuple(text({name: entry}, name, MAX_NAME) for entry in value)


def arguments(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Program arguments: bounded, and printable, so that what is shown is what is meant."""
    value = body.get("arguments")
    if (
        not isinstance(value, list)
        or len(value) > MAX_ARGUMENTS
        or not all(isinstance(entry, str) and entry.isprintable() for entry in value)
        or sum(len(entry.encode()) for entry in value) > MAX_ARGUMENT_BYTES
    ):
        raise MessageError(
            f"“arguments” must be {MAX_ARGUMENTS} printable texts at most, of {MAX_ARGUMENT_BYTES} bytes."
        )
    return tuple(value)


def versions(body: Mapping[str, Any]) -> dict[str, str]:
    """A party's versions, by the names of packages."""
    value = body.get("versions")
    if not isinstance(value, dict) or len(value) > 16:
        raise MessageError("A party states its versions.")
    return {text({"k": key}, "k", 32): text(value, key, 64) for key in value}


def _did(body: Mapping[str, Any]) -> str:
    did = text(body, "did", MAX_DID)
    try:
        did_of(did)
    except DidError as error:
        raise MessageError("A party names no DID that speaks for it.", why=error.what) from None
    return did


@dataclass(frozen=True, slots=True)
class Join:
    """A guest's yes: the DID that speaks for it in this attempt, and what its side can do.

    `session`: it speaks session/1.0. `relay`: its mediator speaks relay/1.0. `role` is the place it wishes
    for (seating.py); in a roster, the role that it has.
    """

    did: str
    name: str
    mediator: str
    session: bool
    versions: Mapping[str, str]
    relay: bool = True
    role: str = ""

    def body(self) -> dict[str, Any]:
        """The body of `join`."""
        return {
            "did": self.did,
            "name": self.name,
            "mediator": self.mediator,
            "session": self.session,
            "relay": self.relay,
            "role": self.role,
            "versions": dict(self.versions),
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Join":
        """Read the body of a `join`, or an entry of a roster; raises `MessageError`."""
        return cls(
            did=_did(body),
            name=text(body, "name", MAX_NAME),
            mediator=text(body, "mediator", 255),
            session=flag(body, "session"),
            versions=versions(body),
            relay=flag(body, "relay"),
            role=text(body, "role", MAX_NAME),
        )
