"""DID documents as immutable values (DID Core 1.0, section 5).

They are small and typed: the keys that agree, the keys that sign, and the services. `reading` makes them of
foreign JSON.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.crypto.keys import PublicKey
from didmpc.protocols.did.names import fragment_of, same_party
from didmpc.protocols.errors import DidError

MAX_METHODS = 16
MAX_SERVICES = 16
MAX_ROUTING_KEYS = 8
MAX_URI = 4096

CONTEXT = ("https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1")
SERVICE_TYPE = "DIDCommMessaging"


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
    """Read the document of `did` (relative ids allowed); see `reading.read`. Raises `DidError`."""
    # pydid takes a tenth of a second to import, which a process that reads no document does not spend.
    from didmpc.protocols.did.reading import read  # noqa: PLC0415

    return read(did, value)
