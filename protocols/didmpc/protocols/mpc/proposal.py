"""What a host proposes to its guests: enough to decide on, before a byte of the program runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Message
from didmpc.protocols.mpc.messages import (
    ATTEMPT_DIGITS,
    MAX_NAME,
    MAX_PARTIES,
    MAX_SENTENCE,
    arguments,
    flag,
    hexadecimal,
    names,
    number,
    text,
)
from didmpc.protocols.mpc.terms import MODES, RESUME_LIMIT, RESUME_LIMITS, WIRES


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a host proposes: enough to decide on, before a byte of the program runs.

    With `free_threshold` the program may set another threshold than the agreed one. Beside the `parties`,
    who are named, so many `places` are for whoever comes by the link of the invitation `lobby`; it may begin
    with `least` parties (0: with all).
    """

    attempt: str
    program: Mapping[str, Any]
    arguments: tuple[str, ...]
    parties: tuple[str, ...]
    threshold: int
    free_threshold: bool
    mode: str
    expires: int
    wire: str = "binary"
    resume_limit: int = RESUME_LIMIT
    places: int = 0
    least: int = 0
    lobby: str = ""

    @property
    def m(self) -> int:
        """How many parties there are to be."""
        return len(self.parties) + self.places

    def admits(self, roster: Sequence[str]) -> bool:
        """Whether a roster of these names is one that was proposed: host, those named, then those by link."""
        least = self.least or self.m
        named = [name for name in roster if name in self.parties]
        in_order = [name for name in self.parties if name in named]
        by_link = len(roster) - len(named)
        return (
            least <= len(roster) <= self.m
            and len(set(roster)) == len(roster)
            and list(roster[: len(named)]) == in_order
            and named[:1] == [self.parties[0]]
            and by_link <= self.places
        )

    def body(self) -> dict[str, Any]:
        """The body of `propose`."""
        return {
            "attempt": self.attempt,
            "program": dict(self.program),
            "arguments": list(self.arguments),
            "parties": list(self.parties),
            "threshold": self.threshold,
            "free_threshold": self.free_threshold,
            "mode": self.mode,
            "wire": self.wire,
            "resume_limit": self.resume_limit,
            "places": self.places,
            "least": self.least,
            "lobby": self.lobby,
            "expires": self.expires,
        }

    @classmethod
    def of(cls, message: Message) -> "Proposal":
        """Read a `propose`; raises `MessageError`."""
        body = message.body
        parties = names(body, "parties")
        program = body.get("program")
        places = number(body, "places", 0, MAX_PARTIES - len(parties))
        m = len(parties) + places
        if not parties or m < 2 or not isinstance(program, dict):
            raise MessageError("A proposal names its program and at least two parties.")
        mode, wire = text(body, "mode", 16), text(body, "wire", 16)
        if mode not in MODES or wire not in WIRES:
            raise MessageError(f"“{mode}, {wire}” is not a mode and wire form of an MPC session.")
        least = number(body, "least", 0, m)
        return cls(
            attempt=hexadecimal(body, "attempt", ATTEMPT_DIGITS),
            program=check_program(program),
            arguments=arguments(body),
            parties=parties,
            threshold=number(body, "threshold", 0, max(0, (least or m) - 1) // 2),
            free_threshold=flag(body, "free_threshold"),
            mode=mode,
            expires=number(body, "expires", 0, 1 << 40),
            wire=wire,
            resume_limit=number(body, "resume_limit", *RESUME_LIMITS),
            places=places,
            least=least,
            lobby=text(body, "lobby", MAX_NAME),
        )


def check_program(program: Mapping[str, Any]) -> dict[str, Any]:
    """Check the shape of a bundle's description: `sha256`, `entry`, `title`, `lines`, `files`."""
    sha256 = hexadecimal(program, "sha256", 64)
    files = program.get("files")
    if not isinstance(files, list) or not 0 < len(files) <= 2000:
        raise MessageError("A program is described by its hash and at most 2000 files.")
    checked = []
    for entry in files:
        if not isinstance(entry, dict):
            raise MessageError("A file of a program is described by path, sha256 and size.")
        checked.append(
            {
                "path": text(entry, "path", 255),
                "sha256": hexadecimal(entry, "sha256", 64),
                "size": number(entry, "size", 0, 1 << 30),
            }
        )
    return {
        "sha256": sha256,
        "entry": text(program, "entry", 255),
        "title": text(program, "title", MAX_SENTENCE, default=""),
        "lines": number(program, "lines", 0, 1 << 30),
        "files": checked,
    }
