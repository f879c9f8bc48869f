"""DID documents of others, as JSON: validated by `pydid`, and by what it leaves to its callers."""

from collections.abc import Iterable, Mapping
from typing import Any

import pydid  # type: ignore[import-untyped]
from pydid.doc.doc import DIDDocumentError  # type: ignore[import-untyped]

from didmpc.protocols.crypto.encoding import base58_decode
from didmpc.protocols.crypto.keys import AGREEMENT_CURVES, SIGNING_CURVES, Curve, PublicKey, multikey_curve
from didmpc.protocols.did.document import (
    CONTEXT,
    MAX_METHODS,
    MAX_ROUTING_KEYS,
    MAX_SERVICES,
    MAX_URI,
    SERVICE_TYPE,
    DIDDocument,
    Service,
    VerificationMethod,
)
from didmpc.protocols.did.names import did_of, fragment_of
from didmpc.protocols.errors import DidError

# The types that carry bare base58 instead of a multikey, and the curve each stands for.
_BASE58_TYPES: dict[str, Curve] = {
    "Ed25519VerificationKey2018": "Ed25519",
    "X25519KeyAgreementKey2019": "X25519",
}


def read(did: str, value: Mapping[str, Any]) -> DIDDocument:
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
