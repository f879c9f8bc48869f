"""A function in namespaces of its own that end with it, however it ends.

The function runs as process 1 of new process, network, mount and IPC namespaces. When process 1 ends, the
kernel kills everything in its process namespace; when the last process is gone, so are the networks. It
is killed when its parent dies, and so on up: `kill -9` of any of them leaves nothing behind. `/run`, where
`ip netns` and daemons keep their files, is a file system of its own there.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from didmpc.bench.compare import linux
from didmpc.protocols.errors import DidmpcError, LocalMisuse

PREFIX = "didmpc-compare-"
_FAILED = 70


def raise_unless_root() -> None:
    """Raises LocalMisuse."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise LocalMisuse(
            "Test hosts need root on Linux.",
            why="They are network namespaces, which only root may make.",
            fix="Repeat it with sudo, or measure on loopback only: --profile loopback",
        )


def run_isolated(*functions: Callable[[], None], at_once: int = 1) -> None:
    """Run each as described above, some `at_once`, in order; returns when all of it is gone.

    Raises LocalMisuse without root, the DidmpcError that one of them raised, and DidmpcError when it failed
    in another way; none is left running then.
    """
    raise_unless_root()
    sys.stdout.flush()
    sys.stderr.flush()
    waiting = list(functions)
    started: dict[int, int] = {}
    try:
        while waiting or started:
            while waiting and len(started) < at_once:
                holder, source = _start(waiting.pop(0))
                started[source] = holder
            for source in select.select(list(started), (), ())[0]:
                _wait(started.pop(source), source)
    finally:
        for source, holder in started.items():
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
            os.close(source)


def _start(function: Callable[[], None]) -> tuple[int, int]:
    """The process that holds the others, and where their words come from."""
    parent = os.getpid()
    source, sink = os.pipe()
    holder = os.fork()
    if holder == 0:
        os.close(source)
        _exit_with(lambda: _hold(function, parent, sink), sink)
    os.close(sink)
    return holder, source


def _wait(holder: int, source: int) -> None:
    try:
        with os.fdopen(source, encoding="utf-8") as words:
            said = words.read()  # until all of it has ended
        _, status = os.waitpid(holder, 0)
    except BaseException:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        raise
    if said:
        raise DidmpcError(**json.loads(said))
    if (code := os.waitstatus_to_exitcode(status)) != 0:
        raise DidmpcError("The comparison on test hosts broke off.", why=f"It ended with status {code}.")


def _hold(function: Callable[[], None], parent: int, sink: int) -> int:
    linux.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # process 1 hears it too, and ends in order
    if os.getppid() != parent:
        return _FAILED  # it died before it could be watched
    alive, ours = os.pipe()
    linux.unshare(linux.NEW_PIDS | linux.NEW_NET | linux.NEW_MOUNTS | linux.NEW_IPC)
    first = os.fork()
    if first == 0:
        os.close(ours)
        _exit_with(lambda: _first_process(function, alive), sink)
    os.close(alive)
    _, status = os.waitpid(first, 0)
    return abs(os.waitstatus_to_exitcode(status))


def _first_process(function: Callable[[], None], alive: int) -> int:
    linux.die_with_parent()
    os.set_blocking(alive, False)
    with contextlib.suppress(BlockingIOError):
        if os.read(alive, 1) == b"":
            return _FAILED
    # Process 1 is deaf to signals that it has no handler for.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    linux.keep_mounts_private()
    linux.mount("proc", "/proc")
    linux.mount("tmpfs", "/run")
    os.mkdir("/run/netns")
    function()
    return 0


def _exit_with(body: Callable[[], int], sink: int) -> None:
    """A forked process never returns into its caller; errors meant for people go to `sink`."""
    status = _FAILED
    try:
        status = body()
    except KeyboardInterrupt:
        status = 130
    except DidmpcError as error:
        os.write(sink, json.dumps({"what": error.what, "why": error.why, "fix": error.fix}).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextlib.contextmanager
def work_folder(below: Path) -> Iterator[Path]:
    """A folder that is deleted afterwards; those of runs that were killed are deleted first."""
    for left in below.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (left / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=below))
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
