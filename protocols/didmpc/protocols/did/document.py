"""DID documents as immutable values (DID Core 1.0, section 5).

The foreign JSON is validated by `pydid`; what leaves this module is small and typed: the keys that
agree, the keys that sign, and the services.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pydid  # type: ignore[import-untyped]
from pydid.doc.doc import DIDDocumentError  # type: ignore[import-untyped]

from didmpc.protocols.did.names import did_of, fragment_of, same_party
from didmpc.protocols.encoding import base58_decode
from didmpc.protocols.errors import DidError
from didmpc.protocols.keys import AGREEMENT_CURVES, SIGNING_CURVES, Curve, PublicKey, multikey_curve

MAX_METHODS = 16
MAX_SERVICES = 16
MAX_ROUTING_KEYS = 8
MAX_URI = 4096

CONTEXT = ("https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1")
SERVICE_TYPE = "DIDCommMessaging"

# The types that carry bare base58 instead of a multikey, and the curve each stands for.
_BASE58_TYPES: dict[str, Curve] = {
    "Ed25519VerificationKey2018": "Ed25519",
    "X25519KeyAgreementKey2019": "X25519",
}


@dataclass(frozen=True, slots=True)
class Service:
    """A DIDCommMessaging service (DIDComm Messaging 2.1, "Service Endpoint").

    `uri` is a URL, or the DID of a mediator; `routing_keys` are the keys to wrap for, first hop first.
    """

    uri: str
    id: str = "#service"
    accept: tuple[str, ...] = ("didcomm/v2",)
    routing_keys: tuple[str, ...] = ()

    def endpoint(self) -> dict[str, Any]:
        """The `serviceEndpoint` object; `routingKeys` only where there are any."""
        routing = {"routingKeys": list(self.routing_keys)} if self.routing_keys else {}
        return {"uri": self.uri, "accept": list(self.accept), **routing}


@dataclass(frozen=True, slots=True)
class VerificationMethod:
    """A public key under its absolute DID URL."""

    kid: str
    public: PublicKey


@dataclass(frozen=True, slots=True)
class DIDDocument:
    """What a DID resolves to. `did` and every kid are written in the form that was resolved."""

    did: str
    key_agreement: tuple[VerificationMethod, ...] = ()
    authentication: tuple[VerificationMethod, ...] = ()
    services: tuple[Service, ...] = ()
    also_known_as: tuple[str, ...] = ()

    def key(self, kid: str) -> VerificationMethod:
        """The key named `kid`, whatever it may be used for. Raises `DidError` when there is none."""
        return self._find(kid, (*self.key_agreement, *self.authentication), "key")

    def agreement_key(self, kid: str) -> VerificationMethod:
        """The key named `kid` if it stands in `keyAgreement`, else `DidError`."""
        return self._find(kid, self.key_agreement, "keyAgreement key")

    def authentication_key(self, kid: str) -> VerificationMethod:
        """The key named `kid` if it stands in `authentication`, else `DidError`."""
        return self._find(kid, self.authentication, "authentication key")

    def _find(self, kid: str, methods: Iterable[VerificationMethod], kind: str) -> VerificationMethod:
        fragment = fragment_of(kid)
        for method in methods:
            if fragment_of(method.kid) == fragment and same_party(method.kid, kid):
                return method
        raise DidError(f"A DID document has no {kind} #{fragment[:60]}.", why=f"the DID is {self.did[:60]}")

    def to_json(self) -> dict[str, Any]:
        """The document as JSON, ids relative to `id` so that a person can read it."""
        methods = {method.kid: method for method in (*self.key_agreement, *self.authentication)}
        document: dict[str, Any] = {"@context": list(CONTEXT), "id": self.did}
        if self.also_known_as:
            document["alsoKnownAs"] = list(self.also_known_as)
        return document | relative_members(
            self.did,
            ((fragment_of(kid), method.public) for kid, method in methods.items()),
            [fragment_of(method.kid) for method in self.authentication],
            [fragment_of(method.kid) for method in self.key_agreement],
            self.services,
        )


def relative_members(
    controller: str | None,
    methods: Iterable[tuple[str, PublicKey]],
    authentication: Iterable[str],
    key_agreement: Iterable[str],
    services: Iterable[Service],
) -> dict[str, Any]:
    """The members of a document after its `id`, with relative ids; `methods` by fragment."""
    return {
        "verificationMethod": [
            {
                "id": f"#{fragment}",
                "type": "Multikey",
                **({"controller": controller} if controller else {}),
                "publicKeyMultibase": public.multikey(),
            }
            for fragment, public in methods
        ],
        "authentication": [f"#{fragment}" for fragment in authentication],
        "keyAgreement": [f"#{fragment}" for fragment in key_agreement],
        "service": [
            {"id": service.id, "type": SERVICE_TYPE, "serviceEndpoint": service.endpoint()}
            for service in services
        ],
    }


def from_json(did: str, value: Mapping[str, Any]) -> DIDDocument:
    """Read the document of `did` (relative ids allowed), validated through pydid.

    Keys of kinds that are not supported here are left out: a document may carry more than we can use.
    """
    document = _absolute(did, value)
    try:
        parsed = pydid.BasicDIDDocument.deserialize(document)
        agreement = tuple(_methods(did, parsed, parsed.key_agreement or (), AGREEMENT_CURVES))
        authentication = tuple(_methods(did, parsed, parsed.authentication or (), SIGNING_CURVES))
    except DidError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, DIDDocumentError) as error:
        raise DidError("A DID document is not valid.", why=_first_line(error)) from None
    return DIDDocument(
        did=did,
        key_agreement=agreement,
        authentication=authentication,
        services=tuple(_services(document.get("service") or ())),
        also_known_as=tuple(document.get("alsoKnownAs") or ()),
    )


def _methods(
    did: str, parsed: pydid.BasicDIDDocument, references: Iterable[Any], curves: frozenset[Curve]
) -> Iterable[VerificationMethod]:
    for reference in references:
        method = reference if isinstance(reference, pydid.VerificationMethod) else None
        if method is None:
            found = parsed.dereference(reference)
            if not isinstance(found, pydid.VerificationMethod):
                raise DidError("A DID document names as a key what is none.")
            method = found
        if did_of(str(method.id)) != did:
            raise DidError("A DID document lists a key under another DID.")
        public = _material(method)
        if public is not None and public.curve in curves:
            yield VerificationMethod(str(method.id), public)


def _material(method: pydid.VerificationMethod) -> PublicKey | None:
    """The public key of a verification method; None where its kind is not supported."""
    if method.public_key_multibase is not None:
        curve, multikey = _BASE58_TYPES.get(method.type), method.public_key_multibase
        if curve:
            return PublicKey(curve, base58_decode(multikey[1:]))
        return PublicKey.from_multikey(multikey) if multikey_curve(multikey) else None
    if method.public_key_jwk is not None:
        known = method.public_key_jwk.get("crv") in (AGREEMENT_CURVES | SIGNING_CURVES)
        return PublicKey.from_jwk(method.public_key_jwk) if known else None
    if method.public_key_base58 is not None and method.type in _BASE58_TYPES:
        return PublicKey(_BASE58_TYPES[method.type], base58_decode(method.public_key_base58))
    return None


def _services(values: Iterable[Any]) -> Iterable[Service]:
    """Every DIDCommMessaging endpoint, in order; an array of endpoints gives several."""
    for value in values:
        kind = value.get("type")
        if SERVICE_TYPE not in (kind if isinstance(kind, list) else [kind]):
            continue
        endpoints = value.get("serviceEndpoint")
        for endpoint in endpoints if isinstance(endpoints, list) else [endpoints]:
            # Before DIDComm 2.1 the endpoint was a bare string, with its properties beside it.
            fields = {**value, "uri": endpoint} if isinstance(endpoint, str) else endpoint
            yield _service(str(value.get("id", "#service")), fields)


def _service(service_id: str, fields: Any) -> Service:
    if not isinstance(fields, Mapping) or not isinstance(uri := fields.get("uri"), str) or len(uri) > MAX_URI:
        raise DidError("A DIDComm service in a DID document has no usable uri.")
    fragment = fragment_of(service_id) or "service"
    return Service(
        uri=uri,
        id=f"#{fragment}",
        accept=_texts(fields.get("accept"), "accept"),
        routing_keys=_texts(fields.get("routingKeys", fields.get("routing_keys")), "routingKeys"),
    )


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_ROUTING_KEYS:
        raise DidError(f"{name} of a service must be a list of at most {MAX_ROUTING_KEYS} texts.")
    if not all(isinstance(item, str) for item in value):
        raise DidError(f"{name} of a service must be a list of texts.")
    return tuple(value)


_RELATIONSHIPS = (
    "authentication",
    "assertionMethod",
    "keyAgreement",
    "capabilityInvocation",
    "capabilityDelegation",
)


def _absolute(did: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with every id absolute, controllers filled in, and the shape checked that pydid relies on."""
    document: dict[str, Any] = {**value, "id": did}
    document.setdefault("@context", list(CONTEXT))
    _objects(document, "verificationMethod", MAX_METHODS)
    document["verificationMethod"] = [
        _method_absolute(did, item) for item in document.get("verificationMethod") or ()
    ]
    for name in _RELATIONSHIPS:
        items = document.get(name)
        if items is None:
            document.pop(name, None)
            continue
        if not isinstance(items, list) or len(items) > MAX_METHODS:
            raise DidError(f"{name} of a DID document must be a list of at most {MAX_METHODS}.")
        document[name] = [_reference_absolute(did, item) for item in items]
    _objects(document, "service", MAX_SERVICES)
    document["service"] = _services_absolute(did, document.get("service") or ())
    also = document.get("alsoKnownAs")
    if also is not None and not (isinstance(also, list) and all(isinstance(item, str) for item in also)):
        raise DidError("alsoKnownAs of a DID document must be a list of texts.")
    return document


def _services_absolute(did: str, items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some peers give every service one id, which pydid refuses: later ones get an id of their own."""
    services: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(items):
        name = _id_absolute(did, item.get("id", "#service"))
        unique = f"{name}-{number}" if name in services else name
        services[unique] = {**item, "id": unique}
    return list(services.values())


def _objects(document: Mapping[str, Any], name: str, limit: int) -> None:
    items = document.get(name)
    if items is None:
        return
    if not isinstance(items, list) or len(items) > limit or not all(isinstance(i, dict) for i in items):
        raise DidError(f"{name} of a DID document must be a list of at most {limit} objects.")


def _reference_absolute(did: str, item: Any) -> Any:
    return _method_absolute(did, item) if isinstance(item, dict) else _id_absolute(did, item)


def _method_absolute(did: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"controller": did, **item, "id": _id_absolute(did, item.get("id"))}


def _id_absolute(did: str, item: Any) -> str:
    if not isinstance(item, str):
        raise DidError("An id in a DID document is not a text.")
    return did + item if item.startswith("#") else item


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
