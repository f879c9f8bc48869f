"""What a host proposes to its guests: enough to decide on, before a byte of the program runs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

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
    versions,
)
from didmpc.protocols.mpc.statement import Statement
from didmpc.protocols.mpc.terms import (
    DEADLOCK_GRACE,
    DEADLOCK_GRACES,
    MODES,
    OPTIONS,
    RESUME_LIMIT,
    RESUME_LIMITS,
    SETTINGS,
    WIRES,
)

MAX_FILES = 2_000
MAX_IMPORTS = 256
MAX_REPOSITORY = 500
FROM_FILE: Mapping[str, str] = {"kind": "file"}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a host proposes: enough to decide on, before a byte of the program runs.

    With `free_threshold` the program may set another threshold than the agreed one. Beside the `parties`,
    who are named, so many `places` are for whoever comes by the link of the invitation `lobby`; it may begin
    with `least` parties (0: with all). `roles` are the wishes (seating.py) that the host has for parties, by
    name; `versions` are its own. `source` says where it has the program from, and `you` what
    it calls whom it writes to.
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
    deadlock_grace: int = DEADLOCK_GRACE
    places: int = 0
    least: int = 0
    lobby: str = ""
    source: Mapping[str, str] = field(default_factory=lambda: dict(FROM_FILE))
    statement: Statement = field(default_factory=Statement)
    options: Mapping[str, int | bool] = field(default_factory=lambda: dict(OPTIONS))
    settings: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    you: str = ""

    @property
    def m(self) -> int:
        """How many parties there are to be."""
        return len(self.parties) + self.places

    def admits(self, roster: Sequence[str]) -> bool:
        """Whether these parties, the host first, were proposed: those named, and so many by the link."""
        least = self.least or self.m
        named = [name for name in roster if name in self.parties]
        return (
            least <= len(roster) <= self.m
            and len(set(roster)) == len(roster)
            and roster[:1] == self.parties[:1]
            and len(roster) - len(named) <= self.places
        )

    def body(self) -> dict[str, Any]:
        """The body of `propose`."""
        return {
            "attempt": self.attempt,
            "parties": list(self.parties),
            "threshold": self.threshold,
            "places": self.places,
            "least": self.least,
            "lobby": self.lobby,
            **terms_body(self),
            "roles": dict(self.roles),
            "versions": dict(self.versions),
            "you": self.you,
            "expires": self.expires,
        }

    @classmethod
    def of(cls, message: Message) -> "Proposal":
        """Read a `propose`; raises `MessageError`."""
        body = message.body
        parties = names(body, "parties")
        places = number(body, "places", 0, MAX_PARTIES - len(parties))
        m = len(parties) + places
        if not parties or m < 2:
            raise MessageError("A proposal names at least two parties.")
        least = number(body, "least", 0, m)
        proposal = cls(
            attempt=hexadecimal(body, "attempt", ATTEMPT_DIGITS),
            parties=parties,
            threshold=number(body, "threshold", 0, max(0, (least or m) - 1) // 2),
            expires=number(body, "expires", 0, 1 << 40),
            places=places,
            least=least,
            lobby=text(body, "lobby", MAX_NAME),
            roles=_roles(body, parties),
            versions=versions(body),
            you=text(body, "you", MAX_NAME),
            **read_terms(body),
        )
        proposal.statement.check_size(m)
        proposal.statement.seats(m, proposal.threshold)
        return proposal


# -- what proposal and manifest have in common -----------------------------------------------------


def terms_body(of: Any) -> dict[str, Any]:
    """The terms of a proposal or manifest, as they stand in either; all of these must be equal in both."""
    return {
        "program": dict(of.program),
        "arguments": list(of.arguments),
        "free_threshold": of.free_threshold,
        "mode": of.mode,
        "wire": of.wire,
        "resume_limit": of.resume_limit,
        "deadlock_grace": of.deadlock_grace,
        "source": dict(of.source),
        "statement": of.statement.body(),
        "options": dict(of.options),
        "settings": dict(of.settings),
    }


def read_terms(body: Mapping[str, Any]) -> dict[str, Any]:
    """What `terms_body` writes, checked; raises `MessageError`."""
    program = body.get("program")
    if not isinstance(program, dict):
        raise MessageError("A proposal describes its program.")
    mode, wire = text(body, "mode", 16), text(body, "wire", 16)
    if mode not in MODES or wire not in WIRES:
        raise MessageError(f"“{mode}, {wire}” is not a mode and wire form of an MPC session.")
    return {
        "program": check_program(program),
        "arguments": arguments(body),
        "free_threshold": flag(body, "free_threshold"),
        "mode": mode,
        "wire": wire,
        "resume_limit": number(body, "resume_limit", *RESUME_LIMITS),
        "deadlock_grace": number(body, "deadlock_grace", *DEADLOCK_GRACES),
        "source": check_source(body.get("source")),
        "statement": Statement.of(body.get("statement")),
        "options": _options(body.get("options")),
        "settings": _settings(body.get("settings")),
    }


def _options(value: Any) -> dict[str, int | bool]:
    if (
        not isinstance(value, dict)
        or set(value) != set(OPTIONS)
        or any(type(value[name]) is not type(usual) for name, usual in OPTIONS.items())
        or not all(0 <= setting < 1 << 16 for setting in value.values())
        or value["mix32_64bit"] is not True
    ):
        raise MessageError("MPyC's options are not the ones that we know.")
    return value


def _settings(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or any(value[name] != "1" or name not in SETTINGS for name in value):
        raise MessageError(f"MPyC's settings may be {' and '.join(SETTINGS)}, each 1.")
    return value


def _roles(body: Mapping[str, Any], parties: Sequence[str]) -> dict[str, str]:
    value = body.get("roles")
    if not isinstance(value, dict) or any(name not in parties for name in value):
        raise MessageError("Roles are assigned to parties that are named.")
    return {name: text(value, name, MAX_NAME) for name in value}


def check_source(source: Any) -> dict[str, str]:
    """Where a program is from: {"kind": "file"}, {"kind": "demo", "name"} or {"kind": "git", "repository",
    "commit", "path"}; raises `MessageError`.
    """
    if not isinstance(source, dict):
        raise MessageError("A proposal says where its program is from.")
    kind = text(source, "kind", 16)
    if kind == "demo":
        return {"kind": kind, "name": text(source, "name", MAX_NAME)}
    if kind == "git":
        repository, commit = text(source, "repository", MAX_REPOSITORY), text(source, "commit", 64)
        if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit, re.ASCII):
            raise MessageError("A commit is named by its full hash.")
        check_repository(repository)
        return {
            "kind": kind,
            "repository": repository,
            "commit": commit,
            "path": text(source, "path", 255),
        }
    if kind != "file":
        raise MessageError("A program is from a file, a git repository or the demos.")
    return dict(FROM_FILE)


def check_repository(url: str) -> str:
    """Check a repository's address: https, ssh or file, no password in it; returns its scheme."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise MessageError("This is no address of a repository.") from None
    if parts.scheme not in ("https", "ssh", "file") or " " in url or not url.isascii():
        raise MessageError("A repository is named by https://, ssh:// or file://.")
    if parts.password is not None or (parts.scheme == "https" and parts.username):
        raise MessageError("The address of a repository must hold no password or token: all parties see it.")
    if parts.query or parts.fragment or host.startswith("-") or (parts.username or "").startswith("-"):
        raise MessageError("This is no address of a repository.")
    if (parts.scheme == "file") != (not host) or not parts.path.startswith("/"):
        raise MessageError("This is no address of a repository.")
    return parts.scheme


