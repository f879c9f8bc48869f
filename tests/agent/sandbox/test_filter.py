"""The filter of system calls, run by a small interpreter of BPF as either architecture's kernel would."""

import errno
import socket
import struct
from functools import cache

import pytest

from didmpc.agent.sandbox import bpf, syscalls

PID = 4242
MACHINES = ["x86_64", "aarch64"]
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
EPERM, ENOSYS = bpf.refuse(errno.EPERM), bpf.refuse(errno.ENOSYS)


@cache
def steps_of(machine: str) -> list[tuple[int, ...]]:
    rules = syscalls.rules(PID, machine)
    code = bpf.assemble(rules.architecture, rules.allowed, rules.conditional, rules.refused, rules.otherwise)
    return list(struct.iter_unpack("=HBBI", code))


def judge(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter for a machine says of one call."""
    filled = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, architecture or ARCHITECTURE[machine], 0, *filled)
    steps = steps_of(machine)
    value = at = 0
    while True:
        operation, when_true, when_false, constant = steps[at]
        at += 1
        if operation == 0x06:
            return constant
        if operation == 0x20:
            value = struct.unpack_from("<I", data, constant)[0]
        elif operation == 0x54:
            value &= constant
        else:
            assert operation == 0x15
            at += when_true if value == constant else when_false


def numbers(machine: str) -> dict[str, int]:
    column = MACHINES.index(machine)
    tables = (syscalls._ALLOWED, syscalls._CONDITIONAL, syscalls._REFUSED)
    return {name: n for table in tables for name, n in syscalls._numbers(table, column).items()}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_gets_what_its_table_says(machine: str) -> None:
    column = MACHINES.index(machine)
    known = numbers(machine)
    assert len(set(known.values())) == len(known)
    for number in syscalls._numbers(syscalls._ALLOWED, column).values():
        assert judge(machine, number) == bpf.ALLOW
    for number in syscalls._numbers(syscalls._REFUSED, column).values():
        assert judge(machine, number) == EPERM
    for number in set(range(1000)) - set(known.values()) - {285, 47}:
        assert judge(machine, number) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide_where_a_call_can_be_harmless(machine: str) -> None:
    number = numbers(machine)

    def ask(name: str, *arguments: int) -> bool:
        verdict = judge(machine, number[name], *arguments)
        assert verdict in (bpf.ALLOW, EPERM)
        return verdict == bpf.ALLOW

    thread = 0x3D0F00  # what glibc's pthread_create asks for
    assert ask("clone", thread) and not ask("clone", 17) and not ask("clone", thread | 0x10000000)
    assert ask("kill", PID, 6) and not ask("kill", PID + 1, 6)
    assert not ask("kill", 0, 6) and not ask("kill", 2**64 - 1, 6)
    assert ask("tgkill", PID, 1, 6) and not ask("tgkill", 1, 1, 6)
    assert ask("ioctl", 1, 0x5401) and not ask("ioctl", 0, 0x5412)
    assert not ask("ioctl", 0, 0x5412 | 7 << 32)  # the kernel looks at the lower half only
    assert ask("ioctl", 0, 0x5401 | 7 << 32)
    assert ask("fcntl", 0, 4) and not ask("fcntl", 0, 8) and not ask("fcntl", 0, 10)
    assert ask("prctl", 15) and not ask("prctl", 1) and not ask("prctl", 4)
    pair = socket.AF_UNIX, socket.SOCK_STREAM
    assert ask("socketpair", *pair) and ask("socketpair", pair[0], pair[1] | 0x80800)
    assert not ask("socketpair", pair[0], socket.SOCK_DGRAM) and not ask(
        "socketpair", socket.AF_INET, pair[1]
    )
    assert ask("sendto", 3, 1, 1, 0, 0) and not ask("sendto", 3, 1, 1, 0, 1 << 40)
    assert ask("prlimit64", 0) and ask("prlimit64", PID) and not ask("prlimit64", 1)


def test_calls_of_another_architecture_end_the_process() -> None:
    assert judge("x86_64", 4, architecture=0x40000003) == bpf.KILL_PROCESS  # i386, by `int 0x80`
    assert judge("x86_64", 0x40000000 | 41) == ENOSYS  # x32


def test_a_machine_whose_numbers_are_unknown_is_told_apart() -> None:
    assert syscalls.supported("aarch64") and not syscalls.supported("riscv64")
