"""Versions of what is installed, as those say who installed it."""

import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata

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


def python(packages: Iterable[str]) -> dict[str, str]:
    """Version of each Python package of this environment."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = UNKNOWN
    return found
