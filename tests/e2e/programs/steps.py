"""A joint count: everyone learns how many steps were taken together.

Arguments: how many steps, seconds between two of them, and the party that raises in the middle, if any.
Each step is a secure multiplication, so no party is ahead of another.
"""

import asyncio
import sys

from mpyc.runtime import mpc


async def main() -> None:
    steps, pause = int(sys.argv[1]), float(sys.argv[2])
    raising = int(sys.argv[3]) if sys.argv[3:] else None
    secint = mpc.SecInt(32)
    await mpc.start()
    one = mpc.input(secint(1), senders=0)
    count = secint(0)
    for step in range(1, steps + 1):
        count = count * one + one
        await mpc.output(one)
        print(f"step {step}", flush=True)
        if raising == mpc.pid and step == steps // 2:
            raise RuntimeError("the numbers of this party do not add up")
        await asyncio.sleep(pause)
    print(f"together {await mpc.output(count)}", flush=True)
    await mpc.shutdown()


mpc.run(main())
