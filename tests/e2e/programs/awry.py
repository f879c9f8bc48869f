"""Whatever can go wrong in the program of one party. Arguments: what, and the party."""

import asyncio
import os
import resource
import sys

from mpyc.runtime import mpc

WHAT, WHO = sys.argv[1], int(sys.argv[2])


async def main() -> None:
    odd = mpc.pid == WHO
    if odd and WHAT == "raise-at-once":
        raise ValueError("my salary is 4711")
    secint = mpc.SecInt(64 if odd and WHAT == "bit-length" else 32)
    await mpc.start()
    shares = mpc.input(secint(mpc.pid + 1))
    if odd and WHAT == "one-more":
        await mpc.transfer("one more")
    if not odd or WHAT != "one-fewer":
        await mpc.output(shares[0] * shares[1])
    print("sum", await mpc.output(mpc.sum(shares)), flush=True)
    if odd:
        go_wrong()
    await asyncio.sleep(0.5)
    print("product", await mpc.output(mpc.prod(shares)), flush=True)
    if not odd or WHAT != "no-shutdown":
        await mpc.shutdown()


def go_wrong() -> None:
    match WHAT:
        case "raise":
            raise ValueError("my salary is 4711")
        case "exit-status":
            os._exit(3)
        case "exit-early":
            sys.exit(0)
        case "exit-words":
            sys.exit("my salary is 4711")
        case "memory":
            # Nothing more than there is, and that to the last byte.
            resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
            kept = []
            while True:
                kept.append(bytearray(100))
        case "disk":
            with open("full", "wb", buffering=0) as file:
                while True:  # a file has 256 MiB at most
                    file.write(bytes(1 << 20))
        case "stdin":
            sys.stdin.close()
        case "threshold":
            mpc.threshold = 0
        case "input":
            input()


mpc.run(main())
