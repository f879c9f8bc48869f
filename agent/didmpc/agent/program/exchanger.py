"""MPyC's message exchanger with the checks that it lacks.

MPyC believes the pid that a client claims, keeps whatever it is sent for labels that nobody asks for, lets a
second message under one label overwrite the first, and waits for ever for a party that has ended. The link
below has authenticated the party, so here each of these ends the run, by name.
"""

import struct
import time
from asyncio import Future
from collections.abc import Callable
from typing import Any

from mpyc.asyncoro import MessageExchanger

from didmpc.agent.program.config import MESSAGE_COSTS, Limits
from didmpc.agent.program.mux import PeerTransport
from didmpc.agent.program.outcome import PeerFault, Stats

_HEADER = struct.Struct("<qI")  # program counter, payload size: as MessageExchanger.send writes it


class Exchanger(MessageExchanger):  # type: ignore[misc]  # MPyC has no types
    """The messages between this party and party `link_pid`."""

    __slots__ = (
        "_in_prelude", "_limits", "_missed", "_need", "_stats", "ended", "link_pid", "prelude_heard",
        "unasked", "unasked_bytes",
    )  # fmt: skip

    def __init__(
        self,
        runtime: Any,
        link_pid: int,
        *,
        stats: Stats,
        limits: Limits,
        missed: Callable[[int], None],
        in_prelude: Callable[["Exchanger"], None],
    ) -> None:
        # the party with the lower pid is MPyC's client: it sends its pid and PRSS keys first
        super().__init__(runtime, link_pid if link_pid > runtime.pid else None)
        self.link_pid = link_pid
        self.ended = False
        self.unasked = 0
        self.unasked_bytes = 0
        self._need = 0
        self._stats = stats
        self._limits = limits
        self._missed = missed
        self._in_prelude = in_prelude
        self.prelude_heard: float | None = None

    def connection_made(self, transport: PeerTransport) -> None:
        """As a client, send pid and PRSS keys."""
        super().connection_made(transport)
        if self.peer_pid is not None:
            runtime = self.runtime
            keys = 0 if runtime.options.no_prss else sum(map(len, runtime._prss_keys_to_peer(self.peer_pid)))
            self._stats.octets += 2 + keys

    def send(self, pc: int, payload: bytes) -> None:
        """Send payload under the label pc."""
        size = 12 + len(payload)
        self._stats.sent(size)
        self.transport.write(_HEADER.pack(pc, size - 12) + payload)
        self.nbytes_sent += size

    def receive(self, pc: int) -> "bytes | Future[bytes]":
        """The payload under the label pc, or a future of it."""
        found = self.buffers.get(pc)
        if type(found) is bytes:
            del self.buffers[pc]
            self.unasked -= 1
            self.unasked_bytes -= len(found)
            self._stats.progressed = True
            return found
        if found is None:
            found = self.buffers[pc] = Future(loop=self.runtime._loop)
            if self.ended:
                self._missed(self.link_pid)
        return found  # type: ignore[no-any-return]

    @property
    def waiting(self) -> int:
        """How many labels the program waits for; before the party's prelude has come, that is one more."""
        return len(self.buffers) - self.unasked + (self.peer_pid is None)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the party, cut them into messages, and hand out those that are asked for."""
        stats, kept = self._stats, self.bytes
        stats.last_round = time.monotonic()
        if self.peer_pid is None:
            self._hear_prelude()
        elif not kept and len(data) >= 12:  # as nearly always, and mostly it is one message
            pc, size = _HEADER.unpack_from(data)
            if len(data) == 12 + size <= self._limits.octets:
                self._take_message(pc, data[12:])
                return
        if kept:
            kept.extend(data)
            if len(kept) < self._need:
                return
            data = bytes(kept)
            kept.clear()
        position = 0
        if self.peer_pid is None:
            position = self._take_prelude(data)
        if self.peer_pid is not None:
            position = self._take_messages(data, position)
        if position < len(data):
            kept.extend(memoryview(data)[position:])

    def _hear_prelude(self) -> None:
        """A party sends its prelude in one go; from the first byte on it is not to stop for long."""
        first = self.prelude_heard is None
        self.prelude_heard = time.monotonic()
        if first:
            self._in_prelude(self)

    def _take_prelude(self, data: bytes) -> int:
        """The client's pid and PRSS keys. Returns their size once all are there."""
        if len(data) < 2:
            self._need = 2
            return 0
        claimed = int.from_bytes(data[:2], "little")
        if claimed != self.link_pid:
            raise PeerFault(self.link_pid, f"claimed to be party {claimed}")
        runtime, size = self.runtime, 2
        if not runtime.options.no_prss:
            size += runtime._prss_keys_from_peer(claimed)
            if len(data) < size:
                self._need = size
                return 0
            runtime._prss_keys_from_peer(claimed, data[2:size])
        self.peer_pid = claimed  # type: ignore[misc]  # a slot of the base
        runtime.set_protocol(claimed, self)
        return size

    def _take_messages(self, data: bytes, position: int) -> int:
        end = len(data)
        self._need = 12
        while end - position >= 12:
            pc, size = _HEADER.unpack_from(data, position)
            if size > self._limits.octets:
                raise PeerFault(self.link_pid, f"announced a message of {size:,} bytes")
            stop = position + 12 + size
            if stop > end:
                self._need = 12 + size
                break
            self._take_message(pc, data[position + 12 : stop])
            position = stop
        return position

    def _take_message(self, pc: int, payload: bytes) -> None:
        asked = self.buffers.get(pc)
        if asked is None:
            self.unasked += 1
            self.unasked_bytes += len(payload)
            cost = self.unasked_bytes + self.unasked * MESSAGE_COSTS
            if self.unasked > self._limits.messages or cost > self._limits.octets:
                raise PeerFault(
                    self.link_pid,
                    f"sent {self.unasked:,} messages ({self.unasked_bytes:,} bytes) that nobody asked for",
                )
            self.buffers[pc] = payload
        elif type(asked) is bytes:
            raise PeerFault(self.link_pid, "sent two messages under one label")
        else:
            del self.buffers[pc]
            self._stats.progressed = True
            if not asked.done():  # a cancelled future: the program no longer wants it
                asked.set_result(payload)

    def peer_ended(self) -> None:
        """The party has closed its connection. In our own shutdown that is its normal end."""
        self.ended = True
        if self.runtime.closing:
            self.transport.closed = True
            self.connection_lost(None)
        elif self.waiting:
            self._missed(self.link_pid)

    def connection_lost(self, exc: Exception | None) -> None:
        """Deregister. Outside of shutdown() no one waits for the last connection to close."""
        if self.runtime.closing:
            super().connection_lost(exc)
        else:
            self.runtime.parties[self.link_pid].protocol = None
