"""A stretch of network that can be disturbed: a TCP proxy that resets, delays and swallows what goes through.

It runs in a thread of its own, so that whoever disturbs it may be ordinary code. As with TCP on a broken
network, nothing is lost within a connection that survives: what was swallowed comes through afterwards.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

PIECE = 64 * 1024
QUEUE = 64
"""Pieces on their way in one direction of a connection; then whoever sends waits."""
CALL_WITHIN = 60.0
_RESET = struct.pack("ii", 1, 0)
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Connection:
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    near_port: int
    far_address: str
    owner: str | None = None
    """Whose it is, once that was asked."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Use as a context manager. `url` is where to connect; set `target`, a port of this machine, beforehand.

    `owners` says to whom the clients with these local ports belong; only then can one party be disturbed.
    """

    def __init__(
        self,
        owners: Callable[[Iterable[int]], Mapping[int, str]] = lambda ports: {},
        *,
        host: str = "127.0.0.1",
    ) -> None:
        self._owners = owners
        self.host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._roads: dict[str | None, asyncio.Event] = {}
        self._sources: dict[str, str] = {}
        self._delay = 0.0
        self.target = 0
        self.port = 0
        self.bytes = self.accepted = self.resets = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, self.host, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_WITHIN)
        self._loop.close()

    # --- what may happen to it; None stands for everybody

    def reset(self, owner: str | None = None) -> int:
        """Reset the connections there are; returns how many. New ones may be made at once."""

        async def reset() -> int:
            found = await self._of(owner)
            for connection in found:
                self._drop(connection)
            self.resets += len(found)
            return len(found)

        return self._call(reset())

    def cut(self, owner: str | None = None) -> None:
        """From now on nothing comes through, and nobody is told."""

        async def cut() -> None:
            await self._of(owner)
            self._roads.setdefault(owner, asyncio.Event())

        self._call(cut())

    def heal(self) -> None:
        """No road is cut any more."""

        async def heal() -> None:
            roads, self._roads = self._roads, {}
            for road in roads.values():
                road.set()

        self._call(heal())

    def delay(self, seconds: float) -> None:
        """Everything takes so much longer, each way."""
        self._delay = seconds

    def move(self, owner: str, address: str) -> None:
        """From now on new connections come from another address; the old ones are reset."""
        self._sources[owner] = address
        self.reset(owner)

    def addresses(self, owner: str) -> set[str]:
        """Where the connections come from, as their other end sees it."""

        async def addresses() -> set[str]:
            return {connection.far_address for connection in await self._of(owner)}

        return self._call(addresses())

    # --- connections

    async def _of(self, owner: str | None) -> list[_Connection]:
        found = list(self._connections)
        if owner is None:
            return found
        unknown = {each.near_port: each for each in found if each.owner is None}
        for port, name in (await self._ask_owners(list(unknown))).items():
            unknown[port].owner = name
        return [connection for connection in found if connection.owner == owner]

    async def _ask_owners(self, ports: list[int]) -> Mapping[int, str]:
        """Asked aside: it takes its time, and what goes through must not wait for it."""
        return await self._loop.run_in_executor(None, self._owners, ports) if ports else {}

    async def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self.accepted += 1
        near_port = near.get_extra_info("peername")[1]
        owner = None
        if self._sources or self._roads:
            owner = (await self._ask_owners([near_port])).get(near_port)
        source = self._sources.get(owner) if owner else None
        try:
            far_reader, far = await self._dial(source)
        except OSError:
            _reset(near)
            return
        far_address = far.get_extra_info("sockname")[0]
        connection = _Connection(near, far, near_port, far_address, owner)
        self._connections.add(connection)
        for source_of, sink in ((reader, far), (far_reader, near)):
            queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE)
            connection.tasks.append(self._spawn(self._take(connection, source_of, queue)))
            connection.tasks.append(self._spawn(self._give(connection, queue, sink)))

    async def _dial(self, source: str | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection onwards, from another address where one is given. Raises OSError."""
        local = None if source is None else (source, 0)
        return await asyncio.open_connection("127.0.0.1", self.target, local_addr=local)

    async def _take(
        self,
        connection: _Connection,
        source: asyncio.StreamReader,
        queue: "asyncio.Queue[tuple[float, bytes]]",
    ) -> None:
        try:
            while piece := await source.read(PIECE):
                await queue.put((self._loop.time() + self._delay, piece))
        except OSError:
            await self._passable(connection)
            self._drop(connection)
        else:
            await queue.put((0.0, b""))

    async def _give(
        self, connection: _Connection, queue: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter
    ) -> None:
        while True:
            due, piece = await queue.get()
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            await self._passable(connection)
            try:
                if not piece:
                    sink.close()
                    self._forget_when_closed(connection)
                    return
                sink.write(piece)
                self.bytes += len(piece)
                await sink.drain()
            except OSError:
                self._drop(connection)
                return

    async def _passable(self, connection: _Connection) -> None:
        """Wait until neither everybody's road nor that of this connection is cut."""
        while road := self._roads.get(None) or self._roads.get(connection.owner):
            await road.wait()

    def _forget_when_closed(self, connection: _Connection) -> None:
        if connection.near.is_closing() and connection.far.is_closing():
            self._connections.discard(connection)

    def _drop(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        for writer in (connection.near, connection.far):
            _reset(writer)
        for task in connection.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    # --- within

    async def _stop(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            self._drop(connection)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_WITHIN)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, and forget what was not sent."""
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
