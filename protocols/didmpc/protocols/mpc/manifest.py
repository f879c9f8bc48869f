"""The manifest: everything the parties of one attempt agree on, as bytes that all of them sign.

Its SHA-256 goes into every session handshake of the attempt, so a party that agreed to anything else
cannot take part. Who is party `pid` is decided here: by the session DID in the roster.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from didmpc.protocols.did import canonical
from didmpc.protocols.errors import MessageError
from didmpc.protocols.mpc.messages import ATTEMPT_DIGITS, Join, hexadecimal, number
from didmpc.protocols.mpc.proposal import FROM_FILE, read_terms, terms_body
from didmpc.protocols.mpc.statement import Statement
from didmpc.protocols.mpc.terms import DEADLOCK_GRACE, RESUME_LIMIT

VERSION = "didmpc manifest/2.0"
MAX_MANIFEST = 393_216
"""Bytes. With two layers of base64 it must fit into one message of a mediator (1 MiB)."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One attempt. `roster[pid]` is party `pid`, with its role; the host is party `host`."""

    attempt: str
    program: Mapping[str, Any]
    arguments: tuple[str, ...]
    threshold: int
    free_threshold: bool
    mode: str
    options: Mapping[str, int | bool]
    roster: tuple[Join, ...]
    expires: int
    wire: str = "binary"
    resume_limit: int = RESUME_LIMIT
    deadlock_grace: int = DEADLOCK_GRACE
    source: Mapping[str, str] = field(default_factory=lambda: dict(FROM_FILE))
    statement: Statement = field(default_factory=Statement)
    settings: Mapping[str, str] = field(default_factory=dict)
    host: int = 0

    @property
    def m(self) -> int:
        """Number of parties."""
        return len(self.roster)

    @property
    def sha256(self) -> str:
        """What signatures and handshakes are bound to."""
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """The bytes to sign: JSON with sorted keys and no white space."""
        return json.dumps(self.value(), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def value(self) -> dict[str, Any]:
        """The manifest as a JSON object."""
        return {
            "version": VERSION,
            "attempt": self.attempt,
            "threshold": self.threshold,
            **terms_body(self),
            "host": self.host,
            "roster": [party.body() for party in self.roster],
            "expires": self.expires,
        }

    @classmethod
    def decode(cls, raw: bytes) -> "Manifest":
        """Read a manifest; raises `MessageError`. Only the one encoding of a manifest is accepted."""
        if len(raw) > MAX_MANIFEST:
            raise MessageError(f"A manifest of {len(raw)} bytes is too large.")
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            raise MessageError("The manifest is not JSON.") from None
        if not isinstance(value, dict) or value.get("version") != VERSION:
            raise MessageError(
                "This is not a manifest of a version that we know.",
                fix="Install the same release of didmpc at every party.",
            )
        roster = value.get("roster")
        if not isinstance(roster, list) or not all(isinstance(party, dict) for party in roster):
            raise MessageError("The manifest's roster is malformed.")
        manifest = cls(
            attempt=hexadecimal(value, "attempt", ATTEMPT_DIGITS),
            threshold=number(value, "threshold", 0, (max(len(roster), 1) - 1) // 2),
            roster=tuple(Join.of(party) for party in roster),
            expires=number(value, "expires", 0, 1 << 40),
            host=number(value, "host", 0, max(len(roster), 1) - 1),
            **read_terms(value),
        )
        if manifest.encode() != raw:
            raise MessageError("The manifest is not in its canonical form.")
        if (
            not 2 <= manifest.m <= 64
            or len({canonical(party.did) for party in manifest.roster}) != manifest.m
        ):
            raise MessageError("The manifest must list each party once, and at least two.")
        if manifest.statement.seats(manifest.m, manifest.threshold) != manifest.roles:
            raise MessageError("The manifest's roles are not those of the places of its parties.")
        return manifest

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each pid."""
        return tuple(party.role for party in self.roster)

    def pid_of(self, did: str) -> int | None:
        """The pid of the party that speaks with `did`, or None for a stranger."""
        wanted = canonical(did)
        for pid, party in enumerate(self.roster):
            if canonical(party.did) == wanted:
                return pid
        return None

    def uses_session(self, i: int, j: int) -> bool:
        """Whether the pair {i, j} uses the session extension, by the mode and by what both can do."""
        if self.mode == "didcomm":
            return False
        return self.mode == "session" or (self.roster[i].session and self.roster[j].session)

    def wire_of(self, i: int, j: int) -> str:
        """The form of the pair's packets: as chosen, or JSON where the responder's mediator relays none."""
        return self.wire if self.roster[max(i, j)].relay else "json"
