"""Millionaires with a helper: the rich learn who is richest, the helper learns nothing.

The last party is the helper: it gives no input and gets no output, but its shares make secrecy possible
where two people alone could not have any. The others give their fortune, and learn only which of them has the
largest (all of those, if several have the same).
"""

from mpyc.runtime import mpc
from private_input import ask, whole_number

HIGHEST = 10**15


async def main() -> None:
    parties = len(mpc.parties)
    if parties < 3:
        raise SystemExit("Two millionaires and a helper are needed: three parties.")
    helper = parties - 1
    rich = list(range(helper))
    secint = mpc.SecInt(HIGHEST.bit_length() + 2)
    fortune = None
    if mpc.pid != helper:
        fortune = ask("Your fortune, a whole number:", whole_number(0, HIGHEST))

    await mpc.start()
    fortunes = mpc.input(secint(fortune), senders=rich)
    largest = mpc.max(fortunes)
    flags = await mpc.output([each == largest for each in fortunes], receivers=rich)
    await mpc.shutdown()

    if mpc.pid == helper:
        print(f"You helped {len(rich)} parties to compare, and learned nothing.")
    else:
        richest = [pid for pid, flag in zip(rich, flags, strict=True) if flag]
        names = ["you" if pid == mpc.pid else f"party {pid}" for pid in richest]
        print(f"Richest: {' and '.join(names)}" + (" (the same amount)" if len(names) > 1 else ""))


if __name__ == "__main__":
    mpc.run(main())
