"""Runs on a host of a fleet while it is measured: does what it is told on stdin, and tells what happens.

    python -m didmpc.bench.compare.fleet.keeper

One JSON object on each line, both ways. It begins with one that says who it is. A request has a `do` (a
method of `Keeper` below) and an `id`; its answer has the `id`, and `value` or `error`. Unasked it tells what
processes write (`process`, `stream`, `data`) and how they ended (`process`, `status`).

When stdin ends, or nothing comes for a minute, it kills all that it started, wherever that has put itself,
takes back what it was told to, and deletes its folder. So nothing stays behind when the bench is killed or
its network goes.
"""

import base64
import contextlib
import getpass
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from didmpc.agent.sandbox.choice import choose
from didmpc.bench.cluster import Started
from didmpc.bench.compare import cpu, hosts, linux, software
from didmpc.bench.compare.isolate import work_folder
from didmpc.bench.mediator.machine import machine

VERSION = 1
SILENCE = 60.0
"""Seconds without a line from the bench after which it is gone; it says something every `BEAT`."""
BEAT = 5.0
TICK = 0.02
MOST_LINE = 2 << 20
MOST_OUTPUT = 4 << 20
"""Octets that are told of each stream of a process."""
MOST_FILE = 16 << 20
PIECE = 512 << 10
PLACE = Path("/var/tmp")  # noqa: S108  (a folder of our own is made in it)
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_UNDO_WITHIN = 20.0
Json = dict[str, Any]


class Gone(Exception):
    """There is nobody to work for any more."""


