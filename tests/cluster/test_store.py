"""The store in PostgreSQL alone, used as by two nodes, while its servers fail: what it says, it keeps."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
from cluster_parts.faults import Faults
from cluster_parts.journal import Journal
from cluster_parts.servers import Servers
from cluster_parts.world import check_rows

from didmpc.bench.soak import Log
from didmpc.mediator.limits import Limits
from didmpc.mediator.store import StoreFailed
from didmpc.mediator.store.postgres import PostgresStore
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.mediation import Update

pytestmark = pytest.mark.cluster

KINDS = (
    "kill-primary",
    "restart-primary",
    "suspend-primary",
    "lose-standby",
    "lose-both-standbys",
    "lose-all-servers",
)
WEEK = 7 * 24 * 3600.0
WITHIN = 240.0
FETCHED = 20


class StoreLoad:
    """Puts, lists and acknowledges, on several stores at once."""

    def __init__(self, stores: list[PostgresStore], accounts: list[str]) -> None:
        self.journal = Journal()
        self._stores = stores
        self._accounts = accounts
        self._is_sending = True

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Self]:
        self._tasks = [asyncio.create_task(self._put(number)) for number in range(8)]
        self._fetching = [asyncio.create_task(self._fetch(account)) for account in self._accounts]
        try:
            yield self
        finally:
            for task in (*self._tasks, *self._fetching):
                task.cancel()
            await asyncio.gather(*self._tasks, *self._fetching, return_exceptions=True)

    async def work(self, taken: int = 1, acknowledged: int = 1) -> None:
        journal = self.journal
        taken += len(journal.taken_tags)
        acknowledged += len(journal.acknowledged_tags)
        async with asyncio.timeout(WITHIN):
            while len(journal.taken_tags) < taken or len(journal.acknowledged_tags) < acknowledged:
                await asyncio.sleep(0.02)
        assert not journal.wrong, journal.wrong[:10]

    async def finish(self) -> None:
        self._is_sending = False
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*self._tasks)
        for task in self._fetching:
            task.cancel()
        await asyncio.gather(*self._fetching, return_exceptions=True)
        async with asyncio.timeout(WITHIN):
            for number, account in enumerate(self._accounts):
                while await self._fetch_once(self._stores[number % 2], account):
                    pass

    async def _put(self, who: int) -> None:
        unsure: list[str] = []
        n = 0
        while self._is_sending or unsure:
            n += 1
            again = bool(unsure) and (n % 5 == 0 or not self._is_sending)
            tag = unsure.pop(0) if again else f"{who}/{n}"
            now = time.time()
            try:
                kept = await self._stores[n % 2].enqueue(
                    self._accounts[who % len(self._accounts)], [tag.encode()], now + WEEK, now
                )
            except StoreFailed:
                self.journal.refused()
                unsure.append(tag)
                await asyncio.sleep(0.05)
            else:
                assert again or len(kept.mail) == 1
                self.journal.taken(tag)
                await asyncio.sleep(0.01)

    async def _fetch(self, account: str) -> None:
        turn = 0
        while True:
            turn += 1
            try:
                await self._fetch_once(self._stores[turn % 2], account)
            except StoreFailed:
                self.journal.unanswered()
            await asyncio.sleep(0.05)

    async def _fetch_once(self, store: PostgresStore, account: str) -> bool:
        now = time.time()
        listing = await store.oldest(account, None, now, messages=FETCHED, bytes=1 << 20)
        tags = [mail.body.decode() for mail in listing.mail]
        for mail, tag in zip(listing.mail, tags, strict=True):
            self.journal.fetched(str(mail.seq), tag)
        await store.acknowledge(account, [mail.seq for mail in listing.mail], now)
        self.journal.acknowledged(*tags)
        return bool(tags)


@pytest.fixture
async def stores(servers: Servers, tmp_path: Path) -> AsyncIterator[list[PostgresStore]]:
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            made.append(await PostgresStore.open(servers.dsn_with_password, tmp_path, Limits()))
            stack.push_async_callback(made[-1].close)
        yield made


@pytest.fixture
async def faults(servers: Servers, stores: list[PostgresStore], seed: int, log: Log) -> AsyncIterator[Faults]:
    accounts = [Identity.peer4().did for _ in range(3)]
    for account in accounts:
        await stores[0].enrol(account, time.time())
        await stores[0].update_keylist(account, [Update(account, "add")], account.encode(), time.time())
    async with StoreLoad(stores, accounts).at_work() as load:
        yield Faults(None, servers, load, random.Random(seed), log)  # type: ignore[arg-type]  # it has no nodes


async def test_the_store_keeps_its_word(faults: Faults) -> None:
    for kind in faults.chance.sample(KINDS, len(KINDS)):
        await faults.happen(kind)
    await faults.load.finish()
    faults.end("the store alone")
    assert faults.load.journal.complaints() == []
    primary = faults.servers.primary
    assert await faults.servers.ask(primary, "SELECT count(*) FROM msg") == 0
    await check_rows(faults.servers, primary)


async def test_one_that_waits_for_no_standby_lies_and_is_found_out(
    faults: Faults, servers: Servers, log: Log
) -> None:
    await servers.configure(servers.primary, synchronous_standby_names="")
    with pytest.raises(AssertionError, match="something was promised that no standby has"):
        await faults.happen("lose-both-standbys")
    log.write("found out", lie="commits that no standby has")
