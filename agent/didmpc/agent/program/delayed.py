"""A peer as far away as a rehearsal wants it to be: what it sends is handed over later, in order."""

import asyncio
from collections import deque

from didmpc.agent.program.mux import Peer


class Delayed:
    """Stands between a transport and what it delivers to."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._peer = peer
        self._loop = loop
        self._seconds = seconds
        self._waiting: deque[tuple[float, bytes | None]] = deque()

    def data_received(self, data: bytes) -> None:
        """Bytes of the party."""
        self._keep(data)

    def peer_ended(self) -> None:
        """The party has closed its connection."""
        self._keep(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """We have; that takes no time."""
        self._peer.connection_lost(exc)

    def _keep(self, data: bytes | None) -> None:
        self._waiting.append((self._loop.time() + self._seconds, data))
        if len(self._waiting) == 1:
            self._loop.call_at(self._waiting[0][0], self._hand_over)

    def _hand_over(self) -> None:
        """All that is due; a timer may be early by less than a millisecond."""
        while self._waiting and self._waiting[0][0] <= self._loop.time() + 0.0005:
            _, data = self._waiting.popleft()
            if data is None:
                self._peer.peer_ended()
            else:
                self._peer.data_received(data)
        if self._waiting:
            self._loop.call_at(self._waiting[0][0], self._hand_over)
