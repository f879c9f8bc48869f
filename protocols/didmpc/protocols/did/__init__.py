"""DIDs and DID documents: did:peer:2, did:peer:4, did:key, and what did:web needs besides a network."""

from didmpc.protocols.did import key, peer2, peer4, web
from didmpc.protocols.did.document import DIDDocument, Service, VerificationMethod
from didmpc.protocols.did.names import canonical, did_of, fragment_of, same_party
from didmpc.protocols.did.resolve import Resolve, resolve

__all__ = [
    "DIDDocument",
    "Resolve",
    "Service",
    "VerificationMethod",
    "canonical",
    "did_of",
    "fragment_of",
    "key",
    "peer2",
    "peer4",
    "resolve",
    "same_party",
    "web",
]
