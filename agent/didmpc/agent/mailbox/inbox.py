"""What arrived: opened, told apart from repetitions, handed on in order, acknowledged.

Messages of one sender are handled one after the other, those of different senders side by side, so a
slow answer to one peer holds up nobody else; of a stranger only so many wait at a time. A message is
acknowledged after its handler returned: until then the mediator keeps it, and a killed agent gets it again.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from didmpc.protocols.did import canonical
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.session import handshake

IN_FLIGHT = 1024  # held here and not acknowledged; what comes beyond stays with the mediator
LANE = 32  # of one sender who may not burst; what comes beyond is dropped
REMEMBERED = 16_384  # messages by sender and id, to drop repetitions
ACKNOWLEDGE_AFTER = 0.02  # seconds, or at once with so many:
ACKNOWLEDGE_AT = 64
CLOCK_TOLERANCE = 300.0  # seconds that our clock and a sender's may differ

log = logging.getLogger(__name__)

Open = Callable[[bytes], Unpacked]
Handle = Callable[[Unpacked], Awaitable[None]]
Acknowledge = Callable[[list[str]], Awaitable[None]]
MayBurst = Callable[[Unpacked], bool]
TakePacket = Callable[[bytes], bool]


class Inbox:
    """Takes envelopes under the id by which the mediator knows them (None: it keeps no copy)."""

    def __init__(
        self,
        open_: Open,
        handle: Handle,
        acknowledge: Acknowledge,
        may_burst: MayBurst,
        take_packet: TakePacket = lambda envelope: False,
    ) -> None:
        self._open = open_
        self._handle = handle
        self._acknowledge = acknowledge
        self._may_burst = may_burst
        self._take_packet = take_packet
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._in_flight: set[str] = set()
        self._lanes: dict[str, deque[tuple[str | None, Unpacked]]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._done: list[str] = []
        self._flusher: asyncio.Task[None] | None = None
        self._queued = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def take(self, name: str | None, envelope: bytes) -> None:
        """Accept one envelope. Never raises: what cannot be opened is logged and acknowledged."""
        if name is not None and name in self._in_flight:
            return  # delivered again before its handler returned
        if self._queued >= IN_FLIGHT:
            log.warning("too many messages at once: some stay with the mediator for now")
            return
        if self._take_packet(envelope):
            self._acknowledge_soon(name)
            return
        try:
            unpacked = self._open(envelope)
        except RemoteViolation as problem:
            log.warning("an envelope was dropped: %s", problem)
            self._acknowledge_soon(name)
            return
        sender = canonical(unpacked.sender) if unpacked.sender else ""
        key = (sender, unpacked.message.id)
        # A session's `open` that comes again is to be answered again (docs/session-extension.md, section 5).
        repeated = key in self._seen and unpacked.message.type != handshake.OPEN
        if repeated or _expired(unpacked):
            self._acknowledge_soon(name)
            return
        if len(self._lanes.get(sender, ())) >= LANE and not self._may_burst(unpacked):
            log.warning("too much at once from a stranger: a message was dropped")
            self._acknowledge_soon(name)
            return
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self._enqueue(sender, name, unpacked)

    async def idle(self, within: float) -> None:
        """Wait until everything taken was handled, or so long; send the acknowledgements due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._idle.wait()
        await self.flush()

    async def flush(self) -> None:
        """Send the acknowledgements that are due. What cannot be sent is kept for the next time."""
        while self._done:
            names, self._done = self._done, []
            try:
                await self._acknowledge(names)
            except BaseException:
                self._done = names + self._done
                raise

    async def close(self) -> None:
        """Stop at once; what was not handled is delivered again after the next start."""
        tasks = [*self._workers, *([self._flusher] if self._flusher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _enqueue(self, sender: str, name: str | None, unpacked: Unpacked) -> None:
        if name is not None:
            self._in_flight.add(name)
        self._queued += 1
        self._idle.clear()
        lane = self._lanes.get(sender)
        if lane is not None:
            lane.append((name, unpacked))
            return
        self._lanes[sender] = deque([(name, unpacked)])
        worker = asyncio.create_task(self._work(sender))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _work(self, sender: str) -> None:
        """Handle the messages of one sender until there are none left."""
        lane = self._lanes[sender]
        try:
            while lane:
                name, unpacked = lane.popleft()
                try:
                    await self._handle(unpacked)
                except Exception:
                    log.exception("handling a message of the type %.120s failed", unpacked.message.type)
                self._queued -= 1
                if name is not None:
                    self._in_flight.discard(name)
                self._acknowledge_soon(name)
        finally:
            del self._lanes[sender]
            if not self._lanes:
                self._idle.set()

    def _acknowledge_soon(self, name: str | None) -> None:
        if name is None:
            return
        self._done.append(name)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        if len(self._done) < ACKNOWLEDGE_AT:
            await asyncio.sleep(ACKNOWLEDGE_AFTER)
        try:
            await self.flush()
        except (ConnectionError, TimeoutError):
            return  # not connected: they go out first thing on the next connection


def _expired(unpacked: Unpacked) -> bool:
    expires = unpacked.message.expires_time
    return expires is not None and expires + CLOCK_TOLERANCE < time.time()
