"""Our end of the socket pair to the program process (frames: `didmpc.agent.program.wire`)."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from didmpc.agent.program.wire import HEADER, Decoder, Frame, FrameType, WireError, encode, encode_json

_DATA, _END = FrameType.DATA, FrameType.END
_WORTH_A_VECTOR = 4096  # bytes; less is copied faster than handed over piece by piece


class Bridge(asyncio.Protocol):
    """Reads frames in batches, as they come; writes what a batch of packets brought in one go."""

    def __init__(self, on_frames: Callable[[list[Frame]], None], on_broken: Callable[[str], None]) -> None:
        self._on_frames = on_frames
        self._on_broken = on_broken
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._queued = 0
        self._behind = False  # the program has not read much that was written
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
            frames = self._decoder.feed(data)
        except WireError as error:
            if error.before:
                self._on_frames(list(error.before))
            self._on_broken(error.what)
            self.abort()
            return
        if frames:
            self._on_frames(frames)

    def pause_writing(self) -> None:
        self._behind = True

    def resume_writing(self) -> None:
        self._behind = False

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

    def data(self, pid: int, start: int, data: bytes) -> int:
        """Queue a peer's bytes for `flush`; no bytes mean that its generation `start` has ended.

        Returns how many bytes the program has not read yet.
        """
        size = len(data)
        self._out += HEADER.pack(_DATA if size else _END, pid, start, size), data
        self._queued = queued = self._queued + HEADER.size + size
        return self.backlog if self._behind else queued

    def flush(self) -> None:
        if self._out and self.configured:
            out, self._out = self._out, []
            queued, self._queued = self._queued, 0
            self.octets_written += queued
            transport = self._transport
            if transport is None or transport.is_closing():
                return
            if queued < _WORTH_A_VECTOR:
                transport.write(b"".join(out))
            else:
                transport.writelines(out)

    @property
    def backlog(self) -> int:
        """Bytes that the program has not read yet."""
        if not self._behind:
            return self._queued
        return self._queued + (0 if self._transport is None else self._transport.get_write_buffer_size())

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _write(self, frame: bytes) -> None:
        self.octets_written += len(frame)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)