class Keeper:
    """Public methods are requests; each takes the fields of its line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[int, Started] = {}
        self._told: dict[int, list[int]] = {}
        self._undo: list[list[str]] = []
        self._count = 0

    # --- requests

    def beat(self) -> None:
        """The bench is there."""

    def about(self) -> Json:
        """What figures mean nothing without."""
        return machine(self._folder)

    def versions(self, python: list[str], debian: list[str]) -> Json:
        return software.python(python) | software.debian(debian)

    def sandboxed(self) -> bool:
        return bool(choose(Path.home() / ".didmpc"))

    def missing(self, commands: list[str]) -> list[str]:
        return hosts.missing(commands)

    def free_port(self) -> int:
        return hosts.free_port()

    def cpu(self) -> float:
        return cpu.seconds_below(os.getpid())

    def processes(self) -> int:
        return cpu.processes_below(os.getpid())

    def start(self, command: list[str], environment: dict[str, str]) -> Json:
        logs = self._folder / "logs"
        logs.mkdir(exist_ok=True)
        self._count += 1
        started = Started(
            command,
            environment=hosts.environment() | environment,
            cwd=self._folder,
            logs=logs,
            name=f"{self._count:04d}",
        )
        self._started[self._count] = started
        self._told[self._count] = [0, 0]
        return {"process": self._count, "pid": started.pid}

    def signal(self, process: int, number: int) -> None:
        if (started := self._started.get(process)) is not None:
            started.send(signal.Signals(number))

    def kill(self, process: int) -> None:
        if (started := self._started.get(process)) is not None:
            started.kill()

    def listening(self, process: int, port: int, udp: bool) -> bool:
        started = self._started.get(process)
        return started is not None and hosts.listening(started.pid, port, udp=udp)

    def put(self, name: str, data: str, more: bool) -> None:
        """A piece of a file, the first one unless there is `more` of it already."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        how = os.O_APPEND if more else os.O_TRUNC
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), "wb") as file:
            file.write(base64.b64decode(data))

    def get(self, name: str, offset: int) -> Json:
        """A piece of a file from `offset` on."""
        with self._path(name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_FILE:
                raise OSError(f"it is larger than {MOST_FILE >> 20} MiB")
            file.seek(offset)
            return {"data": base64.b64encode(file.read(PIECE)).decode(), "size": size}

    def exists(self, name: str) -> bool:
        return self._path(name).exists()

    def undo(self, command: list[str]) -> None:
        """Run this when everything is taken back."""
        self._undo.append(command)

    def clear(self) -> None:
        """End all processes, take back what was done outside of the folder, and empty that."""
        for started in self._started.values():
            started.send(signal.SIGTERM)
        until = time.monotonic() + 3.0
        while time.monotonic() < until and any(each.poll() is None for each in self._started.values()):
            time.sleep(TICK)
        self.kill_all()
        self._started.clear()
        self._told.clear()
        while self._undo:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    self._undo.pop(),
                    env=hosts.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_UNDO_WITHIN,
                    check=False,
                )
        for path in sorted(self._folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
            if path != self._folder / "lock":
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()

    def _path(self, name: str) -> Path:
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise OSError("it is not below the folder of the bench")
        return path

    # --- processes

    def kill_all(self) -> None:
        """Everything below this process; what loses its parent becomes a child of it (`linux.adopt`)."""
        while left := list(descendants(os.getpid())):
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            time.sleep(TICK)

    def reap(self) -> None:
        """Of those that have ended: ours keep their status, adopted ones are let go."""
        own = {started.pid: started for started in self._started.values()}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid in own:
                    own[ended.si_pid].poll()
                else:
                    os.waitpid(ended.si_pid, os.WNOHANG)

    def news(self) -> Iterator[Json]:
        """What has been written, and which processes have ended, since the last time."""
        self.reap()
        for process, started in list(self._started.items()):
            told = self._told.get(process)
            if told is None:
                continue
            status = started.poll()  # before the last look at what it wrote
            for number, (stream, path) in enumerate(started.files()):
                while told[number] < MOST_OUTPUT and (piece := _piece(path, told[number])):
                    told[number] += len(piece)
                    yield {
                        "process": process,
                        "stream": stream,
                        "data": base64.b64encode(piece).decode(),
                    }
            if status is not None:
                del self._told[process]
                yield {"process": process, "status": status}

    # --- lines

    def answer(self, line: bytes) -> Json:
        """What to say to a request; a wrong one is an error, and no end."""
        number = None
        try:
            request = json.loads(line)
            number, name = request.pop("id"), request.pop("do")
            if name not in REQUESTS:
                raise ValueError(f"no such request: {name}")
            return {"id": number, "value": getattr(self, name)(**request)}
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            return {"id": number, "error": (str(error) or type(error).__name__)[:1000]}


REQUESTS = frozenset(
    "beat about versions sandboxed missing free_port cpu processes start signal kill listening "
    "put get exists undo clear".split()
)


def _piece(path: Path, offset: int) -> bytes:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE)
    return b""


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid` that has not ended."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                yield from descendants(int(child))
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                        yield int(child)


class Lines:
    """JSON lines on two descriptors; raises Gone when nobody reads or writes them."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        self._read = b""
        self._heard = time.monotonic()

    def say(self, value: Json) -> None:
        left = memoryview(json.dumps(value).encode() + b"\n")
        while left:
            _, writable, _ = select.select((), [self._sink], (), SILENCE)
            if not writable:
                raise Gone
            try:
                left = left[os.write(self._sink, left[: select.PIPE_BUF]) :]
            except OSError:
                raise Gone from None

    def heard(self, within: float) -> Iterator[bytes]:
        """Lines that came meanwhile. Raises Gone when there will be no more."""
        readable, _, _ = select.select([self._source], (), (), within)
        now = time.monotonic()
        if not readable:
            if now - self._heard > SILENCE:
                raise Gone
            return
        self._heard = now
        data = os.read(self._source, 1 << 16)
        if not data:
            raise Gone
        *lines, self._read = (self._read + data).split(b"\n")
        if len(self._read) > MOST_LINE:
            raise Gone
        yield from lines


def serve(folder: Path, lines: Lines) -> None:
    """Until there is nobody to work for."""
    keeper = Keeper(folder)
    try:
        with contextlib.suppress(Gone):
            lines.say(
                {
                    "keeper": VERSION,
                    "didmpc": metadata.version("didmpc"),
                    "folder": str(folder),
                    "user": getpass.getuser(),
                    "root": os.geteuid() == 0,
                }
            )
            while True:
                for line in lines.heard(TICK):
                    lines.say(keeper.answer(line))
                for each in keeper.news():
                    lines.say(each)
    finally:
        keeper.clear()


def main() -> None:
    def leave(number: int, frame: object) -> None:
        for each in ENDING:  # once is enough: what follows is not to be broken off
            signal.signal(each, signal.SIG_IGN)
        raise Gone

    linux.adopt()
    for number in ENDING:
        signal.signal(number, leave)
    os.umask(0o077)
    # A second copy of stdout: what a library may print goes to stderr, and never between two lines.
    sink = os.dup(1)
    os.dup2(2, 1)
    with contextlib.suppress(Gone), work_folder(PLACE) as folder:
        serve(folder, Lines(0, sink))


if __name__ == "__main__":
    main()
