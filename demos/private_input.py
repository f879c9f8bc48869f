"""How the demo programs read what is private to a party: from standard input, checked before use.

Standard input is a file (`didmpc run --input FILE`), or a person who types. Questions and complaints
go to standard error, so that standard output holds results only.

With `--sample` a program takes the example input of its party number from `inputs/`: for trying it on
one machine, `python salary.py -M3 --sample`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mpyc.runtime import mpc

T = TypeVar("T")


def program_arguments() -> list[str]:
    """What stands after the program's name, without the flags of this module."""
    return [argument for argument in sys.argv[1:] if argument != "--sample"]


def ask(question: str, parse: Callable[[str], T]) -> T:
    """The first line that `parse` accepts. It says no by a ValueError with a sentence for the person."""
    if (sample := _sample()) is not None:
        return parse(sample.partition("\n")[0].strip())
    _say(question)
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            return parse(line.strip())
        except ValueError as complaint:
            _say(f"{complaint} Once more:")
    raise SystemExit(_no_input("The input ended before an answer."))


def read_table(question: str, parse: Callable[[str], T]) -> T:
    """All of standard input, parsed in one piece."""
    text = _sample()
    if text is None:
        _say(question)
        text = sys.stdin.read()
    if not text.strip():
        raise SystemExit(_no_input("The input is empty."))
    try:
        return parse(text)
    except ValueError as complaint:
        raise SystemExit(f"The input cannot be used: {complaint}") from None


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Accepts a whole number in a range; a secure integer beyond its bit length would give nonsense."""

    def parse(text: str) -> int:
        digits = text.replace("_", "").replace(",", "")
        try:
            number = int(digits)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number.") from None
        if not low <= number <= high:
            raise ValueError(f"{number:,} is not between {low:,} and {high:,}.")
        return number

    return parse


def _sample() -> str | None:
    if "--sample" not in sys.argv[1:]:
        return None
    program = Path(sys.argv[0])
    files = sorted((program.parent / "inputs" / program.stem).glob("*"))
    if not files:
        raise SystemExit(_no_input(f"There are no sample inputs for {program.name} here."))
    return files[mpc.pid % len(files)].read_text(encoding="utf-8")


def _no_input(what: str) -> str:
    name = Path(sys.argv[0]).name
    return (
        f"{what} Type it when asked, or give a file:  didmpc run {name} --input FILE\n"
        f"To try the program with sample inputs on this machine:  python {name} -M3 --sample"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
