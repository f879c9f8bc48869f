"""The socket on which `didmpc run` or `join` shows the program to a person: output, input, Ctrl-C.

Newline-delimited JSON. A terminal that is slow or stopped harms nothing: a bounded amount of output waits for
it, then the program's pipe does. One that is closed ends the run.
"""

import asyncio
import contextlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.lines import Line, Lines, encode
from didmpc.local import unix_socket


class UserInterface:
    """The one attached user interface, or the buffer for the one to come."""

    def __init__(
        self,
        *,
        on_input: Callable[[bytes], None],
        on_input_end: Callable[[], None],
        on_interrupt: Callable[[str], None],
        on_gone: Callable[[], None],
        on_room: Callable[[], None],
        on_progress: Callable[[float], None],
        limits: Limits,
    ) -> None:
        self._on_input = on_input
        self._on_input_end = on_input_end
        self._on_interrupt = on_interrupt
        self._on_gone = on_gone
        self._on_room = on_room
        self._on_progress = on_progress
        self._limits = limits
        self._server: asyncio.AbstractServer | None = None
        self._path: Path | None = None
        self._lines: Lines | None = None
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._ended = False

    async def listen(self, path: Path) -> None:
        """Bind the socket (0600). One user interface may attach, once."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._attach, sock=unix_socket.listen(path, backlog=1))
        self._path = path

    @property
    def attached(self) -> bool:
        return self._lines is not None

    def tell(self, event: str, **details: Any) -> None:
        """Send one event."""
        self._send({"event": event, **details})

    def output(self, stream: str, data: bytes) -> None:
        """Pass on what the program printed; look at `full` afterwards."""
        self._send({"out": stream, "data": b64encode(data).decode()})

    @property
    def full(self) -> bool:
        """Whether the program's output should wait."""
        waiting = self._early_bytes if self._lines is None else self._lines.waiting
        return waiting > self._limits.ui_output

    @property
    def keeps_up(self) -> bool:
        """Whether somebody is attached who has taken all that was sent."""
        return self._lines is not None and not self._lines.waiting

    async def end(self, event: Mapping[str, Any], timeout: float) -> bool:
        """Send the last event and wait until it was taken; false when `timeout` seconds were not enough."""
        self.stop_listening()
        if not self._ended:
            self._ended = True
            self._send({"event": "ended", **event})
            if self._lines is not None:
                self._lines.hang_up()
        if self._lines is None:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lines.closed.wait(), timeout)
        return self._lines.closed.is_set()

    def stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    # --- within

    def _send(self, line: Mapping[str, Any]) -> None:
        if self._lines is not None:
            self._lines.send(line)
        else:
            text = encode(line)
            self._early.append(text)
            self._early_bytes += len(text)

    def _attach(self) -> asyncio.BaseProtocol:
        if self._lines is not None:
            return _Refusal()
        self._lines = Lines(
            self._line,
            self._lost,
            limit=self._limits.line,
            on_drained=self._on_room,
            on_open=self._catch_up,
        )
        return self._lines

    def _catch_up(self, transport: asyncio.Transport) -> None:
        early, self._early = self._early, []
        self._early_bytes = 0
        transport.writelines(early)
        self._on_room()

    def _line(self, line: Line) -> None:
        match line:
            case {"in": str(data)}:
                with contextlib.suppress(ValueError):
                    self._on_input(b64decode(data, validate=True))
            case {"in_eof": True}:
                self._on_input_end()
            case {"interrupt": str(reason)}:
                self._on_interrupt(reason)
            case {"progress": int(every) | float(every)}:
                self._on_progress(every)

    def _lost(self, reason: str) -> None:
        if not self._ended:
            self._on_gone()


class _Refusal(asyncio.Protocol):
    """A second user interface is turned away."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
