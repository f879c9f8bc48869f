"""When two parties have signed different manifests: they show them to each other, and say what differs."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.sessions.post import Post
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.differences import differences
from didmpc.protocols.mpc.manifest import MAX_MANIFEST, Manifest

SHOWN_WITHIN = 4.0
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

    def __contains__(self, pid: int) -> bool:
        return pid in self._with

    async def found(self, pid: int, body: Mapping[str, Any]) -> bool:
        """Whether this signature is of another manifest than ours; if so, its party is shown ours."""
        if messages.hexadecimal(body, "manifest_sha256", 64) == self._seat.manifest.sha256:
            return False
        await self._show_ours(pid)
        return True

    async def _show_ours(self, pid: int) -> None:
        if pid not in self._with:
            self._with.add(pid)
            with contextlib.suppress(DidmpcError):
                await self._post.broadcast(messages.MANIFEST, shown(self._seat.manifest), to=[pid])

    async def take(self, pid: int, body: Mapping[str, Any]) -> None:
        """Party `pid` shows the manifest that it has, and perhaps why it refuses it.

        Raises `DidmpcError` that names what differs.
        """
        seat = self._seat
        name, fix = seat.names[pid], "Nothing was computed. Speak with them before you take part again."
        theirs = Manifest.decode(messages.octets(body, "manifest", MAX_MANIFEST))
        comment = messages.text(body, "comment", default="")
        if theirs.sha256 == seat.manifest.sha256:
            if comment:
                raise DidmpcError(f"{name} refuses what is to be signed.", why=comment, fix=fix)
            return
        await self._show_ours(pid)  # its own signature may never come
        found = differences(seat.manifest.value(), theirs.value(), "for you", f"for {name}")
        host = seat.manifest.host
        raise DidmpcError(
            f"{name} has signed another manifest than you."
            if host in (pid, seat.pid)
            else f"{seat.names[host]} told you and {name} different things.",
            why=f"Different: {'; '.join(found) or 'what neither of us knows'}.",
            fix=fix,
        )

    def unnamed(self) -> DidmpcError:
        """The other manifest was not shown."""
        names = " and ".join(self._seat.names[pid] for pid in sorted(self._with))
        return DidmpcError(
            f"{names} signed another manifest than you, and did not show it.",
            why="Somebody told the parties different things.",
            fix="Nothing was computed. Speak with them before you take part again.",
        )


def shown(manifest: Manifest, why: str = "") -> dict[str, Any]:
    """The body that shows a manifest to another party, with why we refuse it."""
    return {"manifest": b64url(manifest.encode()), "comment": messages.sentence(why)}


async def refuse(mailbox: Mailbox, identity: Identity, manifest: Manifest, why: str) -> None:
    """Show all its parties a manifest that we do not sign; whoever cannot be told is not waited for."""
    body = shown(manifest, why)
    me = manifest.pid_of(identity.did)

    async def tell(did: str) -> None:
        message = Message(
            type=messages.MANIFEST, pthid=manifest.attempt, from_=identity.did, to=(did,), body=body
        )
        with contextlib.suppress(DidmpcError):
            await mailbox.send(message, identity, did, timeout=SHOWN_WITHIN)

    others = [party.did for pid, party in enumerate(manifest.roster) if pid != me]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SHOWN_WITHIN):
            await asyncio.gather(*(tell(did) for did in others))
