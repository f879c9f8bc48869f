"""A file that holds disk space for the day the disk is full.

Deleting needs space too: a database writes down first what it is going to change. When somebody has filled
the disk, the ballast is let go, so that acknowledgements go on and mailboxes can be emptied.
"""

import contextlib
import os
import shutil
import threading
from pathlib import Path

from didmpc.local.private_files import give_to_owner


class Ballast:
    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._lock = threading.Lock()
        self.is_held = size == 0 or self._is_there()

    def hold(self, spare: int) -> bool:
        """Take the space, if so many bytes stay free beside it; whether it is held now."""
        if self.is_held:
            return True
        with self._lock:
            if shutil.disk_usage(self._path.parent).free < self._size + spare:
                return False
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    give_to_owner(descriptor, self._path.parent)
                    _allocate(descriptor, self._size)
                finally:
                    os.close(descriptor)
                self.is_held = True
            except OSError:
                self._path.unlink(missing_ok=True)
        return self.is_held

    def release(self) -> None:
        """Give the space back to the disk."""
        with self._lock:
            self.is_held = self._size == 0
            self._path.unlink(missing_ok=True)

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return self._path.stat().st_blocks * 512 >= self._size
        return False


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    block = os.urandom(1 << 16)  # nothing that a file system could leave out or squeeze
    while size > 0:
        size -= os.write(descriptor, block[:size])
