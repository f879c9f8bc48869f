"""What was answered to which `open`: a message that comes twice gets the same answer, byte for byte.

Mailboxes deliver at least once. Answering a copy afresh would make a second session whose keys the
initiator never learns (docs/session-extension.md, "Handshake").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.did import canonical
from didmpc.protocols.errors import SessionError

CLOCK_SKEW = 300.0


@dataclass(frozen=True, slots=True)
class _Reply:
    hello: bytes
    until: float
    body: dict[str, Any]


class OpenMemory:
    """Remembers answers until their `open` expires. An answer holds k_r: keep it in memory only."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._replies: dict[tuple[str, str], _Reply] = {}

    def find(
        self, sender: str, open_id: str, open_body: Mapping[str, Any], now: float
    ) -> dict[str, Any] | None:
        """The body to send again, or None for an `open` that is new.

        SessionError when the sender has used the id for something else.
        """
        reply = self._replies.get((canonical(sender), open_id))
        if reply is None or reply.until < now:
            return None
        if reply.hello != _digest(open_body):
            raise SessionError("A peer used the id of a session request twice.")
        return reply.body

    def remember(
        self,
        sender: str,
        open_id: str,
        open_body: Mapping[str, Any],
        accept_body: dict[str, Any],
        *,
        expires: float,
        now: float,
    ) -> None:
        """Keep an answer until `expires` plus skew; SessionError ("busy") when too many are held."""
        for key in [key for key, reply in self._replies.items() if reply.until < now]:
            del self._replies[key]
        if len(self._replies) >= self._limit:
            raise SessionError("Too many sessions are being asked for.", code="e.p.session.busy")
        reply = _Reply(_digest(open_body), expires + CLOCK_SKEW, accept_body)
        self._replies[(canonical(sender), open_id)] = reply


def _digest(open_body: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(str(open_body.get("hs")).encode("utf-8", "surrogatepass")).digest()
