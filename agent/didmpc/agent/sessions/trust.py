"""Programs that the person of this agent trusts, by content hash: `trusted.json` in the home, 0600.

Trust means: take part without being asked. It is bound to the program's hash and, where the person said so,
to who proposes it and to the arguments; it never covers a run without secrecy or without a sandbox.
"""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from didmpc.local.private_files import write_private
from didmpc.protocols.did import canonical
from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.mpc.messages import MAX_NAME, MAX_SENTENCE, arguments, hexadecimal, number, text

MOST = 1_000
SHORTEST = 8
"""Digits of a hash by which one is named."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """One program. `contact` is the DID of the only one who may propose it; `arguments` None: any."""

    sha256: str
    entry: str
    title: str
    since: int
    contact: str | None = None
    contact_name: str | None = None
    arguments: tuple[str, ...] | None = None

    def covers(self, sha256: str, proposer: str, given: Sequence[str]) -> bool:
        """Whether a proposal of this program by that DID with these arguments is trusted."""
        return (
            self.sha256 == sha256
            and self.contact in (None, canonical(proposer))
            and self.arguments in (None, tuple(given))
        )

    def public(self) -> dict[str, Any]:
        """For a person and for the file."""
        return asdict(self) | {"arguments": None if self.arguments is None else list(self.arguments)}


class Trust:
    """All of them. Every change is durable when its method returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[Trusted] = []
        try:
            self._entries = [_read(entry) for entry in json.loads(path.read_text())]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, MessageError) as problem:
            # Who cannot read what is trusted trusts nothing; nothing is overwritten before the next change.
            self.problem = f"{path} cannot be read ({type(problem).__name__}); no program is trusted."

    problem = ""

    def list(self) -> list[dict[str, Any]]:
        """The newest first."""
        return [entry.public() for entry in reversed(self._entries)]

    def covers(self, sha256: str, proposer: str, given: Sequence[str]) -> bool:
        """Whether a proposal is trusted."""
        return any(entry.covers(sha256, proposer, given) for entry in self._entries)

    def add(
        self,
        sha256: str,
        *,
        entry: str = "",
        title: str = "",
        contact: tuple[str, str] | None = None,
        given: Sequence[str] | None = None,
    ) -> Trusted:
        """Trust a program; `contact` is a DID and the name of who may propose it. Raises `LocalMisuse`."""
        if re.fullmatch("[0-9a-f]{64}", sha256) is None:
            raise LocalMisuse(
                "This is not the hash of a program.",
                why="It has 64 hexadecimal digits.",
                fix="See it:  didmpc session show",
            )
        new = Trusted(
            sha256,
            entry[:MAX_NAME],
            title[:MAX_SENTENCE],
            int(time.time()),
            canonical(contact[0]) if contact else None,
            contact[1] if contact else None,
            None if given is None else tuple(given),
        )
        same = (new.sha256, new.contact, new.arguments)
        kept = [each for each in self._entries if (each.sha256, each.contact, each.arguments) != same]
        if len(kept) >= MOST:
            raise LocalMisuse(
                f"{MOST} programs are trusted already.", fix="Forget some:  didmpc session forget HASH"
            )
        self._write([*kept, new])
        return new

    def forget(self, beginning: str) -> Sequence[Trusted]:
        """Trust the program whose hash begins so no longer; returns what is gone. Raises `LocalMisuse`."""
        found = {entry.sha256 for entry in self._entries if entry.sha256.startswith(beginning)}
        if len(beginning) < SHORTEST or len(found) != 1:
            raise LocalMisuse(
                f"{len(found)} trusted programs have a hash that begins with {beginning[:64]!r}."
                if len(beginning) >= SHORTEST
                else f"Name at least {SHORTEST} digits of the hash.",
                fix="See them:  didmpc session trusted",
            )
        gone = [entry for entry in self._entries if entry.sha256 in found]
        self._write([entry for entry in self._entries if entry.sha256 not in found])
        return gone

    def _write(self, entries: Sequence[Trusted]) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(self._path, json.dumps([entry.public() for entry in entries]).encode())
        self._entries = list(entries)


def _read(value: Any) -> Trusted:
    if not isinstance(value, dict):
        raise TypeError("an entry is an object")
    contact = value.get("contact")
    return Trusted(
        hexadecimal(value, "sha256", 64),
        text(value, "entry", 255),
        text(value, "title"),
        number(value, "since", 0, 1 << 40),
        None if contact is None else canonical(str(contact)),
        None if contact is None else text(value, "contact_name", MAX_NAME),
        None if value.get("arguments") is None else arguments(value),
    )
