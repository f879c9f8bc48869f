"""A DID with the private keys behind it, and the set of them that an agent or mediator holds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from didmpc.protocols import did as dids
from didmpc.protocols.crypto.keys import Curve, PrivateKey
from didmpc.protocols.did import DIDDocument, Service, VerificationMethod, canonical, fragment_of
from didmpc.protocols.errors import DidError, LocalMisuse

DEFAULT_CURVES: tuple[Curve, ...] = ("X25519", "Ed25519")


@dataclass(frozen=True, repr=False)
class Identity:
    """A DID (a did:peer:4 in its long form) and its private keys by absolute key id."""

    did: str
    keys: Mapping[str, PrivateKey]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))

    def __repr__(self) -> str:
        return f"Identity(did={self.did[:48]!r}..., keys=<{len(self.keys)} secret>)"

    @classmethod
    def peer4(cls, services: Sequence[Service] = (), curves: Sequence[Curve] = DEFAULT_CURVES) -> "Identity":
        """A new did:peer:4 with a fresh key of each curve, `#key-1` first."""
        return cls.peer4_of([PrivateKey.generate(curve) for curve in curves], services)

    @classmethod
    def peer4_of(cls, keys: Sequence[PrivateKey], services: Sequence[Service] = ()) -> "Identity":
        """The did:peer:4 of keys at hand."""
        return cls._of(dids.peer4.create([key.public for key in keys], services), keys)

    @classmethod
    def peer2(cls, services: Sequence[Service] = (), curves: Sequence[Curve] = DEFAULT_CURVES) -> "Identity":
        """A new did:peer:2 with a fresh key of each curve, `#key-1` first."""
        return cls.peer2_of([PrivateKey.generate(curve) for curve in curves], services)

    @classmethod
    def peer2_of(cls, keys: Sequence[PrivateKey], services: Sequence[Service] = ()) -> "Identity":
        """The did:peer:2 of keys at hand."""
        return cls._of(dids.peer2.create([key.public for key in keys], services), keys)

    @classmethod
    def key(cls, curve: Curve = "X25519") -> "Identity":
        """A new did:key; of X25519 it can agree but not sign, of P-256 or P-384 both."""
        return cls.key_of(PrivateKey.generate(curve))

    @classmethod
    def key_of(cls, private: PrivateKey) -> "Identity":
        """The did:key of a key at hand."""
        return cls(dids.key.create(private.public), {dids.key.kid(private.public): private})

    @classmethod
    def _of(cls, did: str, keys: Sequence[PrivateKey]) -> "Identity":
        return cls(did, {f"{did}#key-{number}": key for number, key in enumerate(keys, start=1)})

    @property
    def document(self) -> DIDDocument:
        return dids.resolve(self.did)

    @property
    def agreement_key(self) -> tuple[str, PrivateKey]:
        """The first keyAgreement key of the document, with its key id."""
        return self._first(self.document.key_agreement, "agree on a secret")

    @property
    def signing_key(self) -> tuple[str, PrivateKey]:
        """The first authentication key of the document, with its key id."""
        return self._first(self.document.authentication, "sign")

    def _first(self, methods: Sequence[VerificationMethod], purpose: str) -> tuple[str, PrivateKey]:
        for method in methods:
            if method.kid in self.keys:
                return method.kid, self.keys[method.kid]
        raise LocalMisuse(f"The identity {self.did[:48]}... has no key to {purpose}.")

    def to_json(self) -> dict[str, Any]:
        """With private keys: for encrypted storage only."""
        return {"did": self.did, "keys": {fragment_of(kid): key.jwk() for kid, key in self.keys.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Identity":
        """Read what `to_json` wrote; the keys must be those of the DID."""
        try:
            did = str(value["did"])
            keys = {f"{did}#{name}": PrivateKey.from_jwk(jwk) for name, jwk in value["keys"].items()}
            document = dids.resolve(did)
            fits = all(document.key(kid).public == key.public for kid, key in keys.items())
        except (KeyError, TypeError, AttributeError, DidError) as error:
            raise LocalMisuse("A stored identity is damaged.", why=str(error)) from None
        if not fits:
            raise LocalMisuse("A stored identity is damaged.", why="its keys are not those of its DID")
        return cls(did, keys)


class Secrets(Protocol):
    """Where unpacking asks for private keys."""

    def find(self, kid: str) -> PrivateKey | None:
        """The private key of a key id, written with the long or the short form of its DID."""


class Identities(Secrets):
    """The identities someone holds, found by DID in either form."""

    def __init__(self, *identities: Identity) -> None:
        self._identities: dict[str, Identity] = {}
        self._keys: dict[str, PrivateKey] = {}
        for identity in identities:
            self.add(identity)

    def add(self, identity: Identity) -> None:
        self._identities[canonical(identity.did)] = identity
        self._keys.update((_canonical_kid(kid), key) for kid, key in identity.keys.items())

    def remove(self, did: str) -> None:
        """Forget an identity; one that is not held is no error."""
        identity = self._identities.pop(canonical(did), None)
        for kid in identity.keys if identity else ():
            self._keys.pop(_canonical_kid(kid), None)

    def identity(self, did: str) -> Identity | None:
        return self._identities.get(canonical(did))

    def find(self, kid: str) -> PrivateKey | None:
        try:
            return self._keys.get(_canonical_kid(kid))
        except DidError:
            return None

    def known(self, short_did: str) -> str | None:
        """The long form of one of these DIDs: what `did.resolve` takes as `known`."""
        identity = self._identities.get(short_did)
        return identity.did if identity else None

    def __iter__(self) -> Iterator[Identity]:
        return iter(tuple(self._identities.values()))

    def __len__(self) -> int:
        return len(self._identities)


def _canonical_kid(kid: str) -> str:
    return f"{canonical(kid)}#{fragment_of(kid)}"
