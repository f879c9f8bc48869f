"""What no mediator on this machine could exceed, measured in the same run (load jobs, see `load`)."""

import asyncio
import tempfile
import time
from pathlib import Path

from didmpc.bench.mediator.account import packed
from didmpc.bench.mediator.fill import ROOMY, add_box, synthetic_did
from didmpc.bench.mediator.turn import Job, Result, Turn
from didmpc.bench.mediator.wire import EchoServer
from didmpc.mediator.host.home import Home
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.envelope import unpack
from didmpc.protocols.identity import Identities
from didmpc.protocols.messages.routing import parse_forward

BOXES = 16


async def relay(job: Job, turn: Turn) -> Result:
    """A TCP echo for as long as it is held."""
    server = await asyncio.get_running_loop().create_server(EchoServer, "127.0.0.1", 0)
    await turn.wait(port=server.sockets[0].getsockname()[1])
    server.close()
    return turn.result()


async def commits(job: Job, turn: Turn) -> Result:
    """The store alone, in a file of its own: envelopes of `size` bytes, `at_once` of them waiting."""
    with tempfile.TemporaryDirectory(dir=job["directory"]) as folder:
        store = SqliteStore(Path(folder), ROOMY)
        try:
            dids = [synthetic_did(number) for number in range(BOXES)]
            for did in dids:
                await add_box(store, did, time.time())
            count = 0
            until = 0.0

            async def work(number: int) -> None:
                nonlocal count
                while time.monotonic() < until:
                    now = time.time()
                    body = f"{number} {count} ".encode().ljust(job["size"], b"x")
                    count += 1
                    await store.enqueue(dids[count % BOXES], [body], now + 3600, now)

            await turn.wait()
            until = turn.started + job["seconds"]
            await asyncio.gather(*map(work, range(job["at_once"])))
            return turn.result(count=count)
        finally:
            await store.close()


async def unpacking(job: Job, turn: Turn) -> Result:
    """Opening forwards and reading them, one core, nothing else."""
    secrets = Identities(Home(Path(job["home"])).require().identity)
    envelopes = [envelope for _, envelope in packed(job["files"])]
    await turn.wait()
    for number in range(job["count"]):
        parse_forward(unpack(envelopes[number % len(envelopes)], secrets).message)
    return turn.result()
