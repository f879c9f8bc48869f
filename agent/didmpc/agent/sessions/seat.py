"""What one party brings to an attempt whose manifest is written."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from didmpc.agent.program.bundle import Bundle
from didmpc.agent.sandbox.policy import Limits, Mechanism
from didmpc.protocols.did import canonical
from didmpc.protocols.identity import Identity
from didmpc.protocols.mpc import abort
from didmpc.protocols.mpc.manifest import Manifest

# Before a session gives way to a new one with fresh keys.
RENEW_SECONDS = max(1.0, float(os.environ.get("DIDMPC_RENEW_SECONDS") or 3600.0))


PRELUDE_WITHIN = 60
"""Seconds, after the resume limit, for the rest of a prelude of which a part has come."""
REHEARSAL = "DIDMPC_REHEARSAL"
"""The folder of the rehearsal that this agent is for."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Everything this party brings. `names[pid]` is what its person calls party `pid`."""

    pid: int
    identity: Identity
    manifest: Manifest
    bundle: Bundle
    names: tuple[str, ...]
    directory: Path
    input: Path | None
    output: Path | None
    sandbox: Mechanism
    limits: Limits = field(default_factory=Limits)

    @property
    def peers(self) -> list[int]:
        """The pids of the others."""
        return [pid for pid in range(self.manifest.m) if pid != self.pid]

    @property
    def without_session(self) -> list[int]:
        """The pids of those that we talk to in ordinary DIDComm messages."""
        return [pid for pid in self.peers if not self.manifest.uses_session(self.pid, pid)]

    def facts(self) -> dict[str, Any]:
        """Who takes part and what all signed, to be kept and shown."""
        places = [
            {
                "pid": pid,
                "name": name,
                "role": party.role,
                "did": canonical(party.did),
                "versions": dict(party.versions),
            }
            for pid, (name, party) in enumerate(zip(self.names, self.manifest.roster, strict=True))
        ]
        return {"manifest_sha256": self.manifest.sha256, "seats": places, "you": self.pid}

    def peer_of(self, did: str) -> int | None:
        """The pid of another party that speaks with `did`; None for anybody else."""
        pid = self.manifest.pid_of(did)
        return None if pid == self.pid else pid

    def sign_abort(self, cause: Mapping[str, Any]) -> str:
        """Our signature of how we end."""
        return abort.sign(self.identity, self.manifest.sha256, self.pid, cause)

    def check_abort(self, pid: int, cause: Mapping[str, Any], signature: object) -> None:
        """Check party `pid`'s. Raises MessageError."""
        abort.check(self.manifest.roster[pid].did, self.manifest.sha256, pid, cause, signature)

    def session_line(self) -> dict[str, Any]:
        """What the channel process and the program need to know, none of it secret."""
        manifest = self.manifest
        return {
            "me": self.pid,
            "parties": [
                {"pid": pid, "name": name, "did": manifest.roster[pid].did}
                for pid, name in enumerate(self.names)
            ],
            "manifest_sha256": manifest.sha256,
            "mode": manifest.mode,
            "resume_limit": manifest.resume_limit,
            "deadlock_grace": manifest.deadlock_grace,
            "renew_seconds": RENEW_SECONDS,
            "directory": str(self.directory),
            "output": str(self.output) if self.output else None,
            "sandbox": self.sandbox.value,
            "limits": {"memory": self.limits.memory, "cpu_seconds": self.limits.cpu_seconds},
            "input": str(self.input) if self.input else None,
            "config": {
                "pid": self.pid,
                "m": manifest.m,
                "threshold": manifest.threshold,
                "entry": self.bundle.entry,
                "arguments": list(manifest.arguments),
                "names": list(self.names),
                "options": dict(manifest.options),
                "settings": dict(manifest.settings),
                "allow_threshold_change": manifest.free_threshold,
                # A reference must not be made better or worse than it is: one message of MPyC, one envelope.
                "coalesce": manifest.mode != "didcomm",
                "log_level": "warning",
                # A link may be silent for the resume limit, and its peer is no worse for it.
                "prelude_silence": manifest.resume_limit + PRELUDE_WITHIN,
                "delay_ms": _rehearsed_delay(),
            },
        }


def _rehearsed_delay() -> int:
    """Milliseconds that a rehearsal puts between its parties; see didmpc.agent.rehearsal.nursery."""
    named = os.environ.get(REHEARSAL)
    with contextlib.suppress(OSError, ValueError):
        return int((Path(named) / "delay").read_text()) if named else 0
    return 0
