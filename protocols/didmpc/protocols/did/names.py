"""What a DID or DID URL names, without resolving it.

A did:peer:4 has a long form that carries its document and a short one that is the hash of it. Both
are one party: everything that stores or compares parties does so by `canonical`.
"""

import hashlib
import re
from functools import lru_cache

from didmpc.protocols.crypto.encoding import multibase
from didmpc.protocols.errors import DidError

MAX_DID = 8192
"""Longest DID that is looked at, in characters. One with several keys and services has about 1,500."""

_DID_URL = re.compile(r"(did:[a-z0-9]+:[A-Za-z0-9._:%-]+)(?:[#?/;].*)?", re.DOTALL)
_SHA2_256 = b"\x12\x20"  # multihash: sha2-256, 32 bytes


def did_of(did_url: str) -> str:
    """The DID of a DID URL (`did:...#key-1` gives `did:...`)."""
    # One message asks for the same few DIDs a dozen times. What is too long is not kept.
    return _did_of(did_url) if len(did_url) <= 2 * MAX_DID else _did_of.__wrapped__(did_url)


@lru_cache(maxsize=512)
def _did_of(did_url: str) -> str:
    found = _DID_URL.fullmatch(did_url)
    if found is None:
        raise DidError("This is not a DID.", why=f"it reads {did_url[:60]!r}")
    did = found[1]
    if len(did) > MAX_DID:
        raise DidError("A DID is too long.", why=f"it has {len(did)} characters of {MAX_DID} allowed")
    return did


def fragment_of(did_url: str) -> str:
    """What follows the `#` of a DID URL; empty where there is none."""
    return did_url.partition("#")[2]


def short_peer4(encoded_document: str) -> str:
    """The short form: the hash over the encoded document (did:peer:4, "Creating a DID")."""
    digest = hashlib.sha256(encoded_document.encode("ascii")).digest()
    return "did:peer:4" + multibase(_SHA2_256 + digest)


def canonical(did: str) -> str:
    """The one name under which a party is stored and compared: the DID without path, query and fragment,
    and for a did:peer:4 its short form.

    A long form whose hash does not fit its document is the name of nobody else: it stays as it is.
    """
    did = did_of(did)
    return _short_of(did) if did.startswith("did:peer:4") and did.count(":") > 2 else did


@lru_cache(maxsize=512)
def _short_of(did: str) -> str:
    claimed, _, document = did.rpartition(":")
    return claimed if document.isascii() and short_peer4(document) == claimed else did


def same_party(one: str, other: str) -> bool:
    """Whether two DIDs (or DID URLs) name one party, in whichever form each is written."""
    return one == other or canonical(one) == canonical(other)
