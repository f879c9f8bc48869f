"""What the parties compute: each program ends with a line of JSON that says what it measured."""

import shutil
from dataclasses import dataclass
from pathlib import Path

MARK = "didmpc-bench "
"""Begins the line that the bench reads."""
MARKER = "didmpc-marker-77"
"""What the blocks of the bulk benchmark consist of: where a capture holds it, contents can be read."""
_HERE = Path(__file__).parent
_TIMED = '''"""{name}, unmodified, and timed from when the parties are connected until it has finished."""

from typing import TYPE_CHECKING

import timed

if TYPE_CHECKING:
    import {name}

timed.run("{name}.py")
'''


@dataclass(frozen=True, slots=True)
class Work:
    """A program with its arguments, staged in a folder of its own."""

    name: str
    program: Path
    arguments: tuple[str, ...] = ()
    data: bool = False
    """Whether there is a folder `data` beside it."""


def micro(folder: Path, *, rounds: int, size: int, times: int) -> Work:
    """Both micro-benchmarks: `rounds` rounds, then `times` transfers of `size` bytes to each other party."""
    return Work("micro", _stage(folder, "micro.py"), (str(rounds), str(size), str(times), MARKER))


def demo(folder: Path, program: Path, *arguments: str) -> Work:
    """An MPyC program that knows nothing of us, with the `data/` beside it."""
    _stage(folder, "timed.py")
    shutil.copy(program, folder / program.name)
    data = program.parent / "data"
    if data.is_dir():
        shutil.copytree(data, folder / "data", dirs_exist_ok=True)
    entry = folder / f"timed_{program.stem}.py"
    entry.write_text(_TIMED.format(name=program.stem))
    return Work(program.stem, entry, arguments, data=data.is_dir())


def _stage(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(_HERE / name, folder / name))
