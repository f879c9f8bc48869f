"""The token that opens the operator's page: kept in the home, for its owner only, until another is made."""

import contextlib
import hashlib
import hmac
import re
import secrets
from pathlib import Path

from didmpc.local.private_files import write_private
from didmpc.protocols.errors import LocalMisuse

FILE = "operator.token"
SIZE = 32
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{(SIZE * 4 + 2) // 3}}}")


class Token:
    """Of one home; made when there is none yet. Raises `LocalMisuse` where it cannot be kept."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        try:
            kept = ""
            with contextlib.suppress(FileNotFoundError):
                kept = self._path.read_text("ascii", errors="replace").strip()
            self._value = kept if _TOKEN.fullmatch(kept) else self._keep()
        except OSError as problem:
            raise _unusable(self._path, problem) from None

    def __repr__(self) -> str:
        return "Token()"

    def reveal(self) -> str:
        return self._value

    def renew(self) -> None:
        """From now on it is another. Raises `LocalMisuse`."""
        try:
            self._value = self._keep()
        except OSError as problem:
            raise _unusable(self._path, problem) from None

    def matches(self, given: str) -> bool:
        """In a time that does not depend on what is given."""
        return hmac.compare_digest(_digest(given), _digest(self._value))

    def _keep(self) -> str:
        value = secrets.token_urlsafe(SIZE)
        write_private(self._path, f"{value}\n".encode())
        return value


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _unusable(path: Path, problem: OSError) -> LocalMisuse:
    return LocalMisuse(
        f"The token of the operator's page cannot be kept in {path}.",
        why=f"{problem.strerror}.",
        fix="Make room, or let the mediator's user write there.",
    )
