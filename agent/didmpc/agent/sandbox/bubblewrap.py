"""A file system and a network of its own for a program: bubblewrap, with namespaces of users where needed."""

import errno
import os
import shutil
import stat
from pathlib import Path

from didmpc.agent.sandbox import privileges, readable
from didmpc.agent.sandbox.policy import Policy


def installed() -> str | None:
    """The path of `bwrap`, where it is installed and no set-uid program: that would outlive its parent."""
    path = shutil.which("bwrap")
    if path is None or os.stat(path).st_mode & stat.S_ISUID:
        return None
    return path


def found() -> str:
    """The same. Raises FileNotFoundError."""
    path = installed()
    if path is None:
        raise FileNotFoundError(errno.ENOENT, "bubblewrap has gone", "bwrap")
    return path


def options(policy: Policy) -> list[str]:
    """What `bwrap` is told: nothing is there but what `policy` names."""
    places: list[str] = []
    for path in policy.read:
        places += _place(path)
    for device in readable.DEVICES:
        places += ["--dev-bind-try", device, device]
    places += ["--ro-bind", str(policy.bundle), str(policy.bundle)]
    places += ["--bind", str(policy.output), str(policy.output), "--remount-ro", "/"]
    return [
        *_namespaces(),
        "--die-with-parent",
        "--hostname",
        "didmpc",
        *places,
        "--chdir",
        str(policy.output),
    ]


def _place(path: Path) -> list[str]:
    if path.is_symlink() and len(path.parts) == 2:  # /lib -> usr/lib
        return ["--symlink", os.readlink(path), str(path)]
    return ["--ro-bind-try", str(path), str(path)]


def _namespaces() -> list[str]:
    if os.geteuid() != 0:
        return ["--unshare-all"]
    # Root stays in its namespace of users, to become somebody else (privileges.py).
    kept = [word for each in privileges.NEEDED for word in ("--cap-add", each)]
    apart = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    return [*apart, "--cap-drop", "ALL", *kept]
