"""Party 1 holds the interpreter lock for so many seconds, in one call; then all count together."""

import ctypes
import sys

from mpyc.runtime import mpc


async def main() -> None:
    await mpc.start()
    print("begun", flush=True)
    if mpc.pid == 1:
        ctypes.PyDLL(None).sleep(int(sys.argv[1]))  # a PyDLL keeps the lock, as a long matrix product does
    print("together", await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(1)))), flush=True)
    await mpc.shutdown()


mpc.run(main())
