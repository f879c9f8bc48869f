"""Average salary: everyone learns the average, nobody learns a salary.

Each party gives one whole number, its monthly salary. Only the sum is ever opened. With two parties
the average tells each the other's salary, whatever the protocol; so at least three must take part.
"""

from mpyc.runtime import mpc
from private_input import ask, whole_number

HIGHEST = 10_000_000


async def main() -> None:
    parties = len(mpc.parties)
    if parties < 3:
        raise SystemExit("An average of two salaries tells each the other's: invite at least two others.")
    secint = mpc.SecInt((parties * HIGHEST).bit_length() + 1)
    salary = ask("Your monthly salary, a whole number:", whole_number(0, HIGHEST))

    await mpc.start()
    total = await mpc.output(mpc.sum(mpc.input(secint(salary))))
    await mpc.shutdown()
    print(f"Average salary of {parties} people: {total / parties:,.2f}")


if __name__ == "__main__":
    mpc.run(main())