def check_program(program: Mapping[str, Any]) -> dict[str, Any]:
    """Check the shape of a bundle's description: `sha256`, `entry`, `title`, `lines`, `imports`, `files`."""
    sha256 = hexadecimal(program, "sha256", 64)
    files, imports = program.get("files"), program.get("imports")
    if not isinstance(files, list) or not 0 < len(files) <= MAX_FILES:
        raise MessageError(f"A program is described by its hash and at most {MAX_FILES} files.")
    if not isinstance(imports, list) or len(imports) > MAX_IMPORTS:
        raise MessageError(f"A program imports at most {MAX_IMPORTS} modules.")
    checked = []
    for entry in files:
        if not isinstance(entry, dict):
            raise MessageError("A file of a program is described by path, sha256, size and lines.")
        checked.append(
            {
                "path": text(entry, "path", 255),
                "sha256": hexadecimal(entry, "sha256", 64),
                "size": number(entry, "size", 0, 1 << 30),
                "lines": number(entry, "lines", 0, 1 << 30),
            }
        )
    return {
        "sha256": sha256,
        "entry": text(program, "entry", 255),
        "title": text(program, "title", MAX_SENTENCE, default=""),
        "lines": number(program, "lines", 0, 1 << 30),
        "imports": [text({"imports": each}, "imports", MAX_NAME) for each in imports],
        "files": checked,
    }
