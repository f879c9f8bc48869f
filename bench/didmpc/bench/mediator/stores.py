"""Both stores side by side: `python -m didmpc.bench.mediator.stores --postgres postgresql://user@host/empty`.

A pair is one message that is enqueued, and then acknowledged, each waiting for its commit. Two nodes share
the load in a second run on PostgreSQL. The database should be empty: what is put stays in it.
"""

import argparse
import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from didmpc.bench.mediator.fill import ROOMY, add_box
from didmpc.mediator.host.home import Home
from didmpc.mediator.store import Store
from didmpc.mediator.store.opening import open_store

BOXES = 512
FEW = 16
SIZE = 1000


async def pairs_per_second(stores: Sequence[Store], at_once: int, seconds: float) -> float:
    """Of all stores together, which are of one database, with `at_once` pairs under way."""
    run = secrets.token_hex(6)
    dids = [f"did:example:{run}-{number}" for number in range(BOXES)]
    for first in range(0, BOXES, FEW):
        await asyncio.gather(*(add_box(stores[0], did, time.time()) for did in dids[first : first + FEW]))
    done = 0
    ends = time.monotonic() + seconds

    async def work(number: int) -> None:
        nonlocal done
        store = stores[number % len(stores)]
        count = number
        while time.monotonic() < ends:
            did = dids[count % BOXES]
            count += at_once
            now = time.time()
            kept = await store.enqueue(did, [os.urandom(SIZE)], now + 3600, now)
            await store.acknowledge(did, [seq for seq, _ in kept.mail], now)
            done += 1

    began = time.monotonic()
    await asyncio.gather(*map(work, range(at_once)))
    return done / (time.monotonic() - began)


async def measure(url: str, folder: Path, at_once: Sequence[int], seconds: float) -> None:
    for name in ("node", "file"):
        (folder / name).mkdir()
    for name, target, count in (
        ("SQLite", "", 1),
        ("PostgreSQL, one node", url, 1),
        ("PostgreSQL, two nodes", url, 2),
    ):
        if target or not name.startswith("P"):
            stores = [
                await open_store(Home(folder / ("node" if target else "file")), ROOMY, target)
                for _ in range(count)
            ]
            try:
                for number in at_once:
                    rate = await pairs_per_second(stores, number, seconds)
                    print(f"{name:24}{number:5} at once {rate:9,.0f} pairs/s", flush=True)
            finally:
                for store in stores:
                    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--postgres", metavar="URL", default="", help="without it: SQLite alone")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure (default 4)")
    parser.add_argument("--at-once", type=int, nargs="+", default=[64, 512], help="pairs under way")
    parser.add_argument(
        "--directory", type=Path, help="where SQLite's file is put (default: a temporary folder)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        asyncio.run(measure(options.postgres, Path(folder), options.at_once, options.seconds))


if __name__ == "__main__":
    main()
