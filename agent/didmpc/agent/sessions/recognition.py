"""Contacts recognise each other inside a session, whoever introduced its DIDs.

docs/session-extension.md, section 12: a match proves the contact at the other end of this very session,
with nobody in between; no match says nothing.
"""

import secrets
from collections.abc import Iterable, Sequence

from didmpc.agent.contacts.contacts import Contact
from didmpc.protocols.session.exports import Role, contact_proof
from didmpc.protocols.session.frames import PROOF_BYTES, PROOF_COUNTS


def proofs(contacts: Iterable[Contact], role: Role, exporter: bytes) -> list[bytes]:
    """What our side of the session sends: one proof for each contact, hidden among random values."""
    real = [contact_proof(contact.pair_secret, role, exporter) for contact in contacts][: PROOF_COUNTS[-1]]
    size = next(count for count in PROOF_COUNTS if count >= len(real))
    padded = real + [secrets.token_bytes(PROOF_BYTES) for _ in range(size - len(real))]
    secrets.SystemRandom().shuffle(padded)
    return padded


def recognise(
    contacts: Iterable[Contact], role: Role, exporter: bytes, received: Sequence[bytes]
) -> Contact | None:
    """The contact that the peer, which has that role, proves to be. Several are a fault and count as none."""
    # Looked up, not compared in constant time: they are MACs for this session alone, and sent but once.
    among = set(received)
    found = [contact for contact in contacts if contact_proof(contact.pair_secret, role, exporter) in among]
    return found[0] if len(found) == 1 else None
