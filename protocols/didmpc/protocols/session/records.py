"""Records on their way out and in: numbers, window, acknowledgement, order, exactly once.

A record has one number for ever; packets carry it as often as needed. `Outbox` holds what the peer has
not acknowledged, `Inbox` what came before its turn; both are bounded (docs/session-extension.md, "Records").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf

from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.session.frames import (
    MAX_RECORD_DATA,
    MAX_START,
    PADDING,
    RECORD,
    RECORD_HEADER,
    Ack,
    PeerViolation,
    Record,
    ranges_of,
)

ACK_EVERY = 64
ACK_DELAY = 0.1
_QUEUED_OVERHEAD = 200  # bytes that holding a record costs beside its data
_SMALL = 4096  # bytes; more is better put together once, with its padding
_LAST_RECORD = (1 << 64) - 1


class LinkOverflow(LocalMisuse):
    """More was sent than the peer took, and more than may be held for it. The run cannot go on."""


class _Sending:
    """A record that was not acknowledged yet."""

    __slots__ = ("data", "header", "number", "sent_at", "size")

    def __init__(self, number: int, start: int, data: bytes) -> None:
        size = len(data)
        self.number = number
        self.header = RECORD_HEADER.pack(RECORD, number, start, size)
        self.data = data
        self.size = RECORD_HEADER.size + size
        self.sent_at = -inf  # the last time; `inf` once acknowledged


class Outbox:
    """Records to send: queued, in flight, or to be sent again."""

    def __init__(self, *, window_records: int, window_bytes: int, queue_bytes: int) -> None:
        self._window_records = window_records
        self._window_bytes = window_bytes
        self._queue_bytes = queue_bytes
        self.next_number = 0  # of the next record queued
        self.acknowledged = 0  # every record below has arrived
        self._unsent = 0  # the next number to be sent for the first time
        self._held = 0
        self._flight_bytes = 0
        self.queue: deque[_Sending] = deque()  # not sent yet
        self._flight: dict[int, _Sending] = {}
        self.again: deque[_Sending] = deque()  # to be sent once more
        self._by_time: deque[tuple[float, _Sending]] = deque()

    @property
    def unacknowledged(self) -> int:
        """Records that the peer is not known to have."""
        return len(self.queue) + len(self._flight)

    @property
    def held(self) -> int:
        """Bytes queued or in flight; `queue_bytes` is their limit."""
        return self._held

    @property
    def waiting(self) -> bool:
        """There are records to send, now or when the window opens."""
        return bool(self.queue or self.again)

    @property
    def sent(self) -> int:
        """How many records went out at least once."""
        return self._unsent

    def put(self, start: int, data: bytes) -> None:
        """Queue `data`, cut into records. All of it or, with LinkOverflow, nothing."""
        size = len(data)
        number = self.next_number
        pieces = 1 if size <= MAX_RECORD_DATA else -(-size // MAX_RECORD_DATA)
        held = self._held + size + pieces * _QUEUED_OVERHEAD
        if held > self._queue_bytes:
            raise LinkOverflow(
                "A peer takes less than is sent to it, and the send queue is full.",
                why=f"the limit of the send queue is {self._queue_bytes} bytes, and {self._held} wait in it",
                fix="Raise the limit `queue_bytes`, or find out why the peer or its network is slow.",
            )
        if not 0 <= start <= MAX_START or number + pieces > _LAST_RECORD:
            raise LocalMisuse("A start generation or record number is out of range.")
        self._held = held
        self.next_number = number + pieces
        if pieces == 1:
            self.queue.append(_Sending(number, start, data))
            return
        for offset in range(0, size, MAX_RECORD_DATA):
            self.queue.append(_Sending(number, start, data[offset : offset + MAX_RECORD_DATA]))
            number += 1

    def fill(self, pieces: list[bytes], used: int, soft: int, hard: int, now: float) -> tuple[int, int]:
        """Append records for one packet to `pieces`, which hold `used` bytes.

        As many as fit into `soft` bytes, or a single larger one; never beyond `hard`. Returns the bytes
        in `pieces`, and how many of its records are sent again.
        """
        first, again = True, 0
        while self.again:
            record = self.again[0]
            if record.sent_at < inf:  # else it was acknowledged while it waited
                size = used + record.size
                if size > hard or (size > soft and not first):
                    return used, again
                self._put_in(pieces, record, now)
                used, first, again = size, False, again + 1
            self.again.popleft()
        queue, flight = self.queue, self._flight
        while queue:
            record = queue[0]
            size = used + record.size
            if size > hard or (size > soft and not first) or (flight and self._window_closed(record)):
                break
            queue.popleft()
            self._unsent = record.number + 1
            flight[record.number] = record
            self._flight_bytes += record.size
            self._put_in(pieces, record, now)
            used, first = size, False
        return used, again

    def take_lone(self, now: float) -> bytes | None:
        """The frame of the one record that waits to be sent, if it is the only one and small, and the window
        is open; it counts as sent."""
        if len(self.queue) != 1 or self.again:
            return None
        record = self.queue[0]
        number, size, flight = record.number, record.size, self._flight
        if size > _SMALL or (flight and self._window_closed(record)):
            return None
        self.queue.clear()
        self._unsent = number + 1
        flight[number] = record
        self._flight_bytes += size
        record.sent_at = now
        self._by_time.append((now, record))
        return record.header + record.data

    def _put_in(self, pieces: list[bytes], record: _Sending, now: float) -> None:
        record.sent_at = now
        self._by_time.append((now, record))
        pieces += record.header, record.data

    def _window_closed(self, record: _Sending) -> bool:
        return (
            record.number - self.acknowledged >= self._window_records
            or self._flight_bytes + record.size > self._window_bytes
        )

    def check(self, ack: Ack) -> None:
        if ack.next > self._unsent or (ack.ranges and ack.ranges[-1][1] > self._unsent):
            raise PeerViolation("A peer acknowledges records that were never sent.")

    def acknowledge(self, ack: Ack) -> bool:
        """Forget what has arrived; whether that was anything."""
        before = len(self._flight)
        if ack.next > self.acknowledged:
            self._arrived(range(self.acknowledged, ack.next))
            self.acknowledged = ack.next
        for first, end in ack.ranges:
            self._arrived(range(max(first, self.acknowledged), end))
        self._prune()
        return len(self._flight) < before

    def _arrived(self, numbers: Iterable[int]) -> None:
        flight = self._flight
        for number in numbers:
            record = flight.pop(number, None)
            if record is not None:
                record.sent_at = inf
                self._flight_bytes -= record.size
                self._held -= len(record.data) + _QUEUED_OVERHEAD

    def oldest_sent_at(self) -> float:
        """When the record that waits longest for its acknowledgement was sent; `inf` if none waits."""
        return self._by_time[0][0] if self._by_time else inf

    def send_again(self, before: float) -> bool:
        """Schedule what was sent at or before that time; whether there was anything."""
        found = False
        while self._by_time and self._by_time[0][0] <= before:
            sent_at, record = self._by_time.popleft()
            if record.sent_at == sent_at:
                record.sent_at = -inf
                self.again.append(record)
                found = True
        self._prune()
        return found

    def send_all_again(self) -> None:
        """What is in flight may be lost: schedule it once more, in order."""
        self._by_time.clear()
        for record in self._flight.values():
            record.sent_at = -inf
        self.again = deque(sorted(self._flight.values(), key=lambda record: record.number))

    def _prune(self) -> None:
        by_time = self._by_time
        while by_time and by_time[0][1].sent_at != by_time[0][0]:
            by_time.popleft()

    def clear(self) -> None:
        """Forget everything: nothing more will be sent."""
        self.queue.clear()
        self._flight.clear()
        self.again.clear()
        self._by_time.clear()
        self._held = self._flight_bytes = 0


class Inbox:
    """Records received: put in order, each delivered once."""

    def __init__(self, *, window_records: int, window_bytes: int) -> None:
        self._window_records = window_records
        self._window_bytes = window_bytes
        self.next_number = 0  # of the next record to deliver
        self.total: int | None = None  # known from the peer's CLOSE
        self.ack_at = inf  # when an acknowledgement is due
        self.unacknowledged = 0  # records that came since the last one
        self._early: dict[int, Record] = {}
        self._early_bytes = 0
        self._highest = -1

    @property
    def complete(self) -> bool:
        """The peer has closed, and everything it sent was delivered."""
        return self.next_number == self.total

    def check(self, records: list[Record], close: int | None) -> None:
        """PeerViolation if an honest peer cannot have sent this; nothing has changed then."""
        upcoming = self.next_number
        early = 0
        highest = self._highest
        for number, _, data in records:
            highest = max(highest, number)
            if number == upcoming:
                upcoming += 1
            elif number > upcoming:
                if number - self.next_number >= self._window_records:
                    raise PeerViolation("A peer sends more records than its window allows.")
                if number not in self._early:
                    early += len(data)
        if early and self._early_bytes + early > self._window_bytes:
            raise PeerViolation("A peer sends more bytes than its window allows.")
        total = close if self.total is None else self.total
        if total is not None and (highest >= total or close not in (None, total)):
            raise PeerViolation("A peer contradicts its own close.")

    def close(self, total: int, now: float) -> None:
        self.total = total
        self.ack_at = now

    def accept(self, records: list[Record], now: float) -> list[Record]:
        """Take checked records; those whose turn it is now, in order."""
        delivered = []
        for record in records:
            number = record[0]
            if number == self.next_number:
                self.next_number = number + 1
                delivered.append(record)
                if self._early:
                    self._release(delivered)
            elif number > self.next_number and number not in self._early:
                self._early[number] = record
                self._early_bytes += len(record[2])
            else:
                self.ack_at = now  # a duplicate: the peer does not know that it arrived
            self._highest = max(self._highest, number)
        self.unacknowledged += len(records)
        if self.unacknowledged >= ACK_EVERY:
            self.ack_at = now
        elif self.ack_at == inf:
            self.ack_at = now + ACK_DELAY
        return delivered

    def accept_only(self, plaintext: bytes, now: float) -> Record | None:
        """Take the record of a packet that holds the one whose turn it is, and nothing else. None for any
        other packet, of which nothing was taken. Nearly all packets are such."""
        size = len(plaintext)
        if size < RECORD_HEADER.size:
            return None
        kind, number, start, length = RECORD_HEADER.unpack_from(plaintext)
        stop = RECORD_HEADER.size + length
        if kind != RECORD or number != self.next_number or length > MAX_RECORD_DATA or stop > size:
            return None
        if (stop < size and plaintext[stop] != PADDING) or self._early or self.total is not None:
            return None
        self.next_number = number + 1
        self._highest = number
        self.unacknowledged += 1
        if self.unacknowledged >= ACK_EVERY:
            self.ack_at = now
        elif self.ack_at == inf:
            self.ack_at = now + ACK_DELAY
        return number, start, plaintext[RECORD_HEADER.size : stop]

    def _release(self, delivered: list[Record]) -> None:
        while (record := self._early.pop(self.next_number, None)) is not None:
            self.next_number += 1
            self._early_bytes -= len(record[2])
            delivered.append(record)

    def ack(self, packet: int) -> Ack:
        return Ack(self.total is not None, packet, self.next_number, ranges_of(sorted(self._early)))

    def acknowledged(self) -> None:
        """An acknowledgement went out."""
        self.ack_at = inf
        self.unacknowledged = 0

    def clear(self) -> None:
        self._early.clear()
        self._early_bytes = 0
