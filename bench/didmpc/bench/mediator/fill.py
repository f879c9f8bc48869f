"""Mailboxes and mail in great numbers, put in through the store's own methods (a load job, see `load`)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

from didmpc.bench.mediator.turn import Job, Result, Turn
from didmpc.mediator.limits import Limits
from didmpc.mediator.store import Store
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.messages.mediation import Update

AT_ONCE = 512
"""As many as one commit takes."""
ROOMY = replace(
    Limits(),
    accounts=10**7,
    keys_per_account=10**6,
    mailbox_messages=10**7,
    mailbox_bytes=2**40,
    account_bytes=2**40,
)


def synthetic_did(number: int) -> str:
    """The DID of somebody who never asks for anything."""
    return f"did:example:{number}"


async def add_box(store: Store, did: str, now: float) -> None:
    """An account with its own DID as its mailbox."""
    await store.enrol(did, now)
    await store.update_keylist(did, [Update(did, "add")], f"{did} {now}".encode(), now)


async def fill(job: Job, turn: Turn) -> Result:
    """Give each of `dids`, and synthetic ones up to `boxes`, a mailbox with an equal part of `messages`.

    Afterwards the store alone is asked for the status of each of `dids`.
    """
    store = SqliteStore(Path(job["home"]), ROOMY)
    boxes: int = job["boxes"]
    dids = [*job["dids"], *map(synthetic_did, range(boxes - len(job["dids"])))]
    now = time.time()

    async def put(number: int) -> None:
        body = f'{{"message":{number},"'.encode().ljust(job["size"] - 4, b"x") + b'":0}'
        await store.enqueue(dids[number % boxes], [body], now + 7 * 24 * 3600, now + number / 1000)

    try:
        await turn.wait()
        await _all(lambda number: add_box(store, dids[number], now), range(boxes))
        await _all(put, range(job["messages"]))
        filled = turn.result(queued=await store.queued())
        took: list[float] = []
        for did in job["dids"]:
            before = time.monotonic()
            await store.queue(did, None, now)
            took.append(time.monotonic() - before)
        return {**filled, "took": took}
    finally:
        await store.close()


async def _all(one: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    todo = iter(numbers)

    async def work() -> None:
        for number in todo:
            await one(number)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
