"""A chain of secure multiplications: each needs the one before, so it measures rounds and nothing else.

Every party draws a secret number itself; x becomes x * x + x as often as the argument says (default 200),
and the last x is opened. One multiplication is one round of small messages: the hardest case for a transport.
"""

import secrets
import sys
import time

from mpyc.runtime import mpc

PRIME = 2**61 - 1


async def main() -> None:
    try:
        rounds = int(sys.argv[1]) if sys.argv[1:] else 200
        if not 1 <= rounds <= 1_000_000:
            raise ValueError
    except ValueError:
        raise SystemExit("The argument is the number of rounds, from 1 to 1,000,000.") from None

    field = mpc.SecFld(modulus=PRIME)
    await mpc.start()
    # Of the parties' numbers at least one is unknown to everyone.
    x = mpc.sum(mpc.input(field(secrets.randbelow(PRIME))))
    started = time.perf_counter()
    for _ in range(rounds):
        x = x * x + x
        await mpc.gather(x)  # one round after the other; never two on their way
    last = await mpc.output(x)
    seconds = time.perf_counter() - started
    await mpc.shutdown()
    print(f"{rounds} rounds, the last number {int(last) % 10_000:04d} (its last digits)")
    print(f"{1000 * seconds / rounds:.2f} ms per round", file=sys.stderr)


if __name__ == "__main__":
    mpc.run(main())
