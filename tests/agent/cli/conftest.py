"""The real console script as a process, and an agent whose every word a test decides."""

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.cli.main import main

SCRIPT = shutil.which("didmpc", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
Json = dict[str, Any]
PATIENCE = 120.0
"""Seconds; nothing that works takes so long, on a slow and busy machine either."""
Method = Callable[["Conversation", Json], None]


class Lines:
    """Newline-delimited JSON on a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")

    def send(self, content: Json) -> None:
        self._connection.sendall(json.dumps(content).encode() + b"\n")

    def receive(self) -> Json | None:
        """The next line; None once the command has hung up."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def says_something_within(self, seconds: float) -> bool:
        return bool(select.select([self._connection], [], [], seconds)[0])

    def close(self) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)


class Conversation(Lines):
    """The agent's side of one request."""

    def event(self, name: str, /, **content: Any) -> None:
        self.send({"event": name, **content})

    def result(self, **content: Any) -> None:
        self.send({"result": content})

    def error(self, what: str, why: str = "", fix: str = "", status: int = 1) -> None:
        self.send({"error": {"what": what, "why": why, "fix": fix, "exit": status}})

    def answer(self) -> Json:
        line = self.receive()
        assert line is not None, "the command hung up before it answered"
        return line["answer"]


class Channel(Lines):
    """The channel process's side of the user interface."""

    def out(self, data: bytes, stream: str = "stdout") -> None:
        self.send({"out": stream, "data": base64.b64encode(data).decode()})

    def end(self, *, ok: bool = True, cause: Json | None = None, **stats: Any) -> None:
        self.send({"event": "ended", "ok": ok, "cause": cause, "exit": 0 if ok else 1, "stats": stats})


class ScriptedAgent:
    """Listens on a control socket and does what a test told it to."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.methods: dict[str, Method] = {}
        self.requests: list[tuple[str, Json]] = []
        self.problems: list[BaseException] = []
        self.channel_listener = _listen(home / "channel.sock")
        self._listener = _listen(home / "agent.sock")
        threading.Thread(target=self._accept, daemon=True).start()

    def answers(self, method: str, **result: Any) -> None:
        self.methods[method] = lambda conversation, params: conversation.result(**result)

    def channel(self) -> Channel:
        """The connection that the command makes after the event `channel`."""
        connection, _ = self.channel_listener.accept()
        return Channel(connection)

    def close(self) -> None:
        self._listener.close()
        self.channel_listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        conversation = Conversation(connection)
        request = conversation.receive()
        if request is None:
            return
        self.requests.append((request["method"], request["params"]))
        try:
            self.methods[request["method"]](conversation, request["params"])
        except BaseException as problem:
            self.problems.append(problem)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(PATIENCE)
    return listener


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def agent(home: Path) -> Iterator[ScriptedAgent]:
    scripted = ScriptedAgent(home)
    yield scripted
    scripted.close()
    assert not scripted.problems, scripted.problems


class Command:
    """Runs `didmpc` with a home of its own."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder
        private = ("DIDMPC_", "DBUS_")  # no settings and no keyring of whoever runs the tests
        names = {name: value for name, value in os.environ.items() if not name.startswith(private)}
        self.environment = names | {"DIDMPC_HOME": str(home), "COLUMNS": "120", "TERM": "xterm"}

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        assert SCRIPT, "the didmpc command is not installed"
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = self.environment | options.pop("env", {})
        return subprocess.Popen([SCRIPT, *arguments], cwd=self.folder, env=environment, **(streams | options))

    def __call__(self, *arguments: str, **options: Any) -> "Result":
        given = options.pop("input", None)
        if given is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **options)
        out, err = communicate(process, given)
        return Result(process.returncode, out or b"", (err or b"").decode())


def communicate(process: "subprocess.Popen[bytes]", given: bytes | None = None) -> tuple[bytes, bytes]:
    """Wait for the end of a command. One that does not end fails the test with what it said."""
    try:
        return process.communicate(given, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"{process.args} did not end; it said:\n{(out or b'').decode()}\n{(err or b'').decode()}")


class Result:
    """How a command ended. Whatever happened, it never ends in a traceback."""

    def __init__(self, status: int, out: bytes, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err
        assert "Traceback" not in err, err
        assert b"Traceback" not in out, out
        self.shown = f"status {status}\n{err}"

    @property
    def json(self) -> Json:
        """The one JSON object that stdout must hold."""
        assert self.out.endswith(b"\n")
        assert self.out.count(b"\n") == 1, self.out
        return json.loads(self.out)


@pytest.fixture
def didmpc(home: Path, tmp_path: Path) -> Command:
    return Command(home, tmp_path)


@pytest.fixture
def typed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """A command line in this process: for what is said of it, where no process is needed to see that."""
    environment = Command(home, tmp_path).environment
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        capfd.readouterr()
        status = main(arguments)
        out, err = capfd.readouterr()
        return Result(status, out.encode(), err)

    return run


@pytest.fixture
def finish() -> Callable[..., Result]:
    """Wait for a started command."""

    def wait(process: "subprocess.Popen[bytes]", interrupt: int = 0) -> Result:
        for number in range(interrupt):
            time.sleep(min(number, 1))  # two that come at the same moment are one
            process.send_signal(signal.SIGINT)
        out, err = communicate(process)
        return Result(process.returncode, out or b"", (err or b"").decode())

    return wait
