"""A secret vote: everyone learns which option won, nobody learns a vote, or by how much it won.

The options are the program's arguments (`didmpc run vote.py -- tea coffee water`), else yes and no.
Each party names one of them. The votes are added up secretly; each option's count is compared with the
highest, and only those comparisons are opened. Two winners are a tie.
"""

from mpyc.runtime import mpc
from private_input import ask, program_arguments

MOST_OPTIONS = 20


def one_of(options: list[str]):
    def parse(text: str) -> int:
        matches = [i for i, option in enumerate(options) if option.casefold() == text.casefold()]
        if not matches:
            raise ValueError(f"{text!r} is none of: {', '.join(options)}.")
        return matches[0]

    return parse


async def main() -> None:
    options = program_arguments() or ["yes", "no"]
    if not 2 <= len(options) <= MOST_OPTIONS or len({o.casefold() for o in options}) < len(options):
        raise SystemExit(
            f"Give from 2 to {MOST_OPTIONS} different options:  didmpc run vote.py -- tea coffee"
        )
    mine = ask(f"Your vote, one of {', '.join(options)}:", one_of(options))

    parties = len(mpc.parties)
    secint = mpc.SecInt(parties.bit_length() + 2)
    await mpc.start()
    ballots = mpc.input([secint(int(i == mine)) for i in range(len(options))])
    counts = [mpc.sum(list(column)) for column in zip(*ballots, strict=True)]
    highest = mpc.max(counts)
    won = await mpc.output([count == highest for count in counts])
    await mpc.shutdown()

    winners = [option for option, flag in zip(options, won, strict=True) if flag]
    if len(winners) == 1:
        print(f"{parties} votes. The winner: {winners[0]}")
    else:
        print(f"{parties} votes. A tie between: {', '.join(winners)}")


if __name__ == "__main__":
    mpc.run(main())
