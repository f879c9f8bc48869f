"""What a session gives beyond its packets: secrets for applications, and proofs bound to it.

docs/session-extension.md, sections 7 (Export), 9 (a new session on the same link) and 12 (contact proof).
"""

from __future__ import annotations

import hmac
from typing import Literal

from didmpc.protocols.session.schedule import expand

Role = Literal["i", "r"]
"""Initiator or responder of the session."""


def export(exporter: bytes, name: str, length: int = 32) -> bytes:
    """Export(l, n): a secret bound to the session. An application's `name` begins with a URI that it owns."""
    return expand(exporter, b"didmpc s1 export " + name.encode() + b"\x00", length)


def continuation_key(exporter: bytes) -> bytes:
    """What a session gives to the one that continues its link: it proves it, and goes into its keys."""
    return export(exporter, "continue")


def continuation(exporter: bytes, role: Role, open_id: str) -> bytes:
    """`continues` of `role` in the handshake `open_id`, which continues the link of `exporter`'s session."""
    return hmac.digest(continuation_key(exporter), role.encode() + open_id.encode(), "sha256")


def contact_proof(pair_secret: bytes, role: Role, exporter: bytes) -> bytes:
    """What `role` sends in CONTACT to a contact with this pair secret."""
    return hmac.digest(pair_secret, b"didmpc s1 contact " + role.encode() + b"\x00" + exporter, "sha256")
