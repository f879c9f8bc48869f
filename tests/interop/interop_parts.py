"""The other side of the drivers in the folders beside this file, and the mediator as a process."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from install import ENVIRONMENTS

PATIENCE = 180.0

Json = dict[str, Any]


class PeerRefused(Exception):
    """The peer answered with an error."""


class Child:
    """A process that writes lines on stdout; ended by its own id when the block is left."""

    def __init__(self, command: list[str], log: Path, cwd: Path | None = None) -> None:
        self._command = command
        self._log = log
        self._cwd = cwd
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        with self._log.open("w") as stderr:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=self._cwd,
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
        """The next line as JSON. Never more than one is on its way; a silent child is ended."""
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], PATIENCE)[0]
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self._process.kill()  # whoever asks it next is not to wait again
            pytest.fail(f"{self._command} said nothing more.\n{self._log.read_text()}", pytrace=False)
        return json.loads(line)


class Driver:
    """A peer in a process of its own: requests go in, answers come out."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def do(self, name: str, **arguments: Any) -> Any:
        self._child.tell({"do": name, **arguments})
        answer = self._child.hear()
        if "error" in answer:
            raise PeerRefused(answer["error"])
        return answer["result"]


class Peer(Driver):
    """A DIDComm library, with the keys of the DIDs that it made."""

    def create(self, method: str = "peer2", curve: str = "X25519", **options: Any) -> str:
        return self.do("create", method=method, curve=curve, **options)

    def pack(self, message: Json, to: str, **options: Any) -> bytes:
        return self.do("pack", message=message, to=to, **options).encode()

    def plain(self, message: Json) -> bytes:
        return self.do("plain", message=message).encode()

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

    def endpoints(self, did: str) -> list[str]:
        """The URIs of a DID's services as it reads them."""
        return self.do("endpoints", did=did)


class Agent(Driver):
    """npm `@hyperledger/identus-sdk` as a whole agent; one process holds several, by name."""

    def start(self, client: str, mediator: str, live: bool) -> Json:
        """Obtain mediation; from then on it polls for mail, or has it pushed over a WebSocket."""
        return self.do("start", client=client, mediator=mediator, live=live)

    def stop(self, client: str) -> None:
        self.do("stop", client=client)

    def resume(self, client: str) -> Json:
        """Start one again that was stopped, with the DIDs and the mediation that it has."""
        return self.do("resume", client=client)

    def mailbox(self, client: str, accept: Sequence[str] | None = None) -> str:
        """A new DID behind the mediator, in the key list there; `accept` goes into its service."""
        return self.do("mailbox", client=client, accept=accept)

    def send(self, client: str, sender: str, to: str, content: str) -> str:
        """The id of the basic message that it sent; it packs and forwards as it sees fit."""
        return self.do("send", client=client, **{"from": sender}, to=to, content=content)

    def next(self, client: str) -> Json:
        """The next message that arrived, as soon as there is one."""
        return self.do("next", client=client)


class Drivers:
    """The processes of the peers, each started when it is first asked for."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, Child] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def child(self, name: str) -> Child:
        if name not in self._running:
            environment = ENVIRONMENTS[name]
            if reason := environment.why_not():
                pytest.skip(f"{name}: {reason}")
            if not environment.installed():
                pytest.fail(f"The peer {name} is not installed. Next:  make interop-peers", pytrace=False)
            child = Child(environment.command, self._logs / f"{name}.log", environment.folder)
            self._running[name] = self._stack.enter_context(child)
        return self._running[name]


def mediator_process(home: Path, log: Path) -> Child:
    command = shutil.which("didmpc", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if command is None:
        pytest.fail("The didmpc command is not installed. `make test` installs it.", pytrace=False)
    return Child([command, "mediator", "start", "--port", "0", "--json", "--home", str(home)], log)
