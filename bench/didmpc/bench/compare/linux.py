"""System calls of Linux that Python 3.11 has no function for."""

import ctypes
import os
import signal

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_PIDS, NEW_NET = 0x00020000, 0x04000000, 0x08000000, 0x20000000, 0x40000000
_PRIVATE, _RECURSIVE = 1 << 18, 1 << 14
_SET_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones. Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def enter_network(descriptor: int) -> None:
    """Move this thread into the network namespace that is open as `descriptor`. Raises OSError."""
    _check(_libc.setns(descriptor, NEW_NET), "setns")


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends."""
    _check(_libc.prctl(_SET_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0), "prctl")


def mount(kind: str, target: str, *, flags: int = 0) -> None:
    """Mount a file system that needs no device. Raises OSError."""
    _check(_libc.mount(kind.encode(), target.encode(), kind.encode(), flags, None), target)


def keep_mounts_private() -> None:
    """What is mounted from now on is seen in this mount namespace only."""
    _check(_libc.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None), "/")


def adopt() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    _check(_libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
