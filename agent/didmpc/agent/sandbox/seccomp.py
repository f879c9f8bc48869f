"""Gives the kernel the filter of system calls; it holds for this process until it ends."""

import os
import platform
import struct

from didmpc.agent.sandbox import bpf, kernel, syscalls

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
_ALL_THREADS = 1  # SECCOMP_FILTER_FLAG_TSYNC
_INSTRUCTION = 8


def program(own_pid: int) -> bytes:
    """The filter for the process `own_pid` on this machine."""
    rules = syscalls.rules(own_pid)
    return bpf.assemble(rules.architecture, rules.allowed, rules.conditional, rules.refused, rules.otherwise)


def enter() -> None:
    """Filter the calls of this process from now on; it must have given up new privileges. Raises OSError."""
    code = kernel.buffer(program(os.getpid()))
    header = kernel.buffer(struct.pack("=HxxxxxxQ", len(code) // _INSTRUCTION, kernel.address(code)))
    kernel.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, _ALL_THREADS, header)
