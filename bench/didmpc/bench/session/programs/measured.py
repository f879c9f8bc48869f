"""The MPyC program that is timed: the same over didmpc, over MPyC's own TCP and over a raw relay.

    measured.py rounds=N parallel=N bulk=BYTES aes id3gini

rounds    N secure multiplications with their outputs, one after another: each waits for the last
parallel  N multiplications at once, and their outputs, five times over
bulk      BYTES from each party to each other, three times over
aes, id3gini  demos of the MPyC project, unmodified, where they lie beside this file

Prints one JSON object: the seconds of each, from one barrier to the end of the work, and what the demos said.
"""

import asyncio
import contextlib
import io
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from mpyc.runtime import mpc

try:
    import aes  # type: ignore[import-not-found]
    import id3gini  # type: ignore[import-not-found]
except ImportError:  # an installation without the tests has no demos
    aes = id3gini = None

Work = Callable[[int], Awaitable[None]]
REPEATS = 5
TRANSFERS = 3
secint = mpc.SecInt(32)


async def rounds(count: int) -> None:
    one, other = mpc.input(secint(7), senders=0), mpc.input(secint(6), senders=0)
    for _ in range(count):
        if await mpc.output(one * other) != 42:
            raise SystemExit("A product is wrong.")


async def parallel(count: int) -> None:
    numbers = mpc.input([secint(number) for number in range(count)], senders=0)
    for _ in range(REPEATS):
        products = [one * other for one, other in zip(numbers, reversed(numbers), strict=True)]
        opened = await mpc.output(products)
        if opened != [number * (count - 1 - number) for number in range(count)]:
            raise SystemExit("A product is wrong.")


async def bulk(size: int) -> None:
    sent = random.Random(1).randbytes(size)  # noqa: S311  (the same at all parties, to compare)
    for _ in range(TRANSFERS):
        if any(each != sent for each in await mpc.transfer(sent)):
            raise SystemExit("What arrived is not what was sent.")


WORK: dict[str, Work] = {work.__name__: work for work in (rounds, parallel, bulk)}
DEMOS: dict[str, tuple[Any, list[str]]] = {"aes": (aes, ["-1"]), "id3gini": (id3gini, [])}


def timed_work(tasks: dict[str, int]) -> dict[str, float]:
    async def main() -> dict[str, float]:
        seconds = {}
        await mpc.start()
        for name, count in tasks.items():
            await mpc.transfer(name)
            began = time.perf_counter()
            await WORK[name](count)
            seconds[name] = time.perf_counter() - began
        await mpc.shutdown()
        return seconds

    found: dict[str, float] = mpc.run(main())
    return found


def timed_demo(demo: Any, arguments: list[str]) -> tuple[float, str]:
    """From when all have started until the demo shuts down, so that no start-up counts."""
    start, shutdown = mpc.start, mpc.shutdown
    marks = [0.0, 0.0]

    async def timed_start() -> None:
        await start()
        await mpc.transfer("start")
        marks[0] = time.perf_counter()

    async def timed_shutdown() -> None:
        marks[1] = time.perf_counter()
        await shutdown()

    mpc.start, mpc.shutdown = timed_start, timed_shutdown
    own, sys.argv = sys.argv, [demo.__name__, *arguments]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            mpc.run(demo.main())
    finally:
        mpc.start, mpc.shutdown = start, shutdown
        sys.argv = own
    return marks[1] - marks[0], said.getvalue()


def main() -> None:
    wanted = [argument.partition("=") for argument in sys.argv[1:]]
    seconds = timed_work({name: int(count) for name, _, count in wanted if count})
    said = {}
    for name, _, count in wanted:
        if not count:
            seconds[name], said[name] = timed_demo(*DEMOS[name])
    loop = type(asyncio.get_event_loop_policy().get_event_loop()).__module__.partition(".")[0]
    print(json.dumps({"seconds": seconds, "said": said, "event_loop": loop}))


if __name__ == "__main__":
    main()
