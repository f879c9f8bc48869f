"""The control socket: how the `didmpc` commands of this user talk to their agent.

Newline-delimited JSON, one request per connection:

    -> {"method": str, "params": {...}}
    <- {"event": str, ...}            any number
    -> {"answer": {...}}              while the request runs
    <- {"result": {...}} | {"error": {"what", "why", "fix", "exit", "code", "misuse"}}

`code` is there where a peer is to blame, `misuse` where whoever asked is.

A connection that the client closes cancels its request.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from didmpc.local import unix_socket
from didmpc.protocols.errors import DidmpcError, LocalMisuse, RemoteViolation

LONGEST_LINE = 1024 * 1024
CONNECTIONS = 512  # of one user's commands and sessions at once
UNREAD_ANSWERS = 16
REQUEST_TIMEOUT = 10.0  # for the request line itself

Json = dict[str, Any]
Handler = Callable[[Json, "Stream"], Awaitable[Json]]

log = logging.getLogger(__name__)


class Stream:
    """The client's side of a request, for the handler that serves it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers: asyncio.Queue[Json] = asyncio.Queue(UNREAD_ANSWERS)

    async def event(self, event: Mapping[str, Any]) -> None:
        """Tell the client something. A client that went away is noticed elsewhere, never here."""
        await self._write(event)

    async def answer(self) -> Json:
        """Wait for the client's next answer."""
        return await self._answers.get()

    @property
    def unread(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    async def _write(self, content: Mapping[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")
            await self._writer.drain()

    async def _request(self) -> tuple[str, Json]:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            content = await self._line()
        if content is None:
            raise ConnectionResetError
        method, params = content.get("method"), content.get("params", {})
        if not isinstance(method, str) or not isinstance(params, dict):
            raise LocalMisuse("The request is malformed.", why="It needs a method and params.")
        return method, params

    async def _collect_answers(self) -> None:
        """Take answers until the client hangs up."""
        while (content := await self._line()) is not None:
            answer = content.get("answer")
            if isinstance(answer, dict):
                await self._answers.put(answer)

    async def _line(self) -> Json | None:
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError as problem:
            raise LocalMisuse(f"A line of a request has more than {LONGEST_LINE} bytes.") from problem
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise LocalMisuse("The request is no JSON.") from problem
        if not isinstance(content, dict):
            raise LocalMisuse("The request is no JSON object.")
        return content


class ControlServer:
    """Serves the methods it is given on the socket of a home."""

    def __init__(self, path: Path, methods: Mapping[str, Handler]) -> None:
        self._path = path
        self._methods = methods
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        listener = unix_socket.listen(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LONGEST_LINE)

    async def close(self, grace: float = 1.0) -> None:
        """Stop listening, give requests that are ending a moment to do so, and cancel the rest."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        if self._connections:
            await asyncio.wait(self._connections, timeout=grace)
        for connection in tuple(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        stream = Stream(reader, writer)
        if len(self._connections) >= CONNECTIONS:
            await stream._write(_error(LocalMisuse("Too many commands talk to this agent at once.")))
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(stream)
        except (ConnectionError, TimeoutError):
            pass
        except asyncio.CancelledError:
            pass  # by `close`; asyncio's streams of Python 3.11 log a cancelled connection as an error
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, stream: Stream) -> None:
        method = "?"
        try:
            method, params = await stream._request()
            handler = self._methods.get(method)
            if handler is None:
                raise LocalMisuse(
                    f"This agent does not know {method!r}.",
                    why="The command and the agent may be of different versions.",
                    fix="Restart the agent: didmpc agent stop, didmpc agent start",
                )
            result = await _while_connected(handler(params, stream), stream)
        except DidmpcError as error:
            log.info("%s: %s", method, error)
            await stream._write(_error(error))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as problem:
            log.exception("%s failed", method)
            ours = DidmpcError(
                "The agent met an error of its own.",
                why=f"{type(problem).__name__} in {method}.",
                fix="The details are in its log (agent.log in its home).",
            )
            await stream._write(_error(ours))
        else:
            await stream._write({"result": result})


async def _while_connected(work: Awaitable[Json], stream: Stream) -> Json:
    """Run a handler; cancel it when the client hangs up first."""
    handler = asyncio.ensure_future(work)
    client = asyncio.ensure_future(stream._collect_answers())
    try:
        await asyncio.wait({handler, client}, return_when=asyncio.FIRST_COMPLETED)
        if handler.done():
            return handler.result()
        client.result()  # a malformed line is the client's error
        raise ConnectionResetError("the client hung up")
    finally:
        for task in (handler, client):
            task.cancel()
        await asyncio.gather(handler, client, return_exceptions=True)


def _error(error: DidmpcError) -> Json:
    told: Json = {"what": error.what, "why": error.why, "fix": error.fix, "exit": 1}
    if isinstance(error, LocalMisuse):
        told["misuse"] = True
    if isinstance(error, RemoteViolation):
        told["code"] = error.code
    return {"error": told}
