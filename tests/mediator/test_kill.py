"""kill -9 in the middle of everything, again and again.

Senders repeat each envelope until they hear that it is taken; recipients fetch, and acknowledge. Whatever the
moment of the kill: what was taken arrives, what was acknowledged stays away, and nothing is there twice.

The long run: python -m pytest -m soak tests/mediator/test_kill.py
"""

import asyncio
import contextlib
import random
import shutil
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import PATIENCE, Client, Process

from didmpc.protocols.messages import pickup

LOST = (aiohttp.ClientError, OSError, TimeoutError, TypeError)
"""What a killed mediator looks like from outside; a TypeError is aiohttp's for a closed WebSocket."""
SENDERS = 8
ACCOUNTS = 3


class Ledger:
    """What the outside knows: promises that the mediator has made."""

    def __init__(self) -> None:
        self.taken: set[bytes] = set()
        self.names: dict[bytes, str] = {}
        self.acknowledged: set[bytes] = set()
        self.wrong: list[str] = []

    def fetched(self, mail: list[tuple[str, bytes]]) -> None:
        for name, body in mail:
            if body in self.acknowledged:
                self.wrong.append(f"came back: {body!r}")
            if self.names.setdefault(body, name) != name:
                self.wrong.append(f"there twice: {body!r}")


class World:
    """A mediator that is killed now and then, and everybody who uses it."""

    def __init__(self, home: Path) -> None:
        self.process = Process(home)
        self.ledger = Ledger()
        self.is_over = False
        self.progress = asyncio.Condition()
        self.is_up = asyncio.Event()
        self.is_up.set()

    async def made_progress(self) -> None:
        async with self.progress:
            self.progress.notify_all()

    async def work(self, taken: int, acknowledged: int) -> None:
        """Until so many more messages were taken and acknowledged."""
        ledger = self.ledger
        taken, acknowledged = len(ledger.taken) + taken, len(ledger.acknowledged) + acknowledged
        async with asyncio.timeout(PATIENCE * 6), self.progress:
            await self.progress.wait_for(
                lambda: len(ledger.taken) >= taken and len(ledger.acknowledged) >= acknowledged
            )

    async def keep_trying(self, step: Callable[[], Awaitable[None]]) -> None:
        """One step after the other; one that the kill has hit is simply taken again."""
        while not self.is_over:
            try:
                await step()
            except LOST:
                await asyncio.sleep(0)
                await self.is_up.wait()

    async def send(self, sender: Client, to: str, who: int) -> None:
        """New envelopes, and after some others again those whose answer was lost."""
        unsure: list[bytes] = []
        n = 0
        while unsure or not self.is_over:
            n += 1
            again = unsure and (n % 10 == 0 or self.is_over)
            body = unsure.pop(0) if again else b'{"from":%d,"n":%d}' % (who, n)
            try:
                if await sender.send(to, body) == 202:
                    self.ledger.taken.add(body)
                    await self.made_progress()
            except LOST:
                unsure.append(body)
                await asyncio.sleep(0)
                await self.is_up.wait()

    async def _acknowledged(self, mail: list[tuple[str, bytes]]) -> None:
        self.ledger.acknowledged.update(body for _, body in mail)
        await self.made_progress()

    async def poll(self, account: Client) -> None:
        async def step() -> None:
            mail = await account.fetch(20)
            self.ledger.fetched(mail)
            if mail:
                await account.acknowledge(*(name for name, _ in mail))
                await self._acknowledged(mail)
            else:
                await asyncio.sleep(0.02)

        await self.keep_trying(step)

    async def listen(self, account: Client) -> None:
        """On a WebSocket: request what waits, then take what is pushed."""

        async def connection() -> None:
            async with account.line() as line:
                await line.tell(pickup.live_delivery_change(True))
                await line.tell(pickup.delivery_request(50))
                waiting: list[list[tuple[str, bytes]]] = []
                while not self.is_over:
                    message = await line.hear()
                    if message.type == pickup.DELIVERY:
                        mail = list(pickup.parse_delivery(message).messages)
                        self.ledger.fetched(mail)
                        request = pickup.messages_received([name for name, _ in mail])
                        await line.tell(request)
                        waiting.append((request.id, mail))
                        continue
                    for thread, mail in waiting:
                        if thread == message.thread:
                            await self._acknowledged(mail)

        await self.keep_trying(connection)


def check_file(home: Path, copy: Path) -> tuple[int, int]:
    """What a kill has left: sound, and counted right. Of a copy: recovery is the mediator's own affair."""
    copy.mkdir()
    for path in home.glob("mediator.sqlite3*"):
        shutil.copy(path, copy / path.name)
    with contextlib.closing(sqlite3.connect(copy / "mediator.sqlite3")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        boxes = db.execute("SELECT mid, n, bytes FROM box ORDER BY mid").fetchall()
        rows = db.execute(
            "SELECT box.mid, count(seq), coalesce(sum(size), 0) FROM box LEFT JOIN msg USING (mid)"
            " GROUP BY box.mid ORDER BY box.mid"
        ).fetchall()
        assert boxes == rows
        totals = db.execute("SELECT aid, bytes FROM account ORDER BY aid").fetchall()
        summed = db.execute("SELECT aid, sum(bytes) FROM box GROUP BY aid ORDER BY aid").fetchall()
        assert totals == summed
        (twice,) = db.execute("SELECT count(*) - count(DISTINCT body) FROM msg").fetchone()
        assert twice == 0
    shutil.rmtree(copy)
    return sum(row[1] for row in rows), sum(row[2] for row in rows)


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.soak)])
async def test_a_mediator_that_is_killed_again_and_again_keeps_its_promises(
    tmp_path: Path, http: aiohttp.ClientSession, kills: int
) -> None:
    home = tmp_path / "m"
    world = World(home)
    ledger = world.ledger
    ready = (await world.process.start("--port", "0")).ready
    accounts = [await Client(http, ready["did"]).enrol() for _ in range(ACCOUNTS)]
    boxes = [await account.new_did() for account in accounts]
    senders = [Client(http, ready["did"]) for _ in range(SENDERS)]
    async with asyncio.TaskGroup() as group:
        sending = [
            group.create_task(world.send(sender, boxes[n % ACCOUNTS], n)) for n, sender in enumerate(senders)
        ]
        group.create_task(world.listen(accounts[0]))
        for account in accounts[1:]:
            group.create_task(world.poll(account))
        for kill in range(kills):
            await world.work(taken=random.randint(1, 60), acknowledged=1)
            world.is_up.clear()
            await world.process.stop(signal.SIGKILL)
            left = check_file(home, tmp_path / "copy")
            assert not ledger.wrong
            so_far = f"{len(ledger.taken)} taken, {len(ledger.acknowledged)} acknowledged"
            print(f"kill {kill + 1}: {so_far}, waiting (messages, bytes) {left}")
            assert (await world.process.start()).ready == ready
            world.is_up.set()
        world.is_over = True
        await asyncio.wait(sending)
    for account in accounts:
        while mail := await account.fetch(50):
            ledger.fetched(mail)
            await account.acknowledge(*(name for name, _ in mail))
    assert ledger.wrong == []
    assert ledger.taken - ledger.names.keys() == set()
    status, said = await world.process.stop(signal.SIGTERM)
    assert (status, said) == (0, "")
    assert check_file(home, tmp_path / "copy") == (0, 0)
    print(f"{kills} kills: {len(ledger.taken)} messages taken, none lost, none twice, none came back")
