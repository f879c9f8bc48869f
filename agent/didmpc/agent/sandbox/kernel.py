"""System calls that Python has no function for."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """A raw system call; buffers go by their address. Raises OSError."""
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *passed))
    if result < 0:
        raise _error()
    return result


def prctl(option: int, value: int) -> None:
    """Raises OSError."""
    unused = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), unused, unused, unused) < 0:
        raise _error()


def buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Bytes at an address of their own."""
    return ctypes.create_string_buffer(data, len(data))


def address(data: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(data)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
