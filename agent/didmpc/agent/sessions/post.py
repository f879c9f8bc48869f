"""Mail between the session DIDs of one attempt."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.sessions.causes import abort_body
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages

PATIENCE = 60.0
GOODBYE_WITHIN = 4.0


class Post:
    """Sends as one party of an attempt to the others."""

    def __init__(self, seat: Seat, mailbox: Mailbox) -> None:
        self._seat = seat
        self._mailbox = mailbox

    async def send(self, pid: int, message: Message, *, patience: float = PATIENCE) -> None:
        """Send to party `pid`; raises `DidmpcError` when its mediator does not take it in time."""
        peer, identity = self._seat.manifest.roster[pid].did, self._seat.identity
        addressed = replace(message, pthid=self._seat.manifest.attempt, from_=identity.did, to=(peer,))
        await self._mailbox.send(addressed, identity, peer, timeout=patience)

    async def broadcast(
        self,
        kind: str,
        body: Mapping[str, Any],
        *,
        to: Sequence[int] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Send to these parties, or to all others: to each of them, before the first failure is raised."""
        message = Message(type=kind, body=dict(body))
        to = self._seat.peers if to is None else to
        results = await asyncio.gather(
            *(self.send(pid, message, patience=patience) for pid in to), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def goodbye(self, cause: Mapping[str, Any], *, to: Sequence[int] | None = None) -> None:
        """Tell why we end. Nobody waits for whoever cannot be told."""
        with contextlib.suppress(TimeoutError, DidmpcError):
            async with asyncio.timeout(GOODBYE_WITHIN):
                body = abort_body(self._seat, cause)
                await self.broadcast(messages.ABORT, body, to=to, patience=GOODBYE_WITHIN)
