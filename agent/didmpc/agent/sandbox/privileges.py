"""A program of root's does not run as root: it gets a user of its own, which owns nothing but the output.

What is left of root's powers is to read what is root's own: interpreter and bundle may lie in root's folders.
"""

import os
import struct

from didmpc.agent.sandbox import kernel

_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_READ_SEARCH = 1 << 2  # CAP_DAC_READ_SEARCH
NEEDED = ("CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_DAC_READ_SEARCH")
_FIRST, _COUNT = 61184, 4336  # what systemd, too, gives to whom nobody has named (systemd.exec, DynamicUser)


def throwaway_uid(seed: int) -> int:
    """A user id that no person has; another one for each of many seeds."""
    return _FIRST + seed % _COUNT


def drop(uid: int, output: os.PathLike[str]) -> None:
    """As root: become `uid`, who may write to `output`. As anybody else: nothing. Raises OSError."""
    if os.geteuid() != 0:
        return
    os.chown(output, uid, uid)
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    header = kernel.buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    sets = kernel.buffer(struct.pack("=6I", _READ_SEARCH, _READ_SEARCH, 0, 0, 0, 0))
    kernel.syscall(_CAPSET[os.uname().machine], header, sets)
