"""Versions of what is installed, as those say who installed it."""

import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

UNKNOWN = "of unknown version"
"""Of what is not installed, or not from a package."""


def debian(packages: Iterable[str]) -> dict[str, str]:
    """Version of each Debian package; what dpkg does not know is UNKNOWN."""
    wanted = list(dict.fromkeys(packages))
    found = dict.fromkeys(wanted, UNKNOWN)
    if not wanted or shutil.which("dpkg-query") is None:
        return found
    said = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,  # fails as a whole where it does not know one of them
    )
    for line in said.stdout.splitlines():
        package, version, status = line.split("\t")
        if package in found and status == "installed":
            found[package] = version
    return found


def revision() -> dict[str, str]:
    """The commit that this package is from, in a git checkout; with + where that was changed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    if shutil.which("git") is None:
        return {}
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=30, check=False
    )
    if head.returncode != 0:
        return {}
    changes = [*git, "status", "--porcelain", "--untracked-files=no"]
    changed = subprocess.run(changes, capture_output=True, text=True, timeout=30, check=False).stdout
    return {"revision": head.stdout.strip() + ("+" if changed.strip() else "")}


def python(packages: Iterable[str]) -> dict[str, str]:
    """Version of each Python package of this environment."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = UNKNOWN
    return found
