"""Which files a process may touch: Landlock, for a kernel without anything that must be installed.

Interface: linux/landlock.h. ABI 1 came with Linux 5.13; truncation is covered from 3 (6.2), TCP from 4 (6.7),
device ioctls from 5 (6.10), abstract sockets and signals from 6 (6.12).
"""

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from didmpc.agent.sandbox import kernel

LEAST = 3
"""Before, a program could empty files that it may only read."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on all architectures
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG = 1 << 7, 1 << 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_ALL_OF_ABI = {3: 1 << 15, 4: 1 << 15}
_ALL_SINCE_5 = 1 << 16  # with IOCTL_DEV
_TCP = 1 | 2  # BIND_TCP, CONNECT_TCP
_SCOPES = 1 | 2  # ABSTRACT_UNIX_SOCKET, SIGNAL

READ = _READ_FILE | _READ_DIR
WRITE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE


def abi() -> int:
    """What this kernel has; 0 where it has none, or where it is switched off."""
    try:
        return kernel.syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def enter(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Refuse this process, from now on, all files but these. Raises OSError."""
    version = abi()
    handled = _ALL_OF_ABI.get(version, _ALL_SINCE_5) - 1
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", _TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPES)
    ruleset = kernel.syscall(_CREATE_RULESET, kernel.buffer(attributes), len(attributes), 0)
    try:
        for paths, rights in ((readable, READ), (writable, WRITE)):
            for path in paths:
                _allow(ruleset, path, rights)
        kernel.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # what is not there cannot be read
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = kernel.buffer(struct.pack("=Qi", rights, descriptor))  # packed in the header, too
        kernel.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)
