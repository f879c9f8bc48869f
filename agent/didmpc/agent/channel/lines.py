"""Newline-delimited JSON over a stream socket: how the daemon and the user interface talk to us."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

Line = dict[str, Any]

_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode
_TOO_LONG = "A line was longer than the limit."


def encode(line: Mapping[str, Any]) -> bytes:
    """One line, with its newline."""
    return _encode(line) + b"\n"


class Lines(asyncio.Protocol):
    """One conversation. `on_end` is called exactly once, with the reason ("" for a plain end of file)."""

    def __init__(
        self,
        on_line: Callable[[Line], None],
        on_end: Callable[[str], None],
        *,
        limit: int,
        on_drained: Callable[[], None] | None = None,
        on_open: Callable[[asyncio.Transport], None] | None = None,
    ) -> None:
        self._on_line = on_line
        self._on_end: Callable[[str], None] | None = on_end
        self._on_drained = on_drained
        self._on_open = on_open
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._held = 0
        self.closed = asyncio.Event()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are of no such class
        self._transport = transport
        if self._on_open is not None:
            self._on_open(transport)

    def data_received(self, data: bytes) -> None:
        if self._on_end is None:
            return
        *complete, rest = data.split(b"\n")
        if complete:
            complete[0] = b"".join((*self._parts, complete[0]))
            self._parts.clear()
            self._held = 0
        for text in complete:
            if not self._take(text):
                return
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
            if self._held > self._limit:
                self._refuse(_TOO_LONG)

    def eof_received(self) -> None:
        self._end("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc else "")
        self.closed.set()

    def resume_writing(self) -> None:
        if self._on_drained is not None:
            self._on_drained()

    # --- what we call

    def send(self, line: Mapping[str, Any]) -> None:
        """Write one line; to a conversation that has ended it goes nowhere."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(line))

    @property
    def waiting(self) -> int:
        """Bytes that the other side has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def hang_up(self) -> None:
        """Close once the other side has taken what was written; `closed` tells when that is."""
        if self._transport is not None:
            self._transport.close()

    async def finish(self, timeout: float) -> None:
        """Say that no line follows, and let the other side hang up.

        Hanging up on a peer that still writes would make its system throw away what it has not read of us.
        """
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write_eof()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.closed.wait(), timeout)
        self._transport.abort()

    # --- within

    def _take(self, text: bytes) -> bool:
        """Act on one line; whether there is anybody left to hear the next."""
        if len(text) > self._limit:
            self._refuse(_TOO_LONG)
            return False
        try:
            line = _decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            self._refuse("A line was not a JSON object.")
            return False
        self._on_line(line)
        return self._on_end is not None

    def _refuse(self, reason: str) -> None:
        """Hear nothing more. The other side can still be told that, and why, it is over."""
        self._parts.clear()
        self._end(reason)

    def _end(self, reason: str) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(reason)
