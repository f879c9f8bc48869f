"""The manifest: everything the parties of one attempt agree on, as bytes that all of them sign.

Its SHA-256 goes into every session handshake of the attempt, so a party that agreed to anything else
cannot take part. Who is party `pid` is decided here: by the session DID in the roster.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.did import canonical
from didmpc.protocols.errors import DidmpcError, MessageError
from didmpc.protocols.mpc.messages import (
    ATTEMPT_DIGITS,
    Join,
    arguments,
    flag,
    hexadecimal,
    number,
    text,
)
from didmpc.protocols.mpc.proposal import Proposal, check_program
from didmpc.protocols.mpc.terms import MODES, RESUME_LIMIT, RESUME_LIMITS, WIRES

VERSION = "didmpc manifest/1.0"
MAX_MANIFEST = 262_144
# MPyC's own settings on which all parties must agree (mpyc/__init__.py, group "MPyC parameters"),
# with MPyC's defaults. Transport is never among them.
OPTIONS: Mapping[str, int | bool] = {
    "bit_length": 32,
    "sec_param": 30,
    "no_async": False,
    "no_barrier": False,
    "no_prss": False,
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One attempt. `roster[pid]` is party `pid`; the host is pid 0."""

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
        value = {
            "version": VERSION,
            "attempt": self.attempt,
            "program": dict(self.program),
            "arguments": list(self.arguments),
            "threshold": self.threshold,
            "free_threshold": self.free_threshold,
            "mode": self.mode,
            "wire": self.wire,
            "resume_limit": self.resume_limit,
            "options": dict(self.options),
            "roster": [party.body() for party in self.roster],
            "expires": self.expires,
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

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
            raise MessageError("This is not a manifest of a version that we know.")
        roster, options, program = value.get("roster"), value.get("options"), value.get("program")
        if not isinstance(roster, list) or not isinstance(options, dict) or not isinstance(program, dict):
            raise MessageError("The manifest lacks its roster, options or program.")
        if set(options) != set(OPTIONS) or any(type(options[k]) is not type(v) for k, v in OPTIONS.items()):
            raise MessageError("The manifest's MPyC options are not the ones we know.")
        if not all(isinstance(party, dict) for party in roster):
            raise MessageError("The manifest's roster is malformed.")
        mode, wire = text(value, "mode", 16), text(value, "wire", 16)
        manifest = cls(
            attempt=hexadecimal(value, "attempt", ATTEMPT_DIGITS),
            program=check_program(program),
            arguments=arguments(value),
            threshold=number(value, "threshold", 0, (max(len(roster), 1) - 1) // 2),
            free_threshold=flag(value, "free_threshold"),
            mode=mode,
            options=options,
            roster=tuple(Join.of(party) for party in roster),
            expires=number(value, "expires", 0, 1 << 40),
            wire=wire,
            resume_limit=number(value, "resume_limit", *RESUME_LIMITS),
        )
        if mode not in MODES or wire not in WIRES or manifest.encode() != raw:
            raise MessageError("The manifest is not in its canonical form.")
        if (
            not 2 <= manifest.m <= 64
            or len({canonical(party.did) for party in manifest.roster}) != manifest.m
        ):
            raise MessageError("The manifest must list each party once, and at least two.")
        return manifest

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


def check_against_proposal(manifest: Manifest, proposal: Proposal, did: str) -> int:
    """Check that a host's manifest is what its proposal said, with `did` in it; returns our pid.

    Raises `MessageError` that names the difference.
    """
    pid = manifest.pid_of(did)
    names = tuple(party.name for party in manifest.roster)
    differences = [
        what
        for what, differs in (
            ("the attempt", manifest.attempt != proposal.attempt),
            ("the program", manifest.program != proposal.program),
            ("the arguments", manifest.arguments != proposal.arguments),
            ("the threshold", manifest.threshold != proposal.threshold),
            ("whether the program may change it", manifest.free_threshold != proposal.free_threshold),
            ("the parties", not proposal.admits(names)),
            ("MPyC's options", manifest.options != OPTIONS),
            ("the mode", manifest.mode != proposal.mode),
            ("the wire form", manifest.wire != proposal.wire),
            ("how long an unreachable party is waited for", manifest.resume_limit != proposal.resume_limit),
            ("the roster (we are not among its guests)", not pid),
        )
        if differs
    ]
    if differences or pid is None:
        raise MessageError(
            "The host's manifest is not what it proposed.",
            why=f"Different: {', '.join(differences)}.",
            fix="Nothing of yours was sent. Ask the host to propose again.",
        )
    return pid


def check_versions(roster: tuple[Join, ...]) -> None:
    """MPyC must be the same release at every party, or their rounds do not match; raises `DidmpcError`."""
    ours = roster[0].versions.get("mpyc", "")
    for party in roster[1:]:
        theirs = party.versions.get("mpyc", "")
        if theirs.split(".")[:2] != ours.split(".")[:2]:
            raise DidmpcError(
                f"{party.name} has MPyC {theirs}, {roster[0].name} has {ours}.",
                why="Parties with different MPyC releases cannot compute together.",
                fix="Install the same release of didmpc at every party.",
            )
