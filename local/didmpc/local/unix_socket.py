"""Unix sockets at any path.

The kernel takes 107 bytes for the path of a socket (unix(7)), and a home may be deeper than that. The
folder is then opened first and the socket named through `/proc/self/fd`, which is always short.
"""

import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from didmpc.protocols.errors import LocalMisuse

LONGEST_PATH = 107 if sys.platform == "linux" else 103


def connect(path: Path, timeout: float | None = None) -> socket.socket:
    """A connected socket. Raises OSError as `socket.connect` does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        with _short(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def listen(path: Path, *, backlog: int = 64) -> socket.socket:
    """A listening socket that only its owner can reach (0600). The leftover of a dead process is replaced.

    The caller holds the lock of the home where two processes might do this at once.
    """
    if is_served(path):
        raise LocalMisuse(f"Another process already listens on {path}.")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise LocalMisuse(f"{path} is in the way.", why="It is no socket.", fix="Move it elsewhere.")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # from its first moment on nobody else may connect
    try:
        with _short(path) as address:
            listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def is_served(path: Path) -> bool:
    """Whether a living process answers at this path."""
    try:
        connect(path, timeout=1.0).close()
    except TimeoutError:
        return True  # its backlog is full: it lives
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield str(path)
        return
    if not os.path.isdir("/proc/self/fd"):
        raise LocalMisuse(
            f"The path {path} is too long for a socket.",
            why=f"This system allows {LONGEST_PATH} bytes.",
            fix="Choose a shorter home with --home DIR or DIDMPC_HOME.",
        )
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
