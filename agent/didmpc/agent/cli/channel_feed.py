"""The socket of the channel process: the program's output, our input to it, and how the run ends.

Read without asyncio's streams: those forget what was received when the other side closes with our input
unread (a reset), and that may be the end of the program's output.
"""

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

from didmpc.local import unix_socket
from didmpc.protocols.errors import DidmpcError

LONGEST_LINE = 32 * 1024 * 1024
CHUNK = 262_144
CONNECT_WITHIN = 5.0

Json = dict[str, Any]


class ChannelFeed:
    """Lines of JSON, both ways."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._searched = 0
        self._writing = asyncio.Lock()

    @classmethod
    def attach(cls, path: Path) -> "ChannelFeed":
        try:
            return cls(unix_socket.connect(path, timeout=CONNECT_WITHIN))
        except OSError as problem:
            raise DidmpcError(
                "The channel process of this session cannot be reached.",
                why=f"{problem}.",
                fix="didmpc doctor",
            ) from problem

    async def next(self) -> Json | None:
        """The next line; None at the end."""
        while (end := self._received.find(b"\n", self._searched)) < 0:
            self._searched = len(self._received)
            try:
                data = await self._loop.sock_recv(self._connection, CHUNK)
            except OSError:
                return None
            if not data or self._searched > LONGEST_LINE:
                return None
            self._received += data
        line = json.loads(self._received[:end])
        del self._received[: end + 1]
        self._searched = 0
        return line if isinstance(line, dict) else {}

    async def send(self, line: Json) -> None:
        """Returns once it was taken. A side that has ended is noticed by `next`, not here."""
        async with self._writing:
            with contextlib.suppress(OSError):
                await self._loop.sock_sendall(self._connection, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Hang up; before the last word this ends the run."""
        self._connection.close()
