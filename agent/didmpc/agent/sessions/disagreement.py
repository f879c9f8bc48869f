"""When two parties have signed different manifests: they show them to each other, and say what differs."""

from collections.abc import Mapping
from typing import Any

from didmpc.agent.sessions.post import Post
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.encoding import b64url
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.differences import differences
from didmpc.protocols.mpc.manifest import MAX_MANIFEST, Manifest

NAMED_WITHIN = 10.0
"""Seconds to see the other manifest, before the run ends without knowing what differs."""


class Disagreement:
    """Of this party with others. It ends the attempt in any case."""

    def __init__(self, seat: Seat, post: Post) -> None:
        self._seat = seat
        self._post = post
        self._with: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._with)

    async def found(self, pid: int, body: Mapping[str, Any]) -> bool:
        """Whether this signature is of another manifest than ours; if so, its party is shown ours."""
        if messages.hexadecimal(body, "manifest_sha256", 64) == self._seat.manifest.sha256:
            return False
        if pid not in self._with:
            self._with.add(pid)
            shown = {"manifest": b64url(self._seat.manifest.encode())}
            await self._post.broadcast(messages.MANIFEST, shown, to=[pid])
        return True

    async def take(self, pid: int, body: Mapping[str, Any]) -> None:
        """Party `pid` shows the manifest that it signed. Raises `DidmpcError` that names what differs."""
        seat = self._seat
        theirs = Manifest.decode(messages.octets(body, "manifest", MAX_MANIFEST))
        if theirs.sha256 == seat.manifest.sha256:
            return
        if pid not in self._with:  # our signature reached it before its own reached us
            self._with.add(pid)
            shown = {"manifest": b64url(seat.manifest.encode())}
            await self._post.broadcast(messages.MANIFEST, shown, to=[pid])
        name = seat.names[pid]
        found = differences(seat.manifest.value(), theirs.value(), "for you", f"for {name}")
        host = seat.manifest.host
        teller = "You" if host == seat.pid else seat.names[host]
        raise DidmpcError(
            f"{name} has signed another manifest than you."
            if host in (pid, seat.pid)
            else f"{teller} told you and {name} different things.",
            why=f"Different: {'; '.join(found) or 'the times'}.",
            fix="Nothing was computed. Speak with them before you take part again.",
        )

    def unnamed(self) -> DidmpcError:
        """The other manifest was not shown."""
        names = " and ".join(self._seat.names[pid] for pid in sorted(self._with))
        return DidmpcError(
            f"{names} signed another manifest than you, and did not show it.",
            why="Somebody told the parties different things.",
            fix="Nothing was computed. Speak with them before you take part again.",
        )
