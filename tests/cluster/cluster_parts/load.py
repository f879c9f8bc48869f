"""Everybody who uses the mediator while it is being broken: ordinary clients at its public URL.

Senders say an envelope again until they hear that it is taken, or refused for good. Recipients take what is
pushed or fetch, and acknowledge. Whatever happens to whom is told to the journal.
"""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from mediator_parts import Client, Line

from cluster_parts.journal import Journal
from didmpc.protocols.message import Message
from didmpc.protocols.messages import pickup, problem_report

LOST = (aiohttp.ClientError, OSError, TimeoutError, TypeError)
"""What a node that was killed, or cut off, looks like; a TypeError is aiohttp's for a closed WebSocket."""
ANSWER_WITHIN = 15.0
"""Seconds after which a client gives a request up, and makes it again."""
HEARTBEAT = 5.0
CLOSE_WITHIN = aiohttp.ClientWSTimeout(ws_close=1.0)
PAUSE = 0.1
"""Before a client tries again."""
DIGESTS = 0.05
"""Seconds in which a recipient has a message and has not acknowledged it yet."""
FIRST_WITHIN = 240.0


class Refused(Exception):
    """The mediator answered, and the answer was no."""


class Customer(Client):
    """A client that takes a refusal for what it is."""

    async def ask(self, message: Message, **headers: Any) -> Message:
        status, body = await self.post(self.pack(message, return_route="all", **headers))
        if status != 200:
            raise Refused(f"HTTP {status}: {body[:200]!r}")
        answer = self.unpack(body).message
        if answer.type == problem_report.PROBLEM_REPORT:
            raise Refused(problem_report.parse(answer).code)
        return answer

    @contextlib.asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        async with self.http.ws_connect(
            self.ws_url,
            compress=0,
            max_msg_size=0,
            heartbeat=HEARTBEAT,
            timeout=CLOSE_WITHIN,
        ) as ws:
            yield Line(self, ws)


