"""What the tests with the second implementation of session/1.0 have in common."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

JS = Path(__file__).with_name("js-session")


def find_node() -> str:
    """The path of Node; the test is skipped where it is missing or too old."""
    found = shutil.which("node")
    number = re.match(r"v(\d+)", run(found, "--version").stdout) if found else None
    if found is None or number is None or int(number[1]) < 20:
        pytest.skip("the second implementation needs Node 20 or newer")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=JS, capture_output=True, text=True, check=False)


def blocks(name: str, count: int) -> list[bytes]:
    """Messages of many sizes, one of them larger than a record."""
    sizes = [(number * 37) % 300 for number in range(count - 1)] + [300_000]
    return [(hashlib.sha256(f"{name} {size}".encode()).digest() * (size // 32 + 1))[:size] for size in sizes]
