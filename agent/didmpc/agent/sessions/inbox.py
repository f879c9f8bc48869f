"""Incoming messages of one attempt, and the events of its channel process, in one queue."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.message import Message

# Far more than an honest attempt has waiting at any time; a party that floods is refused.
MAX_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message from an authenticated sender."""

    sender: str
    message: Message


@dataclass(frozen=True, slots=True)
class ChannelLine:
    """A line from the channel process; None when the process is gone."""

    line: Mapping[str, Any] | None


class Inbox:
    """What one attempt has yet to look at."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Arrived | ChannelLine] = asyncio.Queue()

    def put(self, unpacked: Unpacked) -> None:
        """Queue a message; raises `RemoteViolation` when the sender floods."""
        if self._queue.qsize() >= MAX_WAITING:
            raise RemoteViolation("Too many messages wait in this attempt.", code="e.p.me.res")
        if unpacked.sender is not None:
            self._queue.put_nowait(Arrived(unpacked.sender, unpacked.message))

    def put_line(self, line: Mapping[str, Any] | None) -> None:
        """Queue a line of the channel process."""
        self._queue.put_nowait(ChannelLine(line))

    async def next(self, timeout: float | None = None) -> Arrived | ChannelLine:
        """The next event; raises `TimeoutError` after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            return await self._queue.get()
