"""The control socket: how the `didmpc mediator` commands of its operator talk to a mediator that runs.

A Unix socket in the home, for its owner only (0600). Newline-delimited JSON, one request per connection:

    -> {"method": str, "params": {...}}
    <- {"result": {...}} | {"error": {"what", "why", "fix"}}
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from didmpc.local import unix_socket
from didmpc.protocols.errors import DidmpcError, LocalMisuse

FILE = "mediator.sock"
LONGEST_LINE = 1024 * 1024
CONNECTIONS = 16
REQUEST_SECONDS = 10.0
"""For the request line itself; what is asked for may take longer."""

Json = dict[str, Any]
Method = Callable[[Json], Awaitable[Json]]

log = logging.getLogger(__name__)


class ControlServer:
    """Serves the methods it is given. The caller holds the lock of the home."""

    def __init__(self, folder: Path, methods: Mapping[str, Method]) -> None:
        self._path = folder / FILE
        self._methods = methods
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(
            self._serve, sock=unix_socket.listen(self._path, backlog=CONNECTIONS), limit=LONGEST_LINE
        )

    async def close(self) -> None:
        """Stop listening, and cancel what still runs."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        for connection in tuple(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._connections) >= CONNECTIONS:
                answer = _error(LocalMisuse("Too many commands talk to this mediator at once."))
            else:
                self._connections.add(task)
                answer = await self._answer(reader)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # whoever asked has gone, said nothing, or we stop
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Json:
        name: object = "?"
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = _parsed(await reader.readline())
            name, params = request.get("method"), request.get("params", {})
            method = self._methods.get(name) if isinstance(name, str) else None
            if method is None or not isinstance(params, dict):
                raise LocalMisuse(
                    f"This mediator does not know {str(name)[:40]!r}.",
                    why="The command and the mediator may be of different versions.",
                    fix="Restart the mediator.",
                )
            return {"result": await method(params)}
        except DidmpcError as problem:
            return _error(problem)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as problem:
            log.exception("%s failed", name)
            ours = DidmpcError(
                "The mediator met an error of its own.",
                why=f"{type(problem).__name__} in {name}.",
                fix="The details are in its log.",
            )
            return _error(ours)


def call(folder: Path, method: str, params: Json | None = None, *, timeout: float = 30.0) -> Json | None:
    """Ask the mediator that runs in this home; None where none runs. Raises `DidmpcError`."""
    try:
        connection = unix_socket.connect(folder / FILE, timeout)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as problem:
        raise _unreachable(problem.strerror or str(problem)) from None
    with connection:
        try:
            connection.sendall(json.dumps({"method": method, "params": params or {}}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline()
        except TimeoutError:
            raise _unreachable(f"It did not answer within {timeout:g} s") from None
        except OSError as problem:
            raise _unreachable(problem.strerror or str(problem)) from None
    if not line:
        raise _unreachable("It stopped while it was asked")
    answer = _parsed(line)
    if "error" in answer:
        error = answer["error"]
        raise DidmpcError(error["what"], why=error["why"], fix=error["fix"])
    result: Json = answer["result"]
    return result


def _unreachable(why: str) -> DidmpcError:
    return DidmpcError(
        "The mediator that runs in this home cannot be asked.",
        why=f"{why}.",
        fix="Try again; if it stays so, restart it.",
    )


def _parsed(line: bytes) -> Json:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise LocalMisuse("What came over the control socket is no JSON object.")
    return content


def _error(error: DidmpcError) -> Json:
    return {"error": {"what": error.what, "why": error.why, "fix": error.fix}}
