"""What the measurement ran on."""

import os
import platform
import sqlite3
from importlib import metadata
from pathlib import Path
from typing import Any


def machine(directory: Path) -> dict[str, Any]:
    """The facts that figures mean nothing without."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "event_loop": f"uvloop {metadata.version('uvloop')}",
        "sqlite": sqlite3.sqlite_version,
        "aiohttp": metadata.version("aiohttp"),
        "cryptography": metadata.version("cryptography"),
        "didmpc": metadata.version("didmpc"),
        "filesystem": filesystem(directory),
        "load_before": round(os.getloadavg()[0], 2),
    }


def filesystem(directory: Path) -> str:
    """The kind of file system a folder is on; on `tmpfs` nothing is durable, and commits cost nothing."""
    place = str(directory.resolve())
    kind, longest = "unknown", -1
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, found, *_ = line.split()
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:
            kind, longest = found, len(point)
    return kind


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()
