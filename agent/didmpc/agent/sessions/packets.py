"""The mailbox as a path: packets of sessions in the JSON form, as envelopes through the mediators.

Each packet is wrapped in a forward for each mediator on the way, like any message. What does not get through
is lost: the link above sends it again (docs/session-extension.md, section 11).
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from didmpc.agent.mailbox import Mailbox
from didmpc.agent.sessions.channel_process import ChannelProcess
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.encoding import b64url, unb64url
from didmpc.protocols.errors import DidmpcError

UNDER_WAY = 16  # packets to one party at a time; a link puts them in order again
POST_WITHIN = 10.0
KEPT_SECONDS = 15 * 60  # later the session is over anyway

logger = logging.getLogger(__name__)


class Packets:
    """Carries packets between the channel process and the mailbox."""

    def __init__(self, seat: Seat, mailbox: Mailbox, channel: ChannelProcess) -> None:
        self._seat = seat
        self._mailbox = mailbox
        self._channel = channel
        self._under_way = {pid: asyncio.Semaphore(UNDER_WAY) for pid in seat.peers}
        self._sids: set[bytes] = set()

    def expect(self, pid: int, sid: bytes) -> None:
        """From now on packets for this session of ours go to the channel process, as from party `pid`."""
        self._sids.add(sid)
        self._mailbox.expect_packets(sid, lambda packet: self._take(pid, packet))

    def forget(self) -> None:
        """No packets are expected any more."""
        for sid in self._sids:
            self._mailbox.forget_packets(sid)
        self._sids.clear()

    async def send(self, line: Mapping[str, Any]) -> None:
        """One packet is to go out."""
        pid = int(line["pid"])
        async with self._under_way[pid]:
            try:
                await self._mailbox.send_packet(
                    unb64url(line["data"]),
                    self._seat.manifest.roster[pid].did,
                    expires=int(time.time()) + KEPT_SECONDS,
                    timeout=POST_WITHIN,
                )
            except DidmpcError as error:
                logger.info("a packet for party %d got lost: %s", pid, error)

    def _take(self, pid: int, packet: bytes) -> None:
        if self._channel.keeps_up:
            self._channel.tell({"packet": {"pid": pid, "data": b64url(packet)}})
