"""The local witness of the program process: starts it, sees it end, ends it (session.md, 1 and 6)."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import NamedTuple

from didmpc.agent.channel.limits import MIB
from didmpc.agent.sandbox import disk, readable, results
from didmpc.agent.sandbox.choice import policy_for
from didmpc.agent.sandbox.policy import Limits, Mechanism
from didmpc.agent.sandbox.start import lay_out, start

_KEPT = (
    "PATH", "LANG", "LANGUAGE", "TZ", "TERM", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
)  # fmt: skip
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_REUSED = 32 * MIB  # the most that glibc allows
_KEPT_FREE = 128 * MIB
_SIGNALLED = 128  # how bwrap, as a shell, tells the signal that ended a program
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def close_to_others() -> None:
    """Keep the keys in our memory from core dumps and from this user's other processes: the program's."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  not on every platform

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _libc is not None:
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def keep_memory() -> None:
    """Have glibc reuse large blocks: fresh ones cost more page faults than sealing (performance.md)."""
    if _libc is not None and hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_REUSED)
        _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE)


def environment(output: Path) -> dict[str, str]:
    """What the program may see of our environment: where things are installed, and nothing that is ours."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
    # the same for the program as `keep_memory` does for us
    malloc = {"MALLOC_MMAP_THRESHOLD_": str(_LARGEST_REUSED), "MALLOC_TRIM_THRESHOLD_": str(_KEPT_FREE)}
    if (base := readable.user_base()) is not None:
        kept["PYTHONUSERBASE"] = base  # which Python would look for in the home
    return kept | malloc | {"HOME": str(output), "TMPDIR": str(output), "PYTHONUNBUFFERED": "1"}


def _dies_with(parent: int) -> Callable[[], None] | None:
    """For the child, before exec: the kernel kills it when we die, however we die."""
    libc = _libc
    if libc is None:
        return None

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # we died before the line above
            os._exit(1)

    return before_exec


class Exit(NamedTuple):
    """Why a program has ended: the kind of a cause, why, and what peers are told of it."""

    kind: str
    why: str = ""
    told: str = ""


class Program:
    """The program process. It leads a process group of its own, so what it starts ends with it."""

    def __init__(self, directory: Path, bridge: socket.socket, sandbox: Mechanism, limits: Limits) -> None:
        """Start it, with `bridge` as the only thing it inherits. Raises OSError.

        `directory` has the bundle in `bundle`; what the program writes goes to `output` beside it.
        """
        self.sandbox = sandbox
        self._limits = limits
        self._output = directory / "output"
        self._killed_for_memory = _killed_for_memory()
        lay_out(directory / "bundle", self._output)
        self._process = start(
            policy_for(sandbox, directory / "bundle", self._output, limits),
            "didmpc.agent.program",
            [str(bridge.fileno())],
            environment=environment(self._output),
            inherited=[bridge.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_dies_with(os.getpid()),
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self.stdin, self.stdout, self.stderr = (
            self._process.stdin,
            self._process.stdout,
            self._process.stderr,
        )
        self._exit = asyncio.get_running_loop().run_in_executor(None, self._wait)

    def _wait(self) -> int:
        """In a thread of its own: see the end, end what the program left behind, and only then bury it."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal_group(signal.SIGKILL)
        return self._process.wait()

    async def exited(self) -> int:
        """The exit code; negative when a signal ended it."""
        code = await asyncio.shield(self._exit)
        told_by_shell = self.sandbox is Mechanism.BUBBLEWRAP and code > _SIGNALLED
        return _SIGNALLED - code if told_by_shell else code

    def explain(self, code: int) -> Exit | None:
        """Why it has ended, unless all is well."""
        confined = self.sandbox is not Mechanism.NONE
        return explain_exit(
            code,
            cpu_seconds_left=self._limits.cpu_seconds - _cpu_seconds() if confined else inf,
            memory_ran_out=_killed_for_memory() > self._killed_for_memory,
        )

    async def goes_too_far(self) -> str:
        """Wait until the program has written more than it may, and say so; or nothing once it has ended."""
        while self.sandbox is not Mechanism.NONE and not self._exit.done():
            await asyncio.wait({self._exit}, timeout=disk.INTERVAL)
            excess = await asyncio.to_thread(disk.excess, self._process.pid, self._output, self._limits)
            if excess:
                return excess
        return ""

    async def keep_files(self, destination: Path | None) -> dict[str, int | str]:
        """Once it has ended: take the files that it wrote there, if anywhere; how many there are."""
        names = await asyncio.to_thread(results.written, self._output, self._limits)
        told: dict[str, int | str] = {"files": len(names)}
        if destination is not None:
            try:
                await asyncio.to_thread(results.keep, self._output, names, destination, self._limits)
            except OSError as error:
                told["files_problem"] = error.strerror or str(error)
        return told

    async def end(self, grace: float) -> None:
        """Make sure that it has ended: SIGTERM, and after `grace` seconds SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._exit.done():
                break
            self._signal_group(number)
            if number == signal.SIGTERM:
                self._signal_group(signal.SIGCONT)  # a stopped process does not hear SIGTERM
            await asyncio.wait({self._exit}, timeout=grace)
        await self.exited()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def explain_exit(code: int, *, cpu_seconds_left: float = inf, memory_ran_out: bool = False) -> Exit | None:
    """What an exit code says that is no success."""
    if code == 0:
        return None
    if code > 0:
        return Exit("failed", f"Its exit code was {code}.")
    if -code == signal.SIGXCPU or (-code == signal.SIGKILL and cpu_seconds_left <= 0):
        return Exit("time-limit")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    why = f"It was ended by signal {-code} ({name})."
    if -code == signal.SIGKILL and memory_ran_out:
        why += " The system ran out of memory meanwhile and killed something, perhaps this program."
    return Exit("killed", why, told=why)


def _killed_for_memory() -> int:
    """How many processes this system has killed since it started because memory ran out."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _cpu_seconds() -> float:
    """Processor time of our children that have ended: of the program."""
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415  not on every platform

        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    return 0.0
