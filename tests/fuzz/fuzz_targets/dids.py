"""DIDs and DID documents of strangers."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from didmpc.protocols import did as dids
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import Service, document, peer2, peer4, web
from didmpc.protocols.errors import DidError, MessageError
from didmpc.protocols.messages.routing import route
from fuzz_targets.target import ALICE, BOB, ERIN, Target, from_json, key, to_json

FILE = b"{}"


def did(data: bytes) -> None:
    """A text; or JSON: an object is the document of a did:peer:4, a list the segments of a did:peer:2."""
    value = from_json(data)
    text = data.decode("utf-8", "replace")
    if isinstance(value, dict):
        text = peer4.encode(value) if _has_utf8(value) else text
    elif isinstance(value, list):
        text = "did:peer:2" + "".join(f".{_segment(item)}" for item in value)
    try:
        name = dids.did_of(text)
        assert dids.canonical(dids.canonical(name)) == dids.canonical(name)
        found = dids.resolve(text)
    except DidError:
        return
    _use(found)
    short = dids.canonical(found.did)
    if short != found.did:
        again = dids.resolve(short, {short: found.did}.get)
        assert [method.public for method in again.key_agreement] == [m.public for m in found.key_agreement]


def did_document(data: bytes) -> None:
    """A document as a server gives it for a did:web, say."""
    value = from_json(data)
    if not isinstance(value, dict):
        return
    name = value.get("id")
    name = name if isinstance(name, str) and name.startswith("did:example:") else "did:example:a"
    try:
        found = document.from_json(name, value)
    except DidError:
        return
    _use(found)


def did_web(data: bytes) -> None:
    """A did:web as text: where it leads. Or the JSON that lies there."""
    value = from_json(data)
    name = value.get("id") if isinstance(value, dict) else data.decode("utf-8", "replace")
    try:
        url = urlsplit(web.url_of(name if isinstance(name, str) else "did:web:a.example"))
    except DidError:
        return
    assert url.scheme == "https" and url.hostname and not url.username and not url.query
    assert not url.hostname.rpartition(".")[2].isdigit() and ".." not in url.path.split("/")
    with contextlib.suppress(DidError, MessageError):
        _use(web.parse(f"did:web:{url.hostname}", data))


def _use(found: dids.DIDDocument) -> None:
    """What everyone does with a document: looks for keys, finds the way there, shows it."""
    for method in (*found.key_agreement, *found.authentication):
        assert found.key(method.kid) is not None
    json.dumps(found.to_json())
    if found.key_agreement and len(found.services) < 3:
        with contextlib.suppress(DidError):
            route(FILE, found)


def _segment(item: Any) -> str:
    if isinstance(item, dict | list):
        return "S" + b64url(json.dumps(item).encode())
    return str(item)


def _has_utf8(value: Any) -> bool:
    """A lone surrogate cannot be written as UTF-8, so it is in no DID."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _did_seeds() -> Iterator[bytes]:
    yield from (identity.did.encode() for identity in (ALICE, BOB, ERIN))
    public = [key("x").public, key("p", "P-256").public, key("e", "Ed25519").public]
    services = [Service("https://a.example", routing_keys=("did:key:z6Mk",)), Service("did:peer:2.Ez")]
    yield peer2.create(public, services).encode()
    yield from (dids.key.create(one).encode() for one in public)
    yield to_json(
        [
            f"E{public[0].multikey()}",
            f"V{public[2].multikey()}",
            {"t": "dm", "s": {"uri": "https://a.example", "a": ["didcomm/v2"], "r": []}},
            {"t": "dm", "s": "https://a.example", "r": [], "a": ["didcomm/v2"]},
            [{"t": "dm", "s": [{"uri": "https://a.example"}]}],
        ]
    )
    yield to_json(_document())
    untyped = {"id": "#key-1", "type": [], "publicKeyMultibase": public[0].multikey()}
    yield to_json({"verificationMethod": [untyped], "keyAgreement": ["#key-1"]})  # once an IndexError
    yield b"did:peer:4zQm#key-1?a;b/c"


def _document() -> dict[str, Any]:
    agree, sign = key("x").public, key("e", "Ed25519").public
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "verificationMethod": [
            {"id": "#key-1", "type": "Multikey", "publicKeyMultibase": agree.multikey()},
            {"id": "#key-2", "type": "JsonWebKey2020", "publicKeyJwk": sign.jwk()},
            {
                "id": "#key-3",
                "type": "X25519KeyAgreementKey2019",
                "publicKeyBase58": "JhNWeSVLMYccCk7iopQW4guaSJTojqpMEELgSLhKwRr",
            },
        ],
        "authentication": ["#key-2"],
        "keyAgreement": [
            "#key-1",
            "#key-3",
            {"id": "#key-4", "type": "JsonWebKey2020", "publicKeyJwk": key("p", "P-384").public.jwk()},
        ],
        "service": [
            {
                "id": "#s",
                "type": "DIDCommMessaging",
                "serviceEndpoint": {"uri": "https://a.example", "routingKeys": [ALICE.did]},
            },
            {"id": "#t", "type": ["DIDCommMessaging"], "serviceEndpoint": [{"uri": BOB.did}]},
        ],
        "alsoKnownAs": ["did:example:b"],
    }


def _document_seeds() -> Iterator[bytes]:
    yield to_json({**_document(), "id": "did:example:a"})
    yield to_json(BOB.document.to_json())


def _web_seeds() -> Iterator[bytes]:
    yield to_json({**_document(), "id": "did:web:a.example"})
    yield from (b"did:web:a.example", b"did:web:a.example%3A8443:user:alice", b"did:web:127.0.0.1")
    yield from (b"did:web:a.example:..:b", b"did:web:a%2Eexample:%2e%2e", b"did:web:0x7f.1")


TARGETS = (
    Target("did", did, _did_seeds),
    Target("did-document", did_document, _document_seeds),
    Target("did-web", did_web, _web_seeds),
)
