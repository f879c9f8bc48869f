"""Incoming messages of one attempt, lines of its channel process, what its person says: in one queue."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.did import canonical
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.message import Message

# What may wait here, in bytes and messages: of the parties, and of senders that we cannot tell yet. Until the
# manifest is here the session DIDs of other guests are unknown, and their signatures may come before it.
KNOWN_BYTES, KNOWN_MESSAGES = 64 << 20, 10_000
UNKNOWN_BYTES, UNKNOWN_MESSAGES = 1 << 20, 256


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message from an authenticated sender."""

    sender: str
    message: Message
    known: bool
    size: int


@dataclass(frozen=True, slots=True)
class ChannelLine:
    """A line from the channel process; None when the process is gone."""

    line: Mapping[str, Any] | None


class Inbox:
    """What one attempt has yet to look at."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Arrived | ChannelLine] = asyncio.Queue()
        self._aside: list[Arrived] = []
        self._known: set[str] = set()
        self._waiting = {True: (0, 0), False: (0, 0)}  # by known: messages, bytes

    def know(self, *dids: str) -> None:
        """These DIDs speak for parties of this attempt."""
        self._known.update(canonical(did) for did in dids)

    def put(self, unpacked: Unpacked) -> None:
        """Queue a message; raises `RemoteViolation` when too much waits already."""
        if unpacked.sender is None:
            return
        known = canonical(unpacked.sender) in self._known
        size = len(unpacked.message.encode())
        count, total = self._waiting[known]
        limits = (KNOWN_MESSAGES, KNOWN_BYTES) if known else (UNKNOWN_MESSAGES, UNKNOWN_BYTES)
        if count + 1 > limits[0] or total + size > limits[1]:
            raise RemoteViolation("Too many messages wait in this attempt.", code="e.p.me.res")
        arrived = Arrived(unpacked.sender, unpacked.message, known, size)
        self._count(arrived, 1)
        self._queue.put_nowait(arrived)

    def set_aside(self, arrived: Arrived) -> None:
        """Keep a message that comes too early; it still counts as waiting."""
        self._count(arrived, 1)
        self._aside.append(arrived)

    def restore(self) -> None:
        """Queue again what was set aside, in the order in which it came."""
        for arrived in self._aside:
            self._queue.put_nowait(arrived)
        self._aside.clear()

    def _count(self, arrived: Arrived, by: int) -> None:
        count, total = self._waiting[arrived.known]
        self._waiting[arrived.known] = (count + by, total + by * arrived.size)

    def put_line(self, line: Mapping[str, Any] | None) -> None:
        """Queue a line of the channel process."""
        self._queue.put_nowait(ChannelLine(line))

    def put_said(self, content: Mapping[str, Any]) -> None:
        """Queue what the person says while people gather: a line `said`, which means nothing later."""
        self._queue.put_nowait(ChannelLine({"said": content}))

    async def next(self, timeout: float | None = None) -> Arrived | ChannelLine:
        """The next event; raises `TimeoutError` after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            event = await self._queue.get()
        if isinstance(event, Arrived):
            self._count(event, -1)
        return event