async def until(step: Callable[[], Awaitable[Any]], within: float = FIRST_WITHIN) -> Any:
    """Do something as often as it takes while things are broken; what it gave."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await step()
            except (*LOST, Refused):
                await asyncio.sleep(PAUSE)


@dataclass
class Load:
    """Use `load`."""

    http: aiohttp.ClientSession
    mediator: str
    """Its DID, whose services are the public URL."""
    chance: random.Random
    journal: Journal = field(default_factory=Journal)
    is_sending: bool = True
    is_over: bool = False
    _progress: asyncio.Condition = field(default_factory=asyncio.Condition)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    accounts: list[Customer] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)
    sending: list["asyncio.Task[None]"] = field(default_factory=list)
    receiving: list["asyncio.Task[None]"] = field(default_factory=list)
    reports: Counter[str] = field(default_factory=Counter)
    """Codes of problem reports on sockets."""

    # --- waiting

    async def work(self, taken: int = 1, acknowledged: int = 1, within: float = FIRST_WITHIN) -> None:
        """Until so many more messages were taken and acknowledged; raises what a client failed with."""
        taken += len(self.journal.taken_tags)
        acknowledged += len(self.journal.acknowledged_tags)

        def enough() -> bool:
            return (
                len(self.journal.taken_tags) >= taken and len(self.journal.acknowledged_tags) >= acknowledged
            )

        try:
            async with asyncio.timeout(within), self._progress:
                await self._progress.wait_for(lambda: enough() or self._failed())
        except TimeoutError:
            raise AssertionError(
                f"no progress within {within:g} s: wanted {taken} taken and {acknowledged} acknowledged,"
                f" have {self.journal.summary()}"
            ) from None
        self.check()

    def check(self) -> None:
        """Raise what a client failed with, and complain of promises that were broken."""
        for task in self._failed():
            task.result()
        assert not self.journal.wrong, self.journal.wrong[:10]

    def _failed(self) -> "list[asyncio.Task[None]]":
        return [each for each in (*self.sending, *self.receiving) if each.done() and each.exception()]

    async def _made_progress(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    async def _pause(self, seconds: float = PAUSE) -> None:
        await asyncio.sleep(seconds * self.chance.uniform(0.5, 1.5))

    # --- senders

    async def send(self, to: str, who: int, every: float) -> None:
        sender = Customer(self.http, self.mediator)
        unsure: list[str] = []
        for n in itertools.count():
            if not self.is_sending and not unsure:
                return
            again = bool(unsure) and (n % 5 == 0 or not self.is_sending)
            tag = unsure.pop(0) if again else f"{who}/{n}"
            try:
                status = await sender.send(to, f'{{"tag":"{tag}","pad":"{"x" * 400}"}}'.encode())
            except LOST:
                self.journal.unanswered()
                unsure.append(tag)
                await self._pause()
                continue
            if status == 202:
                self.journal.taken(tag)
                await self._made_progress()
                await self._pause(every)
            else:
                self.journal.refused()
                unsure.append(tag)
                await self._pause()

    # --- recipients

    async def poll(self, account: Customer) -> None:
        """Fetch and acknowledge, each time on whatever node takes the connection."""
        while not self.is_over:
            try:
                if not await self.fetch(account):
                    await self._pause()
            except (*LOST, Refused):
                await self._pause()

    async def fetch(self, account: Customer) -> bool:
        """One delivery, acknowledged; whether there was any mail."""
        mail = [(name, tag_of(body)) for name, body in await account.fetch(20)]
        for name, tag in mail:
            self.journal.fetched(name, tag)
        if mail:
            await account.acknowledge(*(name for name, _ in mail))
            self.journal.acknowledged(*(tag for _, tag in mail))
            await self._made_progress()
        return bool(mail)

    async def listen(self, account: Customer, label: str) -> None:
        """In live mode, on one socket after the other."""
        while not self.is_over:
            with contextlib.suppress(*LOST, Refused):
                await self._one_socket(account, f"{label}#{next(self._numbers)}")
            await self._pause()

    async def _one_socket(self, account: Customer, socket: str) -> None:
        loop, journal = asyncio.get_running_loop(), self.journal
        waiting: dict[str, list[str]] = {}
        requests: set[str] = set()

        async def ask() -> None:
            """Live mode pushes what comes from now on; what waits is asked for."""
            request = pickup.delivery_request(50)
            requests.add(request.id)
            await line.tell(request)

        async def acknowledge(receipt: Message, asked: bool) -> None:
            """After a while in which the message is neither new nor deleted."""
            with contextlib.suppress(*LOST):  # whoever reads notices too
                await self._pause(DIGESTS)
                await line.tell(receipt)
                if asked:
                    await ask()

        acknowledging: set[asyncio.Task[None]] = set()
        try:
            async with account.line() as line:
                journal.opened(socket)
                await line.tell(pickup.live_delivery_change(True))
                await ask()
                while not self.is_over:
                    message = await line.hear()
                    if message.type == pickup.DELIVERY:
                        delivery = pickup.parse_delivery(message)
                        mail = [(name, tag_of(body)) for name, body in delivery.messages]
                        asked = message.thread in requests
                        for name, tag in mail:
                            journal.pushed(socket, name, tag, loop.time(), asked=asked)
                        receipt = pickup.messages_received([name for name, _ in mail])
                        waiting[receipt.id] = [tag for _, tag in mail]
                        task = asyncio.create_task(acknowledge(receipt, asked))
                        acknowledging.add(task)
                        task.add_done_callback(acknowledging.discard)
                    elif message.type == problem_report.PROBLEM_REPORT:
                        self.reports[problem_report.parse(message).code] += 1
                        return
                    elif tags := waiting.pop(message.thread, None):
                        journal.acknowledged(*tags, socket=socket, now=loop.time())
                        await self._made_progress()
        finally:
            for task in acknowledging:
                task.cancel()
            if not self.is_over:
                journal.ended(socket, loop.time())

    # --- the end

    async def finish(self, within: float = FIRST_WITHIN) -> None:
        """Let everything that is under way come to its end, and empty all mailboxes."""
        self.is_sending = False
        async with asyncio.timeout(within):
            await asyncio.gather(*self.sending)
            while self.journal.is_unsure(asyncio.get_running_loop().time()):
                await self._pause()
        self.is_over = True
        for task in self.receiving:
            task.cancel()
        await asyncio.gather(*self.receiving, return_exceptions=True)
        try:
            async with asyncio.timeout(within):
                for account in self.accounts:
                    while await until(lambda account=account: self.fetch(account)) or await until(
                        account.waiting
                    ):
                        await asyncio.sleep(0)
        except TimeoutError:
            raise AssertionError(
                f"mailboxes were not empty within {within:g} s: {self.journal.summary()}"
            ) from None


def tag_of(body: bytes) -> str:
    """What the sender called it."""
    return body.split(b'"', 4)[3].decode()


@contextlib.asynccontextmanager
async def load(
    mediator: str,
    seed: int,
    *,
    senders: int = 6,
    polling: int = 1,
    listening: int = 2,
    sockets: int = 2,
    every: float = 0.05,
) -> AsyncIterator[Load]:
    """Senders, accounts that poll, and accounts that listen, each of these on so many sockets.

    `every`: seconds between two messages of a sender.
    """
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        made = Load(http, mediator, random.Random(seed))
        for _ in range(polling + listening):
            account = Customer(http, mediator)
            await until(account.enrol)
            made.accounts.append(account)
            made.boxes.append(await until(account.new_did))
        for number, account in enumerate(made.accounts):
            work = (
                [made.poll(account)]
                if number < polling
                else [made.listen(account, f"{number}.{socket}") for socket in range(sockets)]
            )
            made.receiving += map(asyncio.create_task, work)
        made.sending += (
            asyncio.create_task(made.send(made.boxes[number % len(made.boxes)], number, every))
            for number in range(senders)
        )
        try:
            yield made
        finally:
            tasks = [*made.sending, *made.receiving]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
