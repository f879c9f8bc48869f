"""did:peer:2, numalgo 2 of the Peer DID Method: keys and services strung together, no hash.

Keys are `#key-N`, N from 1 in the order of the text, over all purposes. Services are `#service`,
`#service-1`, ... A service is base64url of abbreviated JSON; since September 2023 its endpoint is an
object (`"s": {"uri", "a", "r"}`), before that a bare URI with `r` and `a` beside it. Both are read,
the first is written.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.keys import AGREEMENT_CURVES, PublicKey
from didmpc.protocols.did.document import (
    MAX_METHODS,
    MAX_SERVICES,
    SERVICE_TYPE,
    DIDDocument,
    Service,
    from_json,
)
from didmpc.protocols.errors import DidError

PREFIX = "did:peer:2"
_AGREEMENT, _AUTHENTICATION, _SERVICE = "E", "V", "S"
_RELATIONSHIP = {
    _AGREEMENT: "keyAgreement",
    _AUTHENTICATION: "authentication",
    "A": "assertionMethod",
    "D": "capabilityDelegation",
    "I": "capabilityInvocation",
}
_LONG_NAME = {"t": "type", "s": "serviceEndpoint", "r": "routingKeys", "a": "accept"}
_LONG_TYPE = {"dm": SERVICE_TYPE}


def create(keys: Sequence[PublicKey], services: Sequence[Service] = ()) -> str:
    """The DID of these keys and services. An Ed25519 key signs; every other one agrees."""
    segments = [f".{_purpose(key)}{key.multikey()}" for key in keys]
    segments += [f".{_SERVICE}{_write_service(service)}" for service in services]
    return PREFIX + "".join(segments)


def resolve(did: str) -> DIDDocument:
    methods: list[dict[str, Any]] = []
    relationships: dict[str, list[str]] = {name: [] for name in _RELATIONSHIP.values()}
    services: list[dict[str, Any]] = []
    for purpose, text in _segments(did):
        if purpose == _SERVICE:
            services += _read_services(text, start=len(services))
        elif purpose in _RELATIONSHIP:
            methods.append({"id": f"#key-{len(methods) + 1}", "type": "Multikey", "publicKeyMultibase": text})
            relationships[_RELATIONSHIP[purpose]].append(methods[-1]["id"])
        else:
            raise DidError("A did:peer:2 has a segment of unknown purpose.", why=f"it is {purpose!r}")
        if len(methods) > MAX_METHODS or len(services) > MAX_SERVICES:
            raise DidError("A did:peer:2 has too many keys or services.")
    return from_json(did, {"verificationMethod": methods, "service": services, **relationships})


def _purpose(key: PublicKey) -> str:
    return _AGREEMENT if key.curve in AGREEMENT_CURVES else _AUTHENTICATION


def _segments(did: str) -> Iterator[tuple[str, str]]:
    head, *segments = did.split(".")
    if head != PREFIX or not segments or not all(segments):
        raise DidError("This is not a did:peer:2.", why=f"it reads {did[:60]!r}")
    for segment in segments:
        yield segment[0], segment[1:]


def _write_service(service: Service) -> str:
    endpoint: dict[str, Any] = {"uri": service.uri, "a": list(service.accept)}
    if service.routing_keys:
        endpoint["r"] = list(service.routing_keys)
    return b64url(json.dumps({"t": "dm", "s": endpoint}, separators=(",", ":")).encode())


def _read_services(text: str, start: int) -> list[dict[str, Any]]:
    try:
        value = json.loads(unb64url(text))
    except (ValueError, RecursionError):
        raise DidError("A service in a did:peer:2 is not base64url of JSON.") from None
    found = value if isinstance(value, list) else [value]  # an array in one segment: an older draft
    return [_expand(item, number) for number, item in enumerate(found, start)]


def _expand(value: Any, number: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DidError("A service in a did:peer:2 is not an object.")
    service = _long_names(value.items())
    kind = service.get("type")
    service["type"] = _LONG_TYPE.get(kind, kind) if isinstance(kind, str) else kind
    endpoint = service.get("serviceEndpoint")
    if isinstance(endpoint, dict):
        service["serviceEndpoint"] = _long_names(endpoint.items())
    elif isinstance(endpoint, list):
        service["serviceEndpoint"] = [
            _long_names(item.items()) if isinstance(item, dict) else item for item in endpoint
        ]
    elif isinstance(endpoint, str):
        properties = {name: service.pop(name) for name in ("routingKeys", "accept") if name in service}
        service["serviceEndpoint"] = {"uri": endpoint, **properties}
    service.setdefault("id", f"#service-{number}" if number else "#service")
    return service


def _long_names(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {_LONG_NAME.get(name, name): item for name, item in items}
