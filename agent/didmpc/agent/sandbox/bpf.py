"""Rules about system calls, as the program of classic BPF that the kernel runs before each of them.

instruction = u16 code | u8 jump if true | u8 jump if false | u32 k     (linux/filter.h)
it reads      u32 number | u32 architecture | u64 address | u64 arguments[6]   (linux/seccomp.h)
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_NUMBER = 0
_ARCHITECTURE = 4
_ARGUMENTS = 16

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
MOST = 4096  # instructions, BPF_MAXINSNS

_WORD = 0xFFFFFFFF


def refuse(errno: int) -> int:
    """The verdict that a call fails with this error."""
    return _ERRNO | errno


@dataclass(frozen=True, slots=True)
class Test:
    """Whether one argument, of which the bits of `mask` count, is `value`.

    Of a C `int` only the lower half counts, as for the kernel; `wide` is for pointers.
    """

    argument: int
    value: int
    mask: int = _WORD
    wide: bool = False


Instruction = tuple[int, int, int, int]
AnyOf = Sequence[Sequence[Test]]
"""Alternatives, each of tests that must all hold."""


def assemble(
    architecture: int,
    allowed: Iterable[int],
    conditional: Iterable[tuple[int, AnyOf, int]],
    refused: Iterable[tuple[int, int]],
    otherwise: int,
) -> bytes:
    """The program. What it looks for first is answered quickest.

    `conditional` are calls that are allowed where one of the alternatives holds, each with the verdict where
    none does; `refused` are calls with their verdicts. Another architecture's calls end the process.
    """
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in allowed:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, ALLOW)]
    for number, alternatives, verdict in conditional:
        block = [*_any_of(alternatives), (_RETURN, 0, 0, verdict)]
        code += [(_EQUAL, 0, len(block), number), *block]
    for number, verdict in refused:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, verdict)]
    code.append((_RETURN, 0, 0, otherwise))
    if len(code) > MOST:
        raise ValueError("too many rules")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _any_of(alternatives: AnyOf) -> list[Instruction]:
    block: list[Instruction] = []
    for tests in alternatives:
        words = [word for test in tests for word in _words(test)]
        size = 3 * len(words)
        for place, (offset, mask, value) in enumerate(words):
            left = size - 3 * (place + 1) + 1  # up to and with the verdict below
            block += [(_LOAD, 0, 0, offset), (_AND, 0, 0, mask), (_EQUAL, 0, left, value)]
        block.append((_RETURN, 0, 0, ALLOW))
    return block


def _words(test: Test) -> list[tuple[int, int, int]]:
    """Offset, mask and value of each half that counts; both architectures are little endian."""
    offset = _ARGUMENTS + 8 * test.argument
    low = (offset, test.mask & _WORD, test.value & _WORD)
    return [low, (offset + 4, _WORD, test.value >> 32)] if test.wide else [low]
