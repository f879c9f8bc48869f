"""The standard streams of the program process."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from didmpc.agent.channel.limits import KIB

_PIECE = 64 * KIB


class OutputPipe(asyncio.Protocol):
    """Its stdout or stderr. `ended` is set at end of file."""

    def __init__(self, on_output: Callable[[bytes], None]) -> None:
        self._on_output = on_output
        self._transport: asyncio.ReadTransport | None = None
        self._paused = False
        self.ended = asyncio.Event()

    async def connect(self, pipe: IO[bytes]) -> None:
        await asyncio.get_running_loop().connect_read_pipe(lambda: self, pipe)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.ReadTransport", transport)  # uvloop's are of no such class
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._on_output(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.ended.set()

    def hold(self, held: bool) -> None:
        """Stop reading, so that the program waits; or go on."""
        if self._transport is not None and held is not self._paused:
            self._paused = held
            if held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()


class InputPipe(asyncio.BaseProtocol):
    """Its stdin: what a person types, or a file of theirs. It may be written before the program is there."""

    def __init__(self, limit: int, on_overflow: Callable[[], None]) -> None:
        self._limit = limit
        self._on_overflow = on_overflow
        self._transport: asyncio.WriteTransport | None = None
        self._early = bytearray()
        self._file: IO[bytes] | None = None
        self._connected = False
        self._finished = False

    def take_from(self, path: Path) -> None:
        """Give it this file, and nothing that is typed. Raises OSError."""
        self._file = path.open("rb")

    async def connect(self, pipe: IO[bytes]) -> None:
        await asyncio.get_running_loop().connect_write_pipe(lambda: self, pipe)

    def write(self, data: bytes) -> None:
        if self._file is not None or self._finished:
            return
        if not self._connected:
            self._early += data
        elif self._transport is not None:
            self._transport.write(data)
        waiting = len(self._early) + (self._transport.get_write_buffer_size() if self._transport else 0)
        if waiting > self._limit:
            self._on_overflow()

    def end(self) -> None:
        """Nothing more comes: the program reads end of file after what is there."""
        if self._file is None and not self._finished:
            self._finished = True
            if self._transport is not None:
                self._transport.close()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.WriteTransport", transport)  # uvloop's are of no such class
        self._connected = True
        self._transport = transport
        if self._file is not None:
            self._write_file()
            return
        if self._early:
            transport.write(bytes(self._early))
            self._early.clear()
        if self._finished:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._file is not None:
            self._file.close()

    def pause_writing(self) -> None:
        """The program reads slowly; `_write_file` looks at the buffer itself."""

    def resume_writing(self) -> None:
        if self._file is not None:
            self._write_file()

    def _write_file(self) -> None:
        """Keep the pipe full, a piece of the file at a time."""
        file, transport = self._file, self._transport
        while file is not None and transport is not None and not transport.is_closing():
            if transport.get_write_buffer_size() > _PIECE:
                return  # resume_writing comes back here
            piece = file.read(_PIECE)
            if piece:
                transport.write(piece)
            else:
                transport.close()
