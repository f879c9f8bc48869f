"""Our end of the socket pair to the program process (frames: `didmpc.agent.program.wire`)."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from didmpc.agent.program.wire import Decoder, Frame, FrameType, WireError, encode, encode_json


class Bridge(asyncio.Protocol):
    """Reads frames in batches, as they come; writes what a batch of packets brought in one go."""

    def __init__(self, on_frames: Callable[[list[Frame]], None], on_broken: Callable[[str], None]) -> None:
        self._on_frames = on_frames
        self._on_broken = on_broken
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._queued = 0
        self.octets_written = 0  # for the program, since its CONFIG
        self.configured = False
        self.closed = asyncio.Event()

    async def connect(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are of no such class
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            frames = list(self._decoder.feed(data))
        except WireError as error:
            self._on_broken(error.what)
            self.abort()
            return
        if frames:
            self._on_frames(frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed.set()

    # --- what we call

    def config(self, config: Mapping[str, Any]) -> None:
        """Say what to run. Peers' data that came before the program was there follows it."""
        self._write(encode_json(FrameType.CONFIG, dict(config)))
        self.octets_written = 0  # what follows is counted at the other end, too
        self.configured = True
        self.flush()

    def go(self) -> None:
        self._write(encode(FrameType.GO))

    def data(self, pid: int, start: int, data: bytes) -> None:
        """Queue a peer's bytes for `flush`; no bytes mean that its generation `start` has ended."""
        frame = encode(FrameType.DATA if data else FrameType.END, pid, start, data)
        self._out.append(frame)
        self._queued += len(frame)

    def flush(self) -> None:
        if self._out and self.configured:
            out, self._out = self._out, []
            self.octets_written += self._queued
            self._queued = 0
            if self._transport is not None and not self._transport.is_closing():
                self._transport.writelines(out)

    @property
    def backlog(self) -> int:
        """Bytes that the program has not read yet."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return waiting + self._queued

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _write(self, frame: bytes) -> None:
        self.octets_written += len(frame)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)
