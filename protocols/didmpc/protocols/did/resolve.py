"""From a DID to its document, for the methods that need no network."""

from collections.abc import Callable
from functools import lru_cache

from didmpc.protocols.did import key, peer2, peer4
from didmpc.protocols.did.document import DIDDocument
from didmpc.protocols.did.names import did_of
from didmpc.protocols.errors import DidError

Resolve = Callable[[str], DIDDocument]
"""What the rest of the core asks for: a DID in, its document out, or `DidError`."""

_REMEMBERED = 2048


def resolve(did: str, known: Callable[[str], str | None] | None = None) -> DIDDocument:
    """The document of a DID (or of the DID of a DID URL).

    `known` gives the long form of a short did:peer:4 that was seen before. Raises `DidError`.
    """
    did = did_of(did)
    if peer4.is_short(did):
        long_did = known(did) if known is not None else None
        if long_did is None:
            raise DidError(
                "A did:peer:4 came in its short form, and its long form was never seen here.",
                fix="The peer must send a message from the long form first.",
                code="e.p.did.unresolvable",
            )
        return _resolve_short(did, long_did)
    return _resolve(did)


# Documents are a function of the DID alone, so nothing here grows stale. To make one takes a millisecond,
# to keep one about 6 KB.
@lru_cache(maxsize=_REMEMBERED)
def _resolve(did: str) -> DIDDocument:
    if did.startswith(peer2.PREFIX):
        return peer2.resolve(did)
    if did.startswith(peer4.PREFIX):
        return peer4.resolve(did)
    if did.startswith(key.PREFIX):
        return key.resolve(did)
    raise DidError(
        "A DID is of a method that is not supported here.",
        why=f"it starts with {did[:40]!r}; supported are did:peer:2, did:peer:4 and did:key",
        code="e.p.did.unsupported",
    )


@lru_cache(maxsize=_REMEMBERED)
def _resolve_short(short_did: str, long_did: str) -> DIDDocument:
    return peer4.resolve_short(short_did, long_did)
