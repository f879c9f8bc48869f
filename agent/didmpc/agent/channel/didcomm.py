"""Mode didcomm: each message of MPyC travels as one DIDComm message of the daemon, without a session.

The mailboxes keep no order and may deliver twice, so frames carry a number per pair and direction.
"""

from collections.abc import Callable
from typing import Any

from didmpc.agent.channel.limits import KIB, Limits
from didmpc.agent.channel.orders import Frame
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import SessionError

LARGEST_FRAME = 256 * KIB
"""Twice packed and wrapped this stays below what mediators take in one message."""


class FramePath:
    """The two directions between us and one peer."""

    def __init__(
        self,
        pid: int,
        *,
        send_line: Callable[[dict[str, Any]], None],
        deliver: Callable[[int, int, bytes], None],
        limits: Limits,
    ) -> None:
        self.pid = pid
        self._send_line = send_line
        self._deliver = deliver
        self._limits = limits
        self._next_out = 0
        self._next_in = 0
        self._early: dict[int, tuple[int, bytes]] = {}
        self._early_bytes = 0
        self.received = 0

    @property
    def sent(self) -> int:
        return self._next_out

    def send(self, start: int, data: bytes) -> None:
        """Number and hand over one message; empty data means that this generation has ended."""
        for offset in range(0, len(data) or 1, LARGEST_FRAME):
            piece = b64url(data[offset : offset + LARGEST_FRAME])
            self._send_line({"frame": {"pid": self.pid, "n": self._next_out, "start": start, "data": piece}})
            self._next_out += 1

    def receive(self, frame: Frame) -> None:
        """Deliver in order, exactly once. Raises SessionError when a peer leaves too large a gap."""
        if frame.n < self._next_in or frame.n in self._early:
            return
        if (
            frame.n - self._next_in > self._limits.reorder_frames
            or self._early_bytes + len(frame.data) > self._limits.reorder_bytes
        ):
            raise SessionError("Too many messages came before one that is missing.")
        self._early[frame.n] = (frame.start, frame.data)
        self._early_bytes += len(frame.data)
        while (ready := self._early.pop(self._next_in, None)) is not None:
            self._next_in += 1
            self.received += 1
            start, data = ready
            self._early_bytes -= len(data)
            self._deliver(self.pid, start, data)
