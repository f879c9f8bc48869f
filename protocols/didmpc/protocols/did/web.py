"""did:web (W3C CCG, "did:web Method Specification"): a DID whose document lies on a web server.

Here is only what needs no network: which URL it is, and whether what lies there is the document.
"""

import re
from typing import Any
from urllib.parse import unquote

from didmpc.protocols.did.document import DIDDocument, from_json
from didmpc.protocols.did.names import did_of
from didmpc.protocols.errors import DidError
from didmpc.protocols.message import decode_json

PREFIX = "did:web:"
MAX_DOCUMENT = 64 * 1024
"""Largest document in bytes."""
_MAX_HOST = 253  # RFC 1035
_MAX_PATH = 1024

# A name, never an address (also in no old way of writing one: 127.1, 0x7f.1): certificates are for names.
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._-]|%[0-9A-Fa-f]{2})+")


def url_of(did: str) -> str:
    """Where the document of a did:web lies ("Read (Resolve)"). Raises `DidError`."""
    did = did_of(did)
    name, *path = did.removeprefix(PREFIX).split(":")
    host, colon, port = unquote(name).partition(":")
    if (
        not did.startswith(PREFIX)
        or len(host) > _MAX_HOST
        or not _HOST.fullmatch(host)
        or (colon and not (_PORT.fullmatch(port) and int(port) < 65536))
        or len(did) > _MAX_HOST + _MAX_PATH
        or not all(_SEGMENT.fullmatch(segment) and _stays_there(unquote(segment)) for segment in path)
    ):
        raise DidError(
            "A did:web does not say where its document lies.",
            why=f"it reads {did[:80]!r}",
            fix="It is did:web:HOST, did:web:HOST%3APORT, or one of these followed by :PATH:SEGMENTS.",
        )
    at = f"{host}:{port}" if port else host
    return f"https://{at}/{'/'.join(path) or '.well-known'}/did.json"


def parse(did: str, content: bytes) -> DIDDocument:
    """The document of a did:web from what its server gave. Raises `DidError` or `MessageError`."""
    value = decode_json(content, MAX_DOCUMENT)
    if not isinstance(value, dict) or value.get("id") != did:
        raise DidError("The document that lies where a did:web says is not that of this DID.")
    return from_json(did, _usable(did, value))


_MEMBERS = ("@context", "service", "alsoKnownAs")
_RELATIONSHIPS = ("authentication", "keyAgreement")  # what DIDComm asks for
_MATERIAL = ("publicKeyMultibase", "publicKeyJwk", "publicKeyBase58")


def _usable(did: str, value: dict[str, Any]) -> dict[str, Any]:
    """The members that DIDComm needs, without keys of kinds unknown here and keys of other DIDs.

    Such documents are written for many uses, and may name what only others understand.
    """
    methods = _objects(value, "verificationMethod")
    known = {_absolute(did, each["id"]): each for each in methods if _is_usable(did, each)}
    usable: dict[str, Any] = {name: value[name] for name in _MEMBERS if name in value}
    for name in _RELATIONSHIPS:
        items = value.get(name) or []
        if not isinstance(items, list):
            raise DidError(f"{name} of a DID document must be a list.")
        usable[name] = [
            item
            for item in items
            if (isinstance(item, str) and _absolute(did, item) in known)
            or (isinstance(item, dict) and _is_usable(did, item))
        ]
    return {**usable, "verificationMethod": list(known.values())}


def _objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = value.get(name) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DidError(f"{name} of a DID document must be a list of objects.")
    return items


def _is_usable(did: str, method: dict[str, Any]) -> bool:
    kid = method.get("id")
    return (
        isinstance(kid, str)
        and _absolute(did, kid).partition("#")[0] == did
        and any(isinstance(method.get(name), str | dict) for name in _MATERIAL)
    )


def _absolute(did: str, name: str) -> str:
    return did + name if name.startswith("#") else name


def _stays_there(segment: str) -> bool:
    return segment not in (".", "..") and not set(segment) & set("/\\\0")
