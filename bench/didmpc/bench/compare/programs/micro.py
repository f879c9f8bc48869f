"""The round-bound and the bulk-bound micro-benchmark.

Rounds: products of two secrets that are opened, each after the one before: one round trip each, few bytes.
Bulk: every party sends every other one a block of bytes, some times.
Arguments: the rounds, the bytes in a block, the blocks, and the word that blocks consist of.
"""

import json
import sys
import time

from mpyc.runtime import mpc


async def main() -> None:
    rounds, size, times = map(int, sys.argv[1:4])
    whole = mpc.SecInt(32)
    word = sys.argv[4].encode()
    block = word * (size // len(word))
    await mpc.start()
    connected = time.time()
    a, b = mpc.input(whole(7), senders=0), mpc.input(whole(6), senders=0)
    for _ in range(3):
        await mpc.output(a * b)  # what only the first round costs is not of interest
    await mpc.transfer(0)

    print("The rounds begin.", file=sys.stderr, flush=True)
    rounds_from = time.time()
    wrong = 0
    for _ in range(rounds):
        wrong += await mpc.output(a * b) != 42
    rounds_to = time.time()
    await mpc.transfer(0)

    bulk_from = time.time()
    for _ in range(times):
        wrong += sum(part != block for part in await mpc.transfer(block))
    bulk_to = time.time()
    await mpc.transfer(0)
    await mpc.shutdown()
    found = {
        "connected": connected,
        "wrong": wrong,
        "rounds": {"count": rounds, "from": rounds_from, "to": rounds_to},
        "bulk": {"bytes": len(block) * times, "from": bulk_from, "to": bulk_to},
    }
    print("\ndidmpc-bench " + json.dumps(found), flush=True)


if __name__ == "__main__":
    mpc.run(main())
