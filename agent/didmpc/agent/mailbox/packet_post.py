"""Packets of sessions in the JSON form on their way out: envelopes through the mediators, like any message.

What does not get through is lost: the link above sends it again (docs/session-extension.md, section 11).
"""

import asyncio
import logging
import time

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.protocols.errors import DidmpcError

UNDER_WAY = 16  # packets to one party at a time; a link puts them in order again
POST_WITHIN = 10.0
KEPT_SECONDS = 15 * 60  # later the session is over anyway

log = logging.getLogger(__name__)


class PacketPost:
    """To one DID."""

    def __init__(self, mailbox: Mailbox, did: str) -> None:
        self._mailbox = mailbox
        self._did = did
        self._under_way = asyncio.Semaphore(UNDER_WAY)
        self._posting: set[asyncio.Task[None]] = set()

    async def send(self, packet: bytes) -> None:
        """Post one packet; returns when it is there, or lost."""
        async with self._under_way:
            await self._post(packet)

    async def hand_over(self, packet: bytes) -> None:
        """Post one packet aside; returns as soon as there is a place for it among those under way."""
        await self._under_way.acquire()
        task = asyncio.create_task(self._post(packet))
        self._posting.add(task)
        task.add_done_callback(self._posted)

    def _posted(self, task: "asyncio.Task[None]") -> None:
        self._posting.discard(task)
        self._under_way.release()

    async def settle(self) -> None:
        """Wait for what was handed over."""
        if self._posting:
            await asyncio.wait(self._posting)

    async def _post(self, packet: bytes) -> None:
        expires = int(time.time()) + KEPT_SECONDS
        try:
            await self._mailbox.send_packet(packet, self._did, expires=expires, timeout=POST_WITHIN)
        except DidmpcError as error:
            log.info("a packet of a session got lost: %s", error)
