"""What load processes do beyond those of `didmpc bench mediator`: `python -m didmpc.bench.nodes.load`."""

import asyncio
import secrets
import time
from pathlib import Path

import aiohttp

from didmpc.bench.mediator.account import Account
from didmpc.bench.mediator.fill import ROOMY, add_box, synthetic_did
from didmpc.bench.mediator.load import JOBS as COMMON
from didmpc.bench.mediator.load import socket_url
from didmpc.bench.mediator.turn import Job, Result, Turn, serve
from didmpc.mediator.cluster.tables import Tables
from didmpc.mediator.store.postgres import PostgresStore
from didmpc.protocols.messages import pickup

BOXES = 64
WAITING = 50


async def pairs(job: Job, turn: Turn) -> Result:
    """The store alone: a message of `size` bytes is taken in, read and acknowledged, `at_once` of them.

    Each waits for its commits. Afterwards a node looks `looks` times for lost doorbells, where messages wait
    in so many mailboxes; told is how many messages it saw.
    """
    store = await PostgresStore.open(job["store"], Path(job["folder"]), ROOMY)
    try:
        dids = [synthetic_did(number) for number in range(BOXES)]
        for did in dids:
            if not await store.is_enrolled(did):
                await add_box(store, did, time.time())
        run = secrets.token_hex(8)  # the same message again would be none
        count = 0
        took: list[float] = []
        until = 0.0

        async def work(number: int) -> None:
            nonlocal count
            did = dids[number % BOXES]
            while time.monotonic() < until:
                now = time.time()
                body = f"{run} {number} {count} ".encode().ljust(job["size"], b"x")
                count += 1
                before = time.monotonic()
                kept = await store.enqueue(did, [body], now + 3600, now)
                took.append(time.monotonic() - before)
                ((seq, _),) = kept.mail
                listing = await store.oldest(did, None, now, messages=1, bytes=1 << 20, after=seq - 1)
                assert listing.mail[0].body == body
                await store.acknowledge(did, [seq], now)

        await turn.wait()
        until = turn.started + job["seconds"]
        await asyncio.gather(*map(work, range(job["at_once"])))
        result = turn.result(count=count, took=took, left=await store.queued())
        await turn.wait(**result)
        now = time.time()
        for did in dids[: job["looks"]]:
            waiting = [f"{run} {did} {number}".encode().ljust(job["size"], b"x") for number in range(WAITING)]
            await store.enqueue(did, waiting, now + 3600, now)
        tables = Tables(store.postgres)
        await turn.wait()
        for _ in range(job["looks"]):
            await tables.news(0, 0)
        return turn.result(looks=job["looks"] ** 2 * WAITING)
    finally:
        await store.close()


async def attach(job: Job, turn: Turn) -> Result:
    """Each account opens a WebSocket and asks for live delivery; the nodes take turns. Then all leave."""
    accounts = [Account.from_json(value) for value in job["accounts"]]
    asked = [account.pack(pickup.live_delivery_change(True)).decode() for account in accounts]
    nodes = job["nodes"]
    async with aiohttp.ClientSession() as session:
        await turn.wait()
        for number, (account, text) in enumerate(zip(accounts, asked, strict=True)):
            url = socket_url(nodes[number % len(nodes)])
            async with session.ws_connect(url, compress=0, max_msg_size=0) as ws:
                await ws.send_str(text)
                answer = account.unpack((await ws.receive_str()).encode())
                assert pickup.parse_status(answer).live_delivery
        return turn.result(count=len(accounts))


JOBS = {**COMMON, pairs.__name__: pairs, attach.__name__: attach}


if __name__ == "__main__":
    serve(JOBS)
