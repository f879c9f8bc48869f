"""The signature of an abort: a party's word about how it ended, in this attempt (session.md, section 6).

Whoever holds it can show it to a third party, which then need not take the word of whoever passed it on.
"""

import json
from collections.abc import Mapping
from typing import Any

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.did import resolve
from didmpc.protocols.errors import DidmpcError, MessageError
from didmpc.protocols.identity import Identity

SIGNED = ("kind", "what", "why", "about")
"""The fields of a cause that the signature covers; `about` only where there is one."""


def _signed_bytes(manifest_sha256: str, pid: int, cause: Mapping[str, Any]) -> bytes:
    said = {name: cause[name] for name in SIGNED if name in cause}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return b"didmpc abort/1.0\0" + bytes.fromhex(manifest_sha256) + pid.to_bytes(2, "big") + text.encode()


def sign(identity: Identity, manifest_sha256: str, pid: int, cause: Mapping[str, Any]) -> str:
    """The signature of party `pid`, base64url, by the session DID of `identity`."""
    _, key = identity.signing_key
    return b64url(key.sign(_signed_bytes(manifest_sha256, pid, cause)))


def check(did: str, manifest_sha256: str, pid: int, cause: Mapping[str, Any], signature: object) -> None:
    """Check that party `pid`, which speaks with `did`, says so. Raises MessageError."""
    try:
        if not isinstance(signature, str):
            raise MessageError("An abort has no signature.")
        methods = resolve(did).authentication
        if not methods:
            raise MessageError("A party has no key to sign with.")
        methods[0].public.verify(unb64url(signature), _signed_bytes(manifest_sha256, pid, cause))
    except (DidmpcError, ValueError) as error:
        raise MessageError("The signature of an abort does not hold.", why=str(error)) from None
