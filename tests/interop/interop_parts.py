"""The other side of `didcomm_peer.py`, and the mediator as a process."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".cache" / "didcomm-venv" / "bin" / "python"
SCRIPT = Path(__file__).parent / "didcomm_peer.py"
PATIENCE = 30.0

Json = dict[str, Any]


class PeerRefused(Exception):
    """The peer answered with an error."""


class Child:
    """A process that writes lines on stdout; ended by its own id when the block is left."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        with self._log.open("w") as stderr:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.communicate()

    def tell(self, value: Json) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """The next line as JSON. There is never more than one on its way."""
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], PATIENCE)[0]
        line = self._process.stdout.readline() if ready else ""
        if not line:
            pytest.fail(f"{self._command} said nothing more.\n{self._log.read_text()}", pytrace=False)
        return json.loads(line)


class Peer:
    """PyPI `didcomm`, with the keys of the DIDs that it made."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def do(self, name: str, **arguments: Any) -> Any:
        self._child.tell({"do": name, **arguments})
        answer = self._child.hear()
        if "error" in answer:
            raise PeerRefused(answer["error"])
        return answer["result"]

    def create(self, method: str = "peer2", curve: str = "X25519", **options: Any) -> str:
        return self.do("create", method=method, curve=curve, **options)

    def pack(self, message: Json, to: str, **options: Any) -> bytes:
        return self.do("pack", message=message, to=to, **options).encode()

    def sign(self, message: Json, signer: str) -> bytes:
        return self.do("sign", message=message, signer=signer).encode()

    def wrap(self, envelope: bytes, to: str, *hops: str, **options: Any) -> bytes:
        return self.do("wrap", envelope=envelope.decode(), to=to, hops=hops, **options).encode()

    def unpack(self, envelope: bytes) -> Json:
        return self.do("unpack", envelope=envelope.decode())

    def unwrap(self, envelope: bytes) -> tuple[str, bytes]:
        """Whom a forward is for, and what it carries."""
        opened = self.do("unwrap", envelope=envelope.decode())
        return opened["next"], opened["forwarded"].encode()

    def post(self, url: str, envelope: bytes) -> tuple[int, bytes]:
        answer = self.do("post", url=url, envelope=envelope.decode())
        return answer["status"], answer["body"].encode()


def peer_process(log: Path) -> Child:
    if not PYTHON.exists():
        pytest.fail(
            "PyPI didcomm is not installed in its environment, .cache/didcomm-venv. `make test` installs it.",
            pytrace=False,
        )
    return Child([str(PYTHON), "-W", "ignore", str(SCRIPT)], log)


def mediator_process(home: Path, log: Path) -> Child:
    command = shutil.which("didmpc", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if command is None:
        pytest.fail("The didmpc command is not installed. `make test` installs it.", pytrace=False)
    return Child([command, "mediator", "start", "--port", "0", "--json", "--home", str(home)], log)
