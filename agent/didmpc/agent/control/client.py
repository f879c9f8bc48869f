"""Talking to the agent that runs in a home: newline-delimited JSON on its control socket.

One request per connection. The agent answers with any number of events and then one result or error;
while a request runs, answers may be sent. Closing the connection cancels the request.

Imported by every command, so nothing heavy is imported here.
"""

import json
import select
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from didmpc.agent.wallet.home import Home
from didmpc.local import unix_socket
from didmpc.protocols.errors import DidmpcError, LocalMisuse, RemoteViolation

LONGEST_LINE = 16 * 1024 * 1024

Json = dict[str, Any]
Received = tuple[Literal["event", "result"], Json]


def call(
    method: str,
    params: Json | None = None,
    *,
    home: Home | Path | None = None,
    on_event: Callable[[Json], None] | None = None,
    answers: Mapping[str, Callable[[Json], Json]] | None = None,
    timeout: float | None = None,
) -> Json:
    """Ask the agent and wait for the result; its error is raised as `DidmpcError`.

    `on_event` sees every event. An event whose name is in `answers` is answered with what the function
    there makes of it. `timeout` is for the whole call.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with Call(method, params, home=home) as conversation:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            received = conversation.receive(left)
            if received is None:
                raise DidmpcError(
                    f"The agent did not answer within {timeout:.0f} s.",
                    fix="See what it does in its log, or restart it: didmpc agent stop, didmpc agent start",
                )
            kind, content = received
            if kind == "result":
                return content
            if on_event is not None:
                on_event(content)
            if answers is not None and (answer := answers.get(str(content.get("event")))) is not None:
                conversation.answer(answer(content))


class Call:
    """One request under way, for a caller that waits for other things as well (`fileno`)."""

    def __init__(self, method: str, params: Json | None = None, *, home: Home | Path | None = None) -> None:
        self._home = home if isinstance(home, Home) else Home.locate(home)
        self._buffer = bytearray()
        self._socket = connect(self._home)
        self._write({"method": method, "params": params or {}})

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, timeout: float | None = None) -> Received | None:
        """The next event or the result; None when nothing came in time. An error of the agent is raised."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (end := self._buffer.find(b"\n")) < 0:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._socket], [], [], left)[0]:
                return None
            try:
                received = self._socket.recv(65536)
            except OSError:
                received = b""
            if not received:
                raise lost(self._home)
            self._buffer += received
            if len(self._buffer) > LONGEST_LINE:
                raise DidmpcError("The agent sent more than one line can hold.")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return interpret(json.loads(line))

    @property
    def buffered(self) -> bool:
        """Whether `receive` would return at once without reading (nothing would wake a selector then)."""
        return b"\n" in self._buffer

    def answer(self, answer: Json) -> None:
        self._write({"answer": answer})

    def close(self) -> None:
        """Hang up; the agent gives up a request that still runs."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, content: Json) -> None:
        try:
            self._socket.sendall(json.dumps(content, separators=(",", ":")).encode() + b"\n")
        except OSError as problem:
            raise lost(self._home) from problem


def connect(home: Home) -> socket.socket:
    """A connection to the agent of a home."""
    try:
        connection = unix_socket.connect(home.socket, timeout=5.0)
    except PermissionError as problem:
        raise LocalMisuse(
            f"The agent in {home.root} belongs to someone else.",
            fix="Name your own home with --home DIR or DIDMPC_HOME.",
        ) from problem
    except OSError as problem:
        raise LocalMisuse(
            f"No agent is running in {home.root}.", fix="Start it: didmpc agent start"
        ) from problem
    connection.settimeout(None)
    return connection


class AgentLost(DidmpcError):
    """The agent hung up: it was stopped, or killed."""


def lost(home: Home) -> AgentLost:
    """The agent hung up."""
    return AgentLost(
        f"The agent in {home.root} went away before it answered.",
        fix=f"See {home.log}, then start it again: didmpc agent start",
    )


def interpret(line: Json) -> Received:
    """One line of the agent; its error is raised."""
    if "event" in line:
        return "event", line
    if "error" in line:
        error = line["error"]
        what, why, fix = error.get("what", "The agent failed."), error.get("why", ""), error.get("fix", "")
        if error.get("misuse"):
            raise LocalMisuse(what, why=why, fix=fix)
        if "code" in error:
            raise RemoteViolation(what, why=why, fix=fix, code=error["code"])
        raise DidmpcError(what, why=why, fix=fix)
    return "result", line.get("result", {})
