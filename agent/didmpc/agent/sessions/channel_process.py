"""The channel process as the daemon sees it: lines of JSON through a socket pair, and its death.

Link keys reach it only this way: never by a command line, an environment or a file.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from didmpc.protocols.errors import DidmpcError

LINE_LIMIT = 16 * 1024 * 1024
BACKLOG_LIMIT = 64 * 1024 * 1024
READY_WITHIN = 60.0  # many may start at once on a small machine
STOP_WITHIN = 3.0


class ChannelProcess:
    """One running `python -m didmpc.agent.channel`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ui_socket: Path,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.ui_socket = ui_socket

    @classmethod
    async def start(cls, attempt: str, ui_socket: Path, log: Path) -> "ChannelProcess":
        """Start one and wait until it is ready for a person's terminal to attach."""
        ours, theirs = socket.socketpair()
        log_file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "didmpc.agent.channel",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(log_file)
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        channel = cls(process, reader, writer, ui_socket)
        try:
            channel.tell({"hello": {"attempt": attempt, "ui_socket": str(ui_socket)}})
            async with asyncio.timeout(READY_WITHIN):
                first = await channel.next()
            if first is None or "ready" not in first:
                raise DidmpcError("The channel process of this session did not start.", fix="See agent.log.")
        except TimeoutError:
            await channel.stop()
            raise DidmpcError(
                "The channel process of this session did not start in time.",
                why="The machine may be very busy.",
                fix="Try again.",
            ) from None
        except BaseException:
            await channel.stop()
            raise
        return channel

    def tell(self, line: Mapping[str, Any]) -> None:
        """Send one line. A process that is gone is noticed by `next`, not here."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    @property
    def keeps_up(self) -> bool:
        """Whether there is room for what may as well be lost: lines that it has not read are bounded."""
        return self._writer.transport.get_write_buffer_size() < BACKLOG_LIMIT

    async def drain(self) -> None:
        """Wait until what was told has left our buffers."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def next(self) -> dict[str, Any] | None:
        """The next line; None once the process is gone."""
        try:
            line = await self._reader.readline()
        except (ConnectionError, ValueError):
            return None
        if not line.endswith(b"\n"):
            return None
        value = json.loads(line)
        return value if isinstance(value, dict) else {}

    async def stop(self) -> None:
        """End the process: first by a word, then by signals."""
        self._writer.close()
        for stop in (self._process.terminate, self._process.kill):
            if self._process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_WITHIN):
                    await self._process.wait()
        self.ui_socket.unlink(missing_ok=True)

    def release(self) -> None:
        """Leave a process alone that has ended its run: a slow terminal may still take the last output."""
        self._writer.close()
