"""Why a run ended, and how that is told: to our user, to the daemon, and to the peers.

Our user is told everything. Peers are told who, what, and of the why only what was chosen for them: the text
of an exception, an exit code or the name of a file may hold what nobody else should know.
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

WHAT_LIMIT = 300
WHY_LIMIT = 2000
TOLD_LIMIT = 500
"""Characters of the reason that peers get to read: a line or two."""
BODY_LIMIT = 1800
EVIDENCE_LIMIT = 2000
"""Bytes of JSON: one of each, and our signature, fit into an ABORT (docs/session-extension.md, "Frames")."""

_SENTENCES = {
    "killed": "{name}'s program was killed.",
    "raised": "{name}'s program raised an exception.",
    "out-of-memory": "{name}'s program ran out of memory.",
    "disk-full": "{name}'s program could not write a file: there is no room left.",
    "time-limit": "{name}'s program used more processor time than a program may.",
    "failed": "{name}'s program ended with an error.",
    "deadlock": "{name}'s agent suspects a deadlock.",
    "interrupted": "{name} interrupted the run.",
    "closed": "{name}'s didmpc run/join was closed or killed.",
    "unreachable": "{name} stopped answering.",
    "channel-died": "{name}'s channel process died.",
    "left": "{name}'s program ended while others still waited for its data.",
    "threshold": "{name}'s program asks for another threshold than was agreed.",
    "not-started": "{name}'s program could not be started.",
    "broken-program": "{name}'s program broke the rules of its own channel.",
    "excess": "{name}'s program used more than a program may.",
    "input-overflow": "{name}'s program does not read its input.",
    "agent": "{name}'s agent ended the run.",
    "agent-lost": "{name}'s agent is gone.",
    "stopped": "{name}'s agent stopped the run.",
    "internal": "{name}'s channel process failed.",
    "session-over": "The session with {name} is over.",
    "violation": "{name} sent what the session does not allow.",
    "overflow": "{name} has taken too little or sent too much.",
}


LEFT = "Either it ended early, or it does not  await mpc.shutdown()  at its end."


def of_os(error: OSError) -> str:
    """What the system says, for our own eyes: it may name a file."""
    return f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)


def readable(text: object, limit: int) -> str:
    """A peer's words, fit for a terminal: bounded, and without control or formatting characters."""
    if not isinstance(text, str):
        return ""
    kept = (c if c == " " or unicodedata.category(c)[0] not in "CZ" else " " for c in text[:limit])
    return "".join(kept).strip()


def about(kind: str, name: str, said: str = "") -> str:
    """The sentence for `kind` in our own words, with our own name for the party; else what the party said."""
    sentence = _SENTENCES.get(kind)
    if sentence is not None:
        return sentence.format(name=name)
    return f"{name} ended the run: {said}" if said else f"{name} ended the run."


@dataclass(frozen=True, slots=True)
class Cause:
    """Who ended the run (a peer's pid, or None for ourselves), and why.

    `witnessed` is the pid of the party that says so when that is not the party itself: an abort is valid only
    about its signer, so "X says that Y is gone" stays a hint (session.md, section 6).
    """

    kind: str
    what: str
    why: str = ""
    pid: int | None = None
    witnessed: int | None = None
    public: str = ""
    """What the peers are told of `why`."""
    evidence: Mapping[str, Any] | None = None
    """What party `pid` has signed about its end: whoever is shown it need not take our word for it."""

    @classmethod
    def ours(cls, kind: str, name: str, why: str = "", *, told: str = "") -> Self:
        """Something that happened on our side, under our own name. Peers are told `told`, never `why`."""
        return cls(kind, about(kind, name), why, public=told)

    @classmethod
    def of_peer(cls, kind: str, pid: int, name: str, why: str = "", *, told: str | None = None) -> Self:
        """Something we saw a peer do, or not do."""
        return cls(kind, about(kind, name), why, pid, public=why if told is None else told)

    @classmethod
    def told(cls, body: Mapping[str, Any], pid: int, names: Mapping[int, str]) -> Self:
        """What peer `pid` says ended the run; only the peer's own fate is taken at its word."""
        kind = readable(body.get("kind"), 40) or "unknown"
        said = readable(body.get("what"), WHAT_LIMIT)
        why = readable(body.get("why"), TOLD_LIMIT)
        third = body.get("about")
        if isinstance(third, int) and not isinstance(third, bool) and third in names and third != pid:
            what = f"{names[pid]} says: {about(kind, names[third], said)}"
            return cls(kind, what, why, third, witnessed=pid)
        return cls(kind, about(kind, names[pid], said), why, pid)

    @property
    def hint(self) -> bool:
        return self.witnessed is not None

    def body(self) -> dict[str, Any]:
        """What our ABORT tells the peers: `about` names a third party, by pid, never ourselves."""
        told: dict[str, Any] = {
            "kind": self.kind,
            "what": self.what[:WHAT_LIMIT],
            "why": self.public[:TOLD_LIMIT],
        }
        if self.pid is not None:
            told["about"] = self.pid
        while len(json.dumps(told)) > BODY_LIMIT:
            longest = max("what", "why", key=lambda name: len(told[name]))
            told[longest] = told[longest][: len(told[longest]) * 3 // 4]
        if self.evidence is not None and len(json.dumps(self.evidence)) <= EVIDENCE_LIMIT:
            told["signed"] = dict(self.evidence)
        return told

    def report(self, names: Mapping[int, str]) -> dict[str, Any]:
        """What the daemon and our user are told."""
        party = None if self.pid is None else names.get(self.pid)
        return {"pid": self.pid, "party": party, "kind": self.kind, "what": self.what, "why": self.why}
