"""What ran: one line of JSON per session in the home, the newest state of each."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from didmpc.local.private_files import write_private

logger = logging.getLogger(__name__)

KEPT = 500
FACTS = (
    *("title", "program", "sha256", "lines", "source", "arguments"),
    *("parties", "m", "threshold", "mode", "role", "said_by", "learns", "asks"),
    *("manifest_sha256", "seats", "you"),
)


class History:
    """Running and past sessions, kept in `sessions.json` (0600). Nothing in it is secret to this party."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            entries = json.loads(path.read_text())
            self._entries = {entry["attempt"]: entry for entry in entries}
        except (OSError, ValueError, TypeError, KeyError):
            # A history that cannot be read must not keep an agent from starting.
            self._entries = {}
        for entry in self._entries.values():
            if entry.get("state") == "running":
                entry["state"] = "unknown"
                entry["cause"] = "The agent stopped while this session ran."

    def begin(self, attempt: str, facts: Mapping[str, Any]) -> None:
        """A session starts to run; of what was proposed the `FACTS` are kept."""
        self._entries[attempt] = {
            "attempt": attempt,
            "state": "running",
            "started": int(time.time()),
            **{name: facts[name] for name in FACTS if name in facts},
        }
        self._write()

    def note(self, attempt: str, **facts: Any) -> None:
        """Something more is known of a session."""
        if attempt in self._entries:
            self._entries[attempt].update(facts)
            self._write()

    def find(self, attempt: str) -> dict[str, Any] | None:
        """What is kept of a session."""
        return self._entries.get(attempt)

    def end(self, attempt: str, *, ok: bool, cause: str | None, stats: Mapping[str, Any] | None) -> None:
        """A session ended."""
        entry = self._entries.get(attempt)
        if entry is None:
            return
        entry["state"] = "done" if ok else "failed"
        entry["ended"] = int(time.time())
        entry["cause"] = cause
        if stats:
            entry["stats"] = {
                name: stats[name] for name in ("seconds", "rounds", "messages", "bytes") if name in stats
            }
        self._write()

    def list(self) -> list[dict[str, Any]]:
        """All known sessions, newest first, without their seats."""
        return [
            {name: fact for name, fact in entry.items() if name != "seats"} for entry in self._newest_first()
        ]

    def programs(self) -> frozenset[str]:
        """The hashes of all programs that sessions ran."""
        return frozenset(str(entry.get("sha256")) for entry in self._entries.values())

    def _newest_first(self) -> Sequence[dict[str, Any]]:
        return sorted(self._entries.values(), key=lambda entry: -entry.get("started", 0))

    def _write(self) -> None:
        kept = self._newest_first()[:KEPT]
        self._entries = {entry["attempt"]: entry for entry in kept}
        try:
            write_private(self._path, json.dumps(kept).encode())
        except OSError as error:  # a full disk: what runs is more than what ran
            logger.warning("the history of sessions cannot be written: %s", error.strerror)
