"""A process locks itself in, for good. It has one thread, and nothing open that the program may not have."""

import contextlib
import os
import resource
from pathlib import Path

from didmpc.agent.sandbox import kernel, landlock, privileges, readable, seccomp
from didmpc.agent.sandbox.policy import Limits, Mechanism, Policy


def enter(policy: Policy) -> None:
    """From here on this process can do what the policy says, and nothing else. Raises OSError."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    alone = policy.mechanism is Mechanism.BUBBLEWRAP or os.geteuid() == 0
    _limit(policy.limits, others=0 if alone else _threads_of_user())
    os.umask(0o077)
    privileges.drop(policy.uid, policy.output)
    if policy.mechanism is Mechanism.LANDLOCK:
        devices = [Path(device) for device in readable.DEVICES]
        landlock.enter([*policy.read, *devices, policy.bundle], [policy.output])
    seccomp.enter()


def _limit(limits: Limits, others: int) -> None:
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, limits.descriptors),
        (resource.RLIMIT_NPROC, limits.threads + others),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))
    _limit_time(limits.cpu_seconds)


def _limit_time(seconds: int) -> None:
    """SIGXCPU says that the time is over; SIGKILL comes a second later to who does not mind that."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    last = seconds + 1 if hard == resource.RLIM_INFINITY else min(seconds + 1, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (min(seconds, last), last))


def _threads_of_user() -> int:
    """The kernel counts a user's threads together: those that others of this user have now are not ours."""
    own, count = os.getuid(), 0
    for process in os.scandir("/proc"):
        if process.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if process.stat().st_uid == own:
                    count += os.stat(f"/proc/{process.name}/task").st_nlink - 2
    return count
