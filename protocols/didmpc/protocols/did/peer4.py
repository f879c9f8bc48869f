"""did:peer:4, numalgo 4 of the Peer DID Method: the hash of a document, and in the long form the document.

Long form `did:peer:4<hash>:<document>`, short form `did:peer:4<hash>`. The document inside has no `id`
and relative ids; resolved, `alsoKnownAs` names the other form. The short form resolves only where the
long one was seen before.
"""

import json
from collections.abc import Sequence
from typing import Any

from didmpc.protocols.crypto.encoding import multibase, split_varint, unmultibase, varint
from didmpc.protocols.crypto.keys import AGREEMENT_CURVES, PublicKey
from didmpc.protocols.did.document import DIDDocument, Service, from_json, relative_members
from didmpc.protocols.did.names import short_peer4
from didmpc.protocols.errors import DidError

PREFIX = "did:peer:4"
_JSON = 0x0200  # multicodec `json`


def create(keys: Sequence[PublicKey], services: Sequence[Service] = ()) -> str:
    """The long form for these keys and services. An Ed25519 key signs; every other one agrees."""
    named = [(f"key-{number}", key) for number, key in enumerate(keys, start=1)]
    members = relative_members(
        None,
        named,
        authentication=[name for name, key in named if key.curve not in AGREEMENT_CURVES],
        key_agreement=[name for name, key in named if key.curve in AGREEMENT_CURVES],
        services=[
            Service(service.uri, _service_id(number), service.accept, service.routing_keys)
            for number, service in enumerate(services)
        ],
    )
    return encode({"@context": ["https://www.w3.org/ns/did/v1"], **members})


def encode(document: dict[str, Any]) -> str:
    """The long form of any input document (did:peer:4, "Creating a DID")."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    encoded = multibase(varint(_JSON) + text)
    return f"{short_peer4(encoded)}:{encoded}"


def is_short(did: str) -> bool:
    return did.startswith(PREFIX) and did.count(":") == 2


def resolve(long_did: str) -> DIDDocument:
    """The document of a long form, under its long name."""
    short, document = _open(long_did)
    return from_json(long_did, {**document, "alsoKnownAs": _also(document, short)})


def resolve_short(short_did: str, long_did: str) -> DIDDocument:
    """The document of a short form whose long form is known, under its short name."""
    short, document = _open(long_did)
    if short != short_did:
        raise DidError("The long form kept for a did:peer:4 belongs to another one.")
    return from_json(short_did, {**document, "alsoKnownAs": _also(document, long_did)})


def _open(long_did: str) -> tuple[str, dict[str, Any]]:
    short, _, encoded = long_did.rpartition(":")
    if not is_short(short) or short_peer4(encoded) != short:
        raise DidError("A did:peer:4 is damaged: its hash does not fit its document.")
    try:
        codec, text = split_varint(unmultibase(encoded))
        document = json.loads(text) if codec == _JSON else None
    except (ValueError, RecursionError):
        raise DidError("The document in a did:peer:4 is not readable.") from None
    if not isinstance(document, dict) or "id" in document:
        raise DidError("The document in a did:peer:4 must be a JSON object without an id.")
    return short, document


def _also(document: dict[str, Any], other: str) -> list[Any]:
    names = document.get("alsoKnownAs") or []
    if not isinstance(names, list):
        raise DidError("alsoKnownAs of a DID document must be a list of texts.")
    return names if other in names else [*names, other]


def _service_id(number: int) -> str:
    return f"#service-{number}" if number else "#service"
