"""What one program may read, write and use up."""

import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

MIB = 1024 * 1024
GIB = 1024 * MIB


class Mechanism(StrEnum):
    """What keeps a program in."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    NONE = "none"


def _memory() -> int:
    """Half of this machine's, and never so little that numpy cannot reserve what it never uses."""
    return max(4 * GIB, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use up, in bytes, seconds and counts."""

    memory: int = field(default_factory=_memory)
    """Address space."""
    cpu_seconds: int = 24 * 3600
    file: int = 256 * MIB
    """One file."""
    disk: int = 512 * MIB
    """All that it writes to files together."""
    entries: int = 10_000
    """Files and folders that it makes."""
    descriptors: int = 256
    threads: int = 256


@dataclass(frozen=True, slots=True)
class Policy:
    """One program's place. `output` is its working directory, the only one that it may write to."""

    mechanism: Mechanism
    bundle: Path
    output: Path
    read: tuple[Path, ...]
    uid: int
    """Whom it runs as where we are root; nobody else's."""
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> str:
        """For a command line: no secrets."""
        return json.dumps(asdict(self), default=str, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` made."""
        value = json.loads(text)
        return cls(
            mechanism=Mechanism(value["mechanism"]),
            bundle=Path(value["bundle"]),
            output=Path(value["output"]),
            read=tuple(Path(path) for path in value["read"]),
            uid=int(value["uid"]),
            limits=Limits(**value["limits"]),
        )
