"""What parties have signed about their own end: who may be believed about whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.errors import MessageError
from didmpc.protocols.mpc import abort

_FIELDS = (*abort.SIGNED, "signature")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Checks signatures of aborts in one attempt. Without DIDs, nothing is signed."""

    manifest_sha256: str
    dids: Mapping[int, str]

    def of(self, pid: int, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The signed part of what party `pid` says, to show to others; None where it is not signed.

        Raises MessageError where a signature does not hold.
        """
        if "signature" not in body or pid not in self.dids:
            return None
        abort.check(self.dids[pid], self.manifest_sha256, pid, body, body["signature"])
        return {"pid": pid, **{name: body[name] for name in _FIELDS if name in body}}

    def passed_on(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What another party has signed, in what a peer says; None where there is nothing that holds."""
        shown = body.get("signed")
        pid = shown.get("pid") if isinstance(shown, dict) else None
        if not isinstance(shown, dict) or not isinstance(pid, int) or isinstance(pid, bool):
            return None
        try:
            return self.of(pid, shown)
        except MessageError:
            return None
