"""A host of a fleet as contenders see it: what they do there is done by its keeper."""

import base64
import contextlib
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from didmpc.bench.cluster import Running
from didmpc.bench.compare.fleet import keeper
from didmpc.bench.compare.fleet.plan import Place
from didmpc.bench.compare.fleet.wire import Connections, Wire, text_of
from didmpc.bench.compare.hosts import COMMAND_WITHIN, POLL, Host, HostError

Json = dict[str, Any]


class FarRunning(Running):
    """A process there: what it writes and how it ends is told as it happens."""

    def __init__(self, wire: Wire, command: Sequence[str], process: int, pid: int) -> None:
        self.command = " ".join(command)
        self.process = process
        self._wire = wire
        self._pid = pid
        self._status: int | None = None
        self._written = {"stdout": bytearray(), "stderr": bytearray()}

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def stdout(self) -> str:
        return self._written["stdout"].decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self._written["stderr"].decode(errors="replace")

    def poll(self) -> int | None:
        """Its status. Raises HostError when the host is lost."""
        if self._status is None:
            self._wire.raise_if_lost()
        return self._status

    def send(self, number: signal.Signals) -> None:
        if self._status is None:
            with contextlib.suppress(HostError):  # on a host that is lost everything ends by itself
                self._wire.ask("signal", process=self.process, number=int(number))

    def kill(self) -> None:
        if self._status is None:
            with contextlib.suppress(HostError):
                self._wire.ask("kill", process=self.process)
                self.wait()

    def heard(self, said: Json) -> None:
        """What the keeper tells of it."""
        if "status" in said:
            self._status = int(said["status"])
        elif len(written := self._written[said["stream"]]) < 2 * keeper.MOST_OUTPUT:
            written += text_of(said)


class FarHost(Host):
    """From `open` to `close` it is connected."""

    is_near = False

    def __init__(self, connections: Connections, place: Place, known_hosts: Path) -> None:
        super().__init__(place.name, place.address, Path("/"))
        self.python = Path(place.python)
        self.user, self.is_root = place.user, False
        self.label = place.label
        self._wire = Wire(connections, place, known_hosts, self._heard)
        self._processes: dict[int, FarRunning] = {}
        self._early: dict[int, list[Json]] = {}
        self._telling = threading.Lock()
        self._staged: dict[Path, Path] = {}

    def open(self) -> None:
        """Connect. Raises HostError."""
        greeting = self._wire.open()
        self.folder, self.user = Path(str(greeting["folder"])), str(greeting["user"])
        self.is_root = bool(greeting["root"])

    def close(self) -> None:
        """Let the host take back all that was done there."""
        self._wire.close()

    def about(self) -> Json:
        """Its machine, and where it is."""
        said: Json = self._wire.ask("about")
        return {"host": self.name, "address": self.address, "label": self.label} | said

    def versions(self, python: Sequence[str], debian: Sequence[str]) -> Json:
        """Of packages there."""
        said: Json = self._wire.ask("versions", python=list(python), debian=list(debian))
        return said

    def cpu_seconds(self) -> float:
        """Of all that was started there so far."""
        return float(self._wire.ask("cpu"))

    def processes(self) -> int:
        """How many of these there are."""
        return int(self._wire.ask("processes"))

    def _heard(self, said: Json) -> None:
        number = int(said["process"])
        with self._telling:
            if (running := self._processes.get(number)) is not None:
                running.heard(said)
            else:  # before `start` knows its number
                self._early.setdefault(number, []).append(said)

    # --- files

    def put(self, name: str, data: bytes) -> Path:
        for offset in range(0, max(1, len(data)), keeper.PIECE):
            piece = base64.b64encode(data[offset : offset + keeper.PIECE]).decode()
            self._wire.ask("put", name=name, data=piece, more=offset > 0)
        return self.folder / name

    def get(self, name: str) -> bytes:
        data, size = b"", 1
        while len(data) < min(size, keeper.MOST_FILE):
            said = self._wire.ask("get", name=name, offset=len(data))
            piece, size = base64.b64decode(said["data"]), int(said["size"])
            if not piece:
                break
            data += piece
        return data

    def exists(self, name: str) -> bool:
        return bool(self._wire.ask("exists", name=name))

    def stage(self, folder: Path) -> Path:
        if folder not in self._staged:
            place = f"staged/{len(self._staged)}"
            for path in sorted(folder.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    self.put(f"{place}/{path.relative_to(folder)}", path.read_bytes())
            self._staged[folder] = self.folder / place
        return self._staged[folder]

    def home(self, path: Path) -> Path:
        return self.folder / "homes" / path.name

    # --- anything else

    def quietly(self, *command: str | Path, within: float = COMMAND_WITHIN) -> str:
        running = self._start(command, {})
        until = time.monotonic() + within
        while (status := running.poll()) is None:
            if time.monotonic() > until:
                running.kill()
                raise HostError(f"{command[0]} on {self.name} did not end within {within:g} s.")
            time.sleep(POLL)
        with self._telling:
            self._processes.pop(running.process, None)
        if status != 0:
            raise self.failed(command, status, running.stderr.strip() or running.stdout)
        return running.stdout

    def start(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> Running:
        running = self._start(command, dict(environment or {}))
        self.running.append(running)
        return running

    def _start(self, command: Sequence[str | Path], environment: dict[str, str]) -> FarRunning:
        words = [str(part) for part in command]
        said = self._wire.ask("start", command=words, environment=environment)
        running = FarRunning(self._wire, words, int(said["process"]), int(said["pid"]))
        with self._telling:
            for early in self._early.pop(running.process, ()):
                running.heard(early)
            self._processes[running.process] = running
        return running

    def listens(self, running: Running, port: int, *, udp: bool = False) -> bool:
        assert isinstance(running, FarRunning)
        self.raise_if_ended(running)
        return bool(self._wire.ask("listening", process=running.process, port=port, udp=udp))

    def undo_later(self, command: Sequence[str]) -> None:
        self._wire.ask("undo", command=list(command))

    def missing(self, commands: Sequence[str]) -> list[str]:
        return list(self._wire.ask("missing", commands=list(commands)))

    def free_port(self) -> int:
        return int(self._wire.ask("free_port"))

    def is_sandboxed(self) -> bool | None:
        return bool(self._wire.ask("sandboxed"))

    def stop(self) -> None:
        with contextlib.suppress(HostError):
            self._wire.ask("clear")
        self.running.clear()
        with self._telling:
            self._processes.clear()
            self._early.clear()
        self._staged.clear()
