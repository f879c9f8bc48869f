"""MPyC programs that the tests run, as a person would write them."""

SUM = """
from mpyc.runtime import mpc

async def main():
    secint = mpc.SecInt(32)
    async with mpc:
        inputs = mpc.input(secint(mpc.pid + 5))
        print("sum", await mpc.output(mpc.sum(inputs)), "max", await mpc.output(mpc.max(inputs)))

mpc.run(main())
"""

ROUNDS = """
import sys
from mpyc.runtime import mpc

async def main():
    secint = mpc.SecInt(32)
    async with mpc:
        total = secint(0)
        for i in range({rounds}):
            larger = mpc.if_else(secint(i % 7) > secint(3), secint(i), secint(0))
            total += await mpc.output(larger)
            if i == {mark}:
                print("half way", flush=True)
        print("total", await mpc.output(total))

mpc.run(main())
"""


def rounds(count: int) -> tuple[str, str]:
    """Many secure comparisons, one after another; and what it prints."""
    total = sum(i for i in range(count) if i % 7 > 3)
    return ROUNDS.format(rounds=count, mark=count // 2), f"half way\ntotal {total}\n"


WAITS_FOR_EVER = """
import sys, time
from mpyc.runtime import mpc

async def main():
    async with mpc:
        print("computing", flush=True)
        if mpc.pid == {pid}:
            {act}
        await mpc.output(mpc.SecInt(32)(1))
        time.sleep(60)

mpc.run(main())
"""


def one_party(pid: int, act: str) -> str:
    """All start; then party `pid` does something, for which the others wait."""
    return WAITS_FOR_EVER.format(pid=pid, act=act)
