"""What the interpreter and its libraries need to read; the same folders on every start."""

import os
import site
import sys
from collections.abc import Iterable
from pathlib import Path

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_FILES = (
    "/etc/ld.so.cache",
    "/etc/alternatives",  # Debian's libblas and its like
    "/etc/localtime",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_PACKAGE_ROOT = Path(__file__).parents[3]


def interpreter() -> tuple[Path, ...]:
    """Folders and files that exist, none within another."""
    named = [
        *_SYSTEM,
        *_FILES,
        *(sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix),
        os.path.dirname(sys.executable),
        os.path.dirname(os.path.realpath(sys.executable)),
        str(_PACKAGE_ROOT),
        # the first is where this process was started from, and not the program's
        *(sys.path if sys.flags.safe_path else sys.path[1:]),
        *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep),
    ]
    # As it is written, and where it leads: programs may ask for either.
    forms = {form for name in named if name.startswith("/") for form in (name, os.path.realpath(name))}
    paths = [Path(os.path.normpath(form)) for form in forms]
    return _outermost(path for path in paths if path.exists())


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    found = set(paths)
    return tuple(sorted(path for path in found if not any(parent in found for parent in path.parents)))


def exposed(read: Iterable[Path], home: Path) -> str:
    """Why a sandbox that may read these would keep nothing secret; nothing where it does."""
    private = {home.resolve(), *(_persons_home())}
    for path in read:
        opened = path.resolve()
        for secret in private:
            if secret == opened or opened in secret.parents:
                return f"Python finds modules in {path}, which holds {secret}."
    return ""


def _persons_home() -> tuple[Path, ...]:
    try:
        return (Path.home().resolve(),)
    except RuntimeError:  # a user without one
        return ()


def user_base() -> str | None:
    """Where packages that this user installed for themselves are, if Python looks for them."""
    return site.getuserbase() if site.ENABLE_USER_SITE else None
