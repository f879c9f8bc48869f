"""The end of a run that went well: its parties exchange what they claim and sign, and each keeps a receipt.

All messages are between the session DIDs of the roster, which live until this is over. Nobody hangs on
anybody: the file is there at once and grows, and a party that never signs is listed in it.
"""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from didmpc.agent.sessions.history import History
from didmpc.agent.sessions.inbox import Arrived, Inbox
from didmpc.agent.sessions.post import Post
from didmpc.agent.sessions.seat import Seat
from didmpc.local.private_files import write_private
from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.errors import DidmpcError, RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.mpc.agreement import Agreed
from didmpc.protocols.mpc.receipt import OUTPUT, RECEIPT, Exchange, Opening, Receipt

logger = logging.getLogger(__name__)

FIRST_WORD = 2.0
"""Seconds until the list is signed as far as it is here; it is signed again when more comes."""
PATIENCE = 120.0
"""Seconds for the others to end their runs and sign: some programs work on after the last message."""
EARLY = 4  # messages of each party that may come before we know what all agreed to


class ReceiptBook:
    """The receipts of this agent: files in its home, and who waits for one."""

    def __init__(self, folder: Path, history: History) -> None:
        self._folder = folder
        self._history = history
        self._news: dict[str, asyncio.Condition] = {}
        self._open: set[str] = set()

    def begin(self, attempt: str) -> None:
        """A run begins, so a receipt may come of it."""
        self._open.add(attempt)
        self._news[attempt] = asyncio.Condition()

    async def keep(self, attempt: str, title: str, receipt: Receipt, facts: Mapping[str, Any]) -> None:
        """Write the receipt as it is now."""
        known = (self._history.find(attempt) or {}).get("receipt") or {}
        path = known.get("path") or str(self._folder / _file_name(title, attempt))
        await asyncio.to_thread(_write, Path(path), receipt.encode())
        await self._tell(attempt, {**facts, "path": path})

    async def finish(self, attempt: str) -> None:
        """Nothing more comes."""
        self._open.discard(attempt)
        await self._tell(attempt, None)
        self._news.pop(attempt, None)

    async def wait(self, attempt: str, timeout: float) -> dict[str, Any] | None:
        """What is known of the receipt once it is complete or nothing more comes, or after `timeout`."""
        news = self._news.get(attempt)
        if news is not None:
            try:
                async with asyncio.timeout(timeout), news:
                    await news.wait_for(lambda: attempt not in self._open or self._complete(attempt))
            except TimeoutError:
                pass
        found = (self._history.find(attempt) or {}).get("receipt")
        return dict(found) if isinstance(found, dict) else None

    def _complete(self, attempt: str) -> bool:
        return ((self._history.find(attempt) or {}).get("receipt") or {}).get("complete") is True

    async def _tell(self, attempt: str, facts: Mapping[str, Any] | None) -> None:
        if facts is not None:
            self._history.note(attempt, receipt=dict(facts))
        news = self._news.get(attempt)
        if news is not None:
            async with news:
                news.notify_all()


def _file_name(title: str, attempt: str) -> str:
    """Of what a peer chose only harmless characters."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(title).stem)[:40].strip("-") or "session"
    return f"{time.strftime('%Y-%m-%d')}-{stem}-{attempt[:8]}.json"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, data)


class Receipts:
    """This party's part in the receipt of one attempt."""

    def __init__(self, seat: Seat, post: Post, book: ReceiptBook) -> None:
        self._seat = seat
        self._post = post
        self._book = book
        self._exchange: Exchange | None = None
        self._early: list[tuple[int, Message]] = []
        self._opening: Opening | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def agreed(self, record: tuple[Agreed, ...]) -> None:
        """All have signed and revealed: from here on there is something to sign receipts for."""
        seat = self._seat
        self._exchange = Exchange(seat.manifest, record, seat.pid, seat.identity)
        self._book.begin(seat.manifest.attempt)
        early, self._early = self._early, []
        for pid, message in early:
            self.take(pid, message)

    def take(self, pid: int, message: Message) -> None:
        """What party `pid` claims or signs. What does not hold is noted, and ends nothing."""
        if self._exchange is None:
            if len(self._early) < EARLY * self._seat.manifest.m:
                self._early.append((pid, message))
            return
        try:
            if message.type == OUTPUT:
                self._exchange.take_claim(pid, message.body)
            elif message.type == RECEIPT:
                self._exchange.take_endorsement(pid, message.body)
        except RemoteViolation as error:
            logger.warning("a %s from party %d does not count: %s", message.type, pid, error)

    async def come_about(self, output: Mapping[str, Any], inbox: Inbox) -> None:
        """Claim our output, sign, and collect what the others say, within `PATIENCE`."""
        exchange, pid = self._exchange, self._seat.pid
        assert exchange is not None
        self._opening = Opening(pid, unb64url(output["salt"]))
        body = exchange.claim(unb64url(output["commitment"]), int(time.time()))
        self._send(OUTPUT, body)
        exchange.endorse()  # so that there is a receipt from the beginning; it is sent with more in it
        await self._keep()
        started = time.monotonic()
        signed = 0
        try:
            while not exchange.complete:
                waited = time.monotonic() - started
                here = self._seat.manifest.m - len(exchange.unclaimed)
                if here > signed and (not exchange.unclaimed or waited >= FIRST_WORD):
                    signed = here
                    self._send(RECEIPT, exchange.endorse())
                    await self._keep()
                    continue
                left = (PATIENCE if signed else FIRST_WORD) - waited
                if signed and left <= 0:
                    break
                try:
                    event = await inbox.next(max(0.0, left))
                except TimeoutError:
                    continue
                if isinstance(event, Arrived) and event.message.type in (OUTPUT, RECEIPT):
                    sender = self._seat.peer_of(event.sender)
                    if sender is not None:
                        self.take(sender, event.message)
                        if signed:
                            await self._keep()
            await self._keep()
            if self._sending:  # what we signed last is worth nothing to the others in our own memory
                await asyncio.wait(self._sending, timeout=PATIENCE)
        finally:
            for task in self._sending:
                task.cancel()

    async def finish(self) -> None:
        """Nobody needs to wait for a receipt any longer."""
        await self._book.finish(self._seat.manifest.attempt)

    async def _keep(self) -> None:
        assert self._exchange is not None
        receipt = self._exchange.receipt(self._opening)
        names = self._seat.names
        facts = {
            "complete": self._exchange.complete,
            "missing": [names[pid] for pid in receipt.missing],
            "problems": list(self._exchange.problems.values()),
        }
        manifest = self._seat.manifest
        await self._book.keep(manifest.attempt, str(manifest.program["entry"]), receipt, facts)

    def _send(self, kind: str, body: Mapping[str, Any]) -> None:
        for pid in self._seat.peers:
            task = asyncio.create_task(self._send_to(pid, Message(type=kind, body=dict(body))))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_to(self, pid: int, message: Message) -> None:
        try:
            await self._post.send(pid, message)
        except DidmpcError as error:
            logger.info("party %d cannot be told of our receipt: %s", pid, error)
