"""How much a program has written, looked at from outside while it runs.

Neither mechanism knows quotas. The limits on one file and on open files bound what a program can write
between two looks.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from didmpc.agent.sandbox.policy import MIB, Limits

INTERVAL = 0.25
_BLOCK = 512


def excess(leader: int, output: Path, limits: Limits) -> str:
    """In what the program, `leader` or a descendant of it, has gone beyond the limits; or nothing."""
    written = sum(_written(pid) for pid in descendants(leader))
    entries, size = _occupied(output, limits.entries)
    if entries > limits.entries:
        return f"It made more than {limits.entries:,} files."
    if max(written, size) > limits.disk:
        return f"It wrote more than {limits.disk // MIB} MiB to files."
    return ""


def descendants(leader: int) -> Iterator[int]:
    """The process and those that it has started: with bubblewrap there are two before the program."""
    waiting = [leader]
    while waiting:
        pid = waiting.pop()
        yield pid
        with contextlib.suppress(OSError):
            waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _written(pid: int) -> int:
    """Bytes that a process has caused to be written to storage, into files with and without a name."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return 0


def _occupied(folder: Path, most: int) -> tuple[int, int]:
    """Entries (no further than just beyond `most`) and bytes in a folder whose content is hostile."""
    entries = size = 0
    waiting = [str(folder)]
    while waiting and entries <= most:
        try:
            found = os.scandir(waiting.pop())
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError:  # so deep that its path is too long
            return most + 1, size
        with found:
            for entry in found:
                entries += 1
                if entries > most:
                    break
                with contextlib.suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return entries, size


def remove(folder: Path) -> None:
    """Remove a folder whose content is hostile: nothing is followed, and no depth is too deep.

    What cannot be removed stays.
    """
    with contextlib.suppress(OSError):
        count = 0
        while folders := _remove_files(folder):
            for each in folders:
                for deeper in _remove_files(each):
                    count += 1
                    deeper.rename(folder / f".removed-{os.getpid()}-{count}")
                each.rmdir()
        folder.rmdir()


def _remove_files(folder: Path) -> list[Path]:
    """Remove what is no folder; the folders in it."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            else:
                os.unlink(entry.path)
    return folders
