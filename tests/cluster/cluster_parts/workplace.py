"""A folder for whatever a test starts, with which all of it ends: also what a run left that was killed.

Its name is in the environment or the working directory of each process that belongs to it.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from didmpc.bench.cluster import Cluster

PREFIX = f"didmpc-cluster-{os.geteuid()}-"
WITHIN = 60.0


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """The servers' user gets through it, and lists nothing in it."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.chmod(0o711)
        try:
            yield folder
        finally:
            clear(folder)


def sweep() -> None:
    """End and delete what others left that were killed; whoever still runs holds a lock."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (left / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            clear(left)


def clear(folder: Path) -> None:
    until = time.monotonic() + WITHIN
    while found := processes(folder):
        assert time.monotonic() < until, f"processes of {folder} do not end: {found}"
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def processes(folder: Path) -> list[int]:
    """Those that belong to a folder. One that has ended and is not waited for is none any more."""
    pids = (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if pid != os.getpid() and Cluster.belongs(pid, folder)]
