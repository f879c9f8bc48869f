"""Takes what a program has written to where its person wants it, once it has ended."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from didmpc.agent.sandbox.policy import Limits


def written(output: Path, limits: Limits) -> list[Path]:
    """The files in the output folder that are results, relative to it and as many as a program may make.

    Links (the bundle's) are none, nor is what is hidden, or has a name that a terminal cannot show.
    """
    found: list[Path] = []
    waiting = [output]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False) and len(found) < limits.entries:
                found.append(Path(entry.path).relative_to(output))
    return sorted(found)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # deeper than a path can say: no result
        return
    yield from (entry for entry in entries if entry.name.isprintable() and not entry.name.startswith("."))


def keep(output: Path, names: list[Path], destination: Path, limits: Limits) -> None:
    """Copy these to a folder of the person's; nothing there is overwritten. Raises OSError."""
    left = limits.disk
    destination.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        with open(os.open(output / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as source:
            facts = os.fstat(source.fileno())
            left -= facts.st_size
            if not stat.S_ISREG(facts.st_mode) or left < 0:
                continue
            target = destination / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            created = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(created, "wb") as copy:
                shutil.copyfileobj(source, copy)
