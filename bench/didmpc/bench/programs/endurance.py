"""Many rounds, and large messages in between; its output depends on every bit that was exchanged.

Arguments: how many steps, seconds between two of them, and bytes that each party sends to all in each step.
On stderr it says how long the longest of the steps took.
"""

import asyncio
import hashlib
import sys
import time

from mpyc.runtime import mpc


async def main() -> None:
    steps, pause, size = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    secint = mpc.SecInt(32)
    digest = hashlib.sha256()
    await mpc.start()
    shares = mpc.input(secint(mpc.pid + 1))
    total = secint(0)
    longest = 0.0
    for step in range(1, steps + 1):
        began = time.monotonic()
        total = mpc.if_else(total > 1000, total - 997, total * 3 + mpc.sum(shares) + step)
        opened = await mpc.output(total)
        block = hashlib.shake_128(b"%d %d" % (mpc.pid, step)).digest(size)
        for blob in await mpc.transfer(block):
            digest.update(blob)
        print(f"step {step} {opened}", flush=True)
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(pause)
    print(f"all {digest.hexdigest()}", flush=True)
    print(f"longest step: {longest:.3f} s", file=sys.stderr, flush=True)
    await mpc.shutdown()


mpc.run(main())
