"""A link: everything between two parties for one run, above the paths that carry its packets.

Sans-I/O: packets and `now` come in, events and packets come out. Bytes sent arrive in order and exactly
once, whatever the paths do; control goes ahead of them and is said again rather than acknowledged
(docs/session-extension.md, "Links").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, NamedTuple, TypeAlias, cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from didmpc.protocols.errors import LocalMisuse, SessionError
from didmpc.protocols.session import frames, packet_json
from didmpc.protocols.session.frames import Control, PeerViolation, Record, largest_unpadded, padded_length
from didmpc.protocols.session.handshake import WIRE_BINARY, Established
from didmpc.protocols.session.packet import SID, Aead, EpochLimits, SessionOver, unsealed
from didmpc.protocols.session.records import ACK_DELAY, ACK_EVERY, Inbox, LinkOverflow, Outbox
from didmpc.protocols.session.session import Session

__all__ = [
    "Aborted",
    "Closed",
    "Contacts",
    "Data",
    "Event",
    "Link",
    "LinkLimits",
    "LinkOverflow",
    "LinkStats",
    "PeerState",
    "PeerViolation",
    "Ready",
    "Renewed",
    "SessionOver",
]

PING_EVERY = 1.0
RETRANSMIT_AFTER = 1.0
# On a path that stores packets on their way, where each costs more and comes later:
STORED_PING_EVERY, STORED_PING_EVERY_IN_SILENCE = 2.0, 10.0
STORED_RETRANSMIT_AFTER = 5.0
SILENCE = 5.0
PROBE_SECONDS = 10.0
"""How long a peer that is said to have lost a session has to be heard in it."""
MAX_BACK_OFF = 64
RETIRED_SECONDS = 60.0
"""How long packets of the session before are still opened."""
_PINGS_REMEMBERED = 64
_UNLIMITED = 1 << 62
_AMPLE = 512 * 1024  # room for any packet of a link: all control there is and the largest record, as JSON
_LARGE = 4096  # bytes; beyond that copies cost more than looking after memory
_PADDING = [bytes(length) for length in range(64)]


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Bounds of one link. The windows of the sending side are the lower of its own and its peer's."""

    window_records: int = 8192
    window_bytes: int = 32 * 1024 * 1024
    queue_bytes: int = 512 * 1024 * 1024
    packet_bytes: int = 64 * 1024  # small records are put together up to this
    idle_seconds: float = 15 * 60.0
    lifetime_seconds: float = 24 * 3600.0  # of each session
    renew_seconds: float = 3600.0  # when a new session is due: this, or
    renew_packets: int = 1 << 28
    epoch: EpochLimits = field(default_factory=EpochLimits)

    def announced(self) -> dict[str, int]:
        """What belongs into the `limits` of the handshake, if it is not the default."""
        return {"window_records": self.window_records, "window_bytes": self.window_bytes}


@dataclass(frozen=True, slots=True)
class Ready:
    """The peer holds the keys of this session: its first valid packet has come."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """Both sides have gone over to the new session."""


class Data(NamedTuple):
    """One record: a piece of the byte stream of start generation `start`."""

    start: int
    data: bytes


_data: Callable[[tuple[int, bytes]], Data] = partial(tuple.__new__, Data)
"""The same as `Data(...)`, at half of the price."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """The peer says what it is doing, and that is news."""

    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contacts:
    """Proofs that the peer is a contact, of which at most one is meant for us (section 12)."""

    proofs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer has ended the run. The cause is its own word, valid about nobody but itself."""

    cause: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer has closed its side, and every record it sent has been delivered."""


Event: TypeAlias = Ready | Renewed | Contacts | Data | PeerState | Aborted | Closed


@dataclass(slots=True)
class LinkStats:
    """Counts of one link. Seconds are measured with the clock handed to the link, else 0."""

    records_sent: int = 0
    records_received: int = 0
    records_sent_again: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    bytes_sent: int = 0  # handed to `send`
    bytes_received: int = 0  # delivered
    sealed_bytes: int = 0  # of the packets sent
    seal_seconds: float = 0.0
    open_seconds: float = 0.0
    sessions: int = 1  # that this side has spoken in


class Link:
    """One per pair of parties. It starts without a path: nothing is said before `path_up` says that there
    is one for packets of the session's wire form.

    Call `packets` after each `send`, `receive` (if it `has_to_answer`), `path_up` and new budget, and at
    `deadline`.
    `receive` raises SessionError for a packet that is not authentic, which is no fault of the peer, and
    PeerViolation for an authentic one that breaks the protocol, which is. SessionOver (from `receive`,
    `packets` or `send`) means that this link is over for good. Records stand above sessions: `renew` gives
    the link another one, and nothing is lost or doubled by the change.
    """

    def __init__(
        self,
        established: Established,
        *,
        now: float,
        limits: LinkLimits | None = None,
        clock: Callable[[], float] | None = None,
        aead: Callable[[bytes], Aead] = AESGCM,
    ) -> None:
        self._limits = limits or LinkLimits()
        theirs = established.peer_hs.get("limits", {})
        self._aead = aead
        self._session = self._new_session(established, now)  # the one that speaks
        self.wire = self._session.wire
        """The form of the packets that `packets` returns now."""
        self._proposed: Session | None = None  # a newer one, not confirmed yet
        self._retired: Session | None = None
        self._retired_until = inf
        self._propose_at = inf
        default = LinkLimits()
        self._outbox = Outbox(
            window_records=min(
                self._limits.window_records, theirs.get("window_records", default.window_records)
            ),
            window_bytes=min(self._limits.window_bytes, theirs.get("window_bytes", default.window_bytes)),
            queue_bytes=self._limits.queue_bytes,
        )
        self._inbox = Inbox(
            window_records=self._limits.window_records, window_bytes=self._limits.window_bytes
        )
        self._clock = clock
        self._up: dict[str, bool] = {}  # paths by the wire form they carry: whether they store packets
        self._blocked = False  # control waits for budget
        self._over: SessionOver | None = None
        self._ends_at = now + self._limits.lifetime_seconds
        self.last_heard = now
        self.stats = LinkStats()

        self._quiet_until = -inf  # before that time there is nothing to say but records, and acknowledgements
        self._urgent = False  # there is control to say at once
        self._say_ready = False
        self._ping_at = inf
        self._ping_number = 0
        self._pings: dict[int, float] = {}
        self._pong: int | None = None
        self._rtt: float | None = None
        self._back_off = 1
        self._look_again = -inf  # nothing has to be sent again before this time
        self._probe_ends = inf
        self._state = b"{}"
        self._peer_state: dict[str, Any] = {}

        self._contact: tuple[bytes, ...] = ()
        self._say_contact = False
        self._contact_received = False

        self._closing = False
        self._say_close = False
        self._close_acknowledged = False
        self._closed_by_peer = False
        self._abort_cause: bytes | None = None
        self._say_abort = False
        self._aborted_by_peer = False

    def __repr__(self) -> str:
        return f"<Link path={self._path_is_up} unacknowledged={self.unacknowledged}>"

    # --- what the application says

    def send(self, start: int, data: bytes) -> None:
        """Queue a piece of the stream of generation `start`; an empty one arrives as such.

        LinkOverflow when the send queue is full: nothing of `data` was queued then.
        """
        if self._over is not None:
            raise self._over
        if self._closing:
            raise LocalMisuse("A link that was closed cannot send.")
        if self._abort_cause is not None or self._aborted_by_peer:
            return
        self._outbox.put(start, data)
        self.stats.bytes_sent += len(data)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """What the peer gets to hear about us, each second and once on a change."""
        self._quiet_until = -inf
        text = frames.encode_object(state, frames.MAX_STATE)
        if text != self._state:
            self._state = text
            self._ping_at = -inf

    def offer_contacts(self, proofs: Sequence[bytes]) -> None:
        """Proofs for the peer to recognise us by: 16, 64, 256 or 1,024 of them, said once it is confirmed."""
        self._quiet_until = -inf
        assert len(proofs) in frames.PROOF_COUNTS
        self._contact, self._say_contact = tuple(proofs), True

    def close(self) -> None:
        """Nothing follows what was sent: the peer learns after which record, and misses none before it."""
        self._quiet_until = -inf
        if not self._closing:
            self._closing = self._say_close = self._urgent = True

    def abort(self, cause: Mapping[str, Any]) -> None:
        """End the run for the peer, too: the cause goes ahead of everything, and nothing else follows."""
        self._quiet_until = -inf
        if self._abort_cause is None:
            self._abort_cause = frames.encode_object(cause, frames.MAX_CAUSE)
            self._say_abort = self._urgent = True
            self._outbox.clear()

    # --- sessions

    def renewal_due(self, now: float) -> bool:
        """Whether this side, which opened the session, should open another one and hand it to `renew`.

        Not before the peer was heard in the present one (docs/session-extension.md, section 9).
        """
        session, limits = self._session, self._limits
        return (
            session.initiator
            and session.heard
            and self._proposed is None
            and not (self._closing or self._closed_by_peer or self._aborted_by_peer)
            and (
                now - session.since >= limits.renew_seconds
                or max(session.sealed, session.opener.highest) >= limits.renew_packets
            )
        )

    def renew(self, established: Established, now: float) -> None:
        """A new session for this link. It takes over once the peer was heard in it; until then, and where
        that never happens, the present one goes on. One that was not confirmed makes way."""
        self._quiet_until = -inf
        self._check_over()
        if not self._session.heard:
            raise LocalMisuse("A link gets a new session only once its peer was heard in the present one.")
        self._proposed = self._new_session(established, now)
        self._propose_at = now if self._proposed.initiator else inf

    def _new_session(self, established: Established, now: float) -> Session:
        return Session(established, now=now, epoch=self._limits.epoch, aead=self._aead)

    def _session_of(self, packet: bytes | memoryview) -> Session:
        sid = packet_json.parse(packet).sid if packet[:1] == b"{" else packet[SID]
        if sid == self._session.sid_in:
            return self._session
        for session in (self._proposed, self._retired):
            if session is not None and sid == session.sid_in:
                return session
        raise SessionError("A packet belongs to no session here.", code="e.p.session.unknown")

    def _take_over(self, now: float, events: list[Event]) -> None:
        """The peer was heard in the proposed session: from now on all is said in it."""
        assert self._proposed is not None
        self._session.retire()
        self._retired, self._retired_until = self._session, now + RETIRED_SECONDS
        self._session, self._proposed = self._proposed, None
        self.wire = self._session.wire
        if self._session.wire != self._retired.wire and self._path_is_up:
            self._path_reset(now)
        self._propose_at = inf
        self._ends_at = now + self._limits.lifetime_seconds
        self._say_ready = not self._session.initiator
        self._urgent = True
        self.stats.sessions += 1
        events.append(Renewed())

    def proposal(self, now: float) -> bytes | None:
        """A packet for the path of the other form, where the proposed session has that."""
        proposed = self._proposed
        if proposed is None or proposed.wire == self._session.wire or not self._proposal_due(now):
            return None
        return self._propose(proposed, now, _UNLIMITED)

    def _proposal_here(self, now: float, room: int) -> bytes | None:
        """The same, where the proposed session has the present form."""
        proposed = self._proposed
        if proposed is None or proposed.wire != self._session.wire or not self._proposal_due(now):
            return None
        return self._propose(proposed, now, room)

    def _proposal_due(self, now: float) -> bool:
        return now >= self._propose_at and self._proposed is not None and self._proposed.wire in self._up

    def _propose(self, proposed: Session, now: float, room: int) -> bytes | None:
        """READY in the proposed session, now and then until the peer answers in it."""
        said = frames.encode_ready() + frames.encode_ping(self._ping_number, self._state)
        length = padded_length(len(said))
        if length > proposed.largest_plaintext(room):
            return None
        stored = self._up[proposed.wire]
        self._propose_at = now + (STORED_PING_EVERY if stored else PING_EVERY)
        return proposed.seal(said.ljust(length, b"\0"), now)

    def probe(self, now: float) -> None:
        """Somebody says that the peer has lost this session: a hint, to be tested by asking the peer."""
        self._quiet_until = -inf
        if self._probe_ends == inf:
            self._probe_ends = now + max(PROBE_SECONDS, 4 * (self._rtt or 0.0))
            self._ping_at = now

    # --- paths

    def path_up(self, now: float, wire: str = WIRE_BINARY, *, stored: bool = False) -> None:
        """There is a new path for packets of that form, or the one there is was reset.

        Whatever was on its way is said again. A `stored` path is slow and pays for each packet.
        """
        self._quiet_until = -inf
        self._up[wire] = stored
        if wire == self._session.wire:
            self._path_reset(now)
        if self._propose_at < inf:
            self._propose_at = now

    def _path_reset(self, now: float) -> None:
        self._blocked = False
        self._pings.clear()
        self._back_off = 1
        self._look_again = -inf
        self._outbox.send_all_again()
        self._say_ready = self._session.initiator or self._session.heard
        self._ping_at = now
        self._inbox.ack_at = now
        self._urgent = True  # and the PING says abort and close again

    def path_down(self, now: float, wire: str = WIRE_BINARY) -> None:
        """Nothing of that form can be written until the next `path_up`; what is queued waits."""
        self._quiet_until = -inf
        self._up.pop(wire, None)

    @property
    def _path_is_up(self) -> bool:
        return self._session.wire in self._up

    @property
    def _stored(self) -> bool:
        return self._up.get(self._session.wire, False)

    # --- receiving

    def receive(self, packet: bytes | memoryview, now: float) -> list[Event]:
        """Take one packet; what it brings, in order. A refused packet changes nothing."""
        if self._over is not None:
            raise self._over
        clock = self._clock
        started = clock() if clock else 0.0
        session = self._session
        if packet[SID] != session.sid_in:
            session = self._session_of(packet)
        try:
            plaintext = session.opener.open(packet)
        except SessionOver as error:
            if session is not self._session:
                raise SessionError(error.what) from None  # attacked, but no more in use or not yet
            self._end(error)
            raise
        if session.heard and not self._aborted_by_peer:
            record = self._inbox.accept_only(plaintext, now)
            if record is not None:
                _, start, data = record
                stats = self.stats
                stats.packets_received += 1
                stats.records_received += 1
                stats.bytes_received += len(data)
                self.last_heard = now
                self._probe_ends = inf
                if clock:
                    stats.open_seconds += clock() - started
                return [_data((start, data))]
        self._quiet_until = -inf
        records, control = frames.decode(plaintext)
        self._check(records, control, session)
        self.last_heard = now
        self._probe_ends = inf
        self.stats.packets_received += 1
        events: list[Event] = []
        if not session.heard:
            self._first_heard(session, now, events)
        if not self._aborted_by_peer:
            if records:
                self._take_records(records, now, events)
            if control is not None:
                self._take_control(control, session, now, events)
            if self._inbox.complete and not self._closed_by_peer:
                self._closed_by_peer = True
                events.append(Closed())
            if control is not None and control.abort is not None:
                self._aborted_by_peer = True
                self._outbox.clear()
                self._inbox.clear()
                events.append(Aborted(control.abort))
        if clock:
            self.stats.open_seconds += clock() - started
        return events

    def _check(self, records: list[Record], control: Control | None, session: Session) -> None:
        """Everything that can be wrong with an authentic packet, before any of it is applied."""
        self._inbox.check(records, control.close if control else None)
        if control is not None and control.ack is not None:
            if control.ack.packet >= session.sealed:
                raise PeerViolation("A peer acknowledges packets that were never sealed.")
            self._outbox.check(control.ack)

    def _take_records(self, records: list[Record], now: float, events: list[Event]) -> None:
        stats = self.stats
        delivered = self._inbox.accept(records, now)
        stats.records_received += len(delivered)
        for _, start, data in delivered:
            stats.bytes_received += len(data)
            events.append(Data(start, data))

    def _take_control(self, control: Control, session: Session, now: float, events: list[Event]) -> None:
        ack, ping, pong = control.ack, control.ping, control.pong
        if ack is not None:
            session.acknowledged(ack.packet)
            if ack.closed and self._closing:
                self._close_acknowledged = True
            if ack.contacts:
                self._contact = ()
            if self._outbox.acknowledge(ack) and self._back_off > 1:
                self._back_off, self._look_again = 1, -inf
        if ping is not None:
            self._pong = ping.id
            self._urgent = True
            self._learn_state(ping.state, events)
        if pong is not None:
            self._pong_came(pong.id, now)
            self._learn_state(pong.state, events)
        if control.contact is not None:
            self._inbox.ack_at = now
            if not self._contact_received:
                self._contact_received = True
                events.append(Contacts(control.contact))
        if control.close is not None:
            self._inbox.close(control.close, now)

    def _first_heard(self, session: Session, now: float, events: list[Event]) -> None:
        """Any valid packet confirms the peer. The responder may speak now, and does so at once."""
        session.heard = True
        if session is self._proposed:
            self._take_over(now, events)
            return
        self._say_ready = not session.initiator
        self._ping_at = min(self._ping_at, now)
        self._urgent = True
        events.append(Ready())

    def _learn_state(self, state: dict[str, Any], events: list[Event]) -> None:
        if state != self._peer_state:
            self._peer_state = state
            events.append(PeerState(state))

    def _pong_came(self, number: int, now: float) -> None:
        sent_at = self._pings.get(number)
        if sent_at is not None:
            sample = now - sent_at
            self._rtt = sample if self._rtt is None else 0.75 * self._rtt + 0.25 * sample
            self._look_again = -inf
            for earlier in [known for known in self._pings if known <= number]:
                del self._pings[earlier]

    # --- sending

    @property
    def unacknowledged(self) -> int:
        """What the peer is not known to have: records, and our close."""
        return self._outbox.unacknowledged + (self._closing and not self._close_acknowledged)

    @property
    def unacknowledged_bytes(self) -> int:
        """What the send queue holds, with what holding a record costs."""
        return self._outbox.held

    @property
    def delivered(self) -> bool:
        """Whether the peer has every record so far; it stays true after an abort, by either side."""
        return self._outbox.acknowledged == self._outbox.next_number

    @property
    def has_acknowledged(self) -> bool:
        """Whether everything that came was acknowledged, in packets that went out on a path."""
        return self._inbox.ack_at == inf

    @property
    def rtt(self) -> float | None:
        """Smoothed seconds from PING to PONG, once there was one."""
        return self._rtt

    @property
    def has_to_answer(self) -> bool:
        """Whether the last `receive` left something to say at once; the rest has until `deadline`."""
        outbox = self._outbox
        return self._urgent or bool(outbox.queue or outbox.again) or self._inbox.ack_at <= self.last_heard

    def packets(self, now: float, budget: int | None = None) -> list[bytes]:
        """What to write now, at most `budget` bytes: control first, then records as the window allows."""
        room = _UNLIMITED if budget is None else budget
        inbox, outbox = self._inbox, self._outbox
        packets: list[bytes] = []
        control: list[bytes] = []
        quiet = now < self._quiet_until and now < inbox.ack_at and inbox.unacknowledged < ACK_EVERY // 2
        if quiet:
            if room >= _AMPLE and (lone := outbox.take_lone(now)) is not None:
                return [self._seal_lone(lone, now)]
        else:
            self.expire(now)
            if not self._may_speak():
                return packets
            self._look_after(now)
            if (packet := self._proposal_here(now, room)) is not None:
                packets.append(packet)
                room -= len(packet)
            control = self._control(now)
        while control or outbox.queue or outbox.again:
            pieces, control = control, []
            used = sum(map(len, pieces)) if pieces else 0
            hard = room if room >= _AMPLE else largest_unpadded(self._session.largest_plaintext(room))
            if used > hard:
                self._blocked = True
                break
            spoken = used > 0
            used, again = outbox.fill(pieces, used, self._limits.packet_bytes, hard, now)
            if not pieces:
                break
            if spoken:
                self._control_said(now)
            packet = self._seal(pieces, used, now)
            packets.append(packet)
            room -= len(packet)
            self.stats.records_sent_again += again
        self.stats.packets_sent += len(packets)
        self.stats.records_sent = outbox.sent
        if not quiet:
            self._quiet_until = self._next_duty()
        return packets

    def _look_after(self, now: float) -> None:
        """What has to be done from time to time."""
        self._blocked = False
        if now >= self._look_again:
            self._retransmit(now)
        if now >= self._retired_until:
            self._retired, self._retired_until = None, inf

    def _next_duty(self) -> float:
        """Until when `packets` has only records and acknowledgements to look at, if nothing else happens."""
        if self._urgent or self._blocked or self._outbox.again:
            return -inf
        propose_at = self._propose_at if self._proposed is not None else inf
        due = (
            self._ping_at,
            self._look_again,
            self._retired_until,
            self._ends_at,
            self._probe_ends,
            propose_at,
        )
        return min(*due, self.last_heard + self._limits.idle_seconds)

    def expire(self, now: float) -> None:
        """SessionOver when the time of the link has come; for whoever has no path to ask `packets` for."""
        if now >= min(self._ends_at, self._probe_ends, self.last_heard + self._limits.idle_seconds):
            self._end(SessionOver(self._expiry(now)))
        self._check_over()

    def _may_speak(self) -> bool:
        """A responder is silent until the initiator is confirmed (section "Handshake")."""
        return self._path_is_up and (self._session.heard or self._session.initiator)

    def _seal(self, pieces: list[bytes], used: int, now: float) -> bytes:
        clock = self._clock
        started = clock() if clock else 0.0
        pieces.append(_PADDING[-used & 63] if used < 1024 else bytes(padded_length(used) - used))
        session = self._session
        packet: bytes
        if used > _LARGE and session.seal_in_place is not None:
            session.seal_in_place(room := unsealed(*pieces), now)
            packet = cast("bytes", room)  # which nobody changes any more
        else:
            packet = session.seal(b"".join(pieces), now)
        stats = self.stats
        if clock:
            stats.seal_seconds += clock() - started
        stats.sealed_bytes += len(packet)
        return packet

    def _seal_lone(self, frame: bytes, now: float) -> bytes:
        """A packet of one frame and nothing else, as most are."""
        clock = self._clock
        started = clock() if clock else 0.0
        size = len(frame)
        padding = _PADDING[-size & 63] if size < 1024 else bytes(padded_length(size) - size)
        packet = self._session.seal(frame + padding, now)
        stats = self.stats
        if clock:
            stats.seal_seconds += clock() - started
        stats.packets_sent += 1
        stats.records_sent += 1
        stats.sealed_bytes += len(packet)
        return packet

    def _control(self, now: float) -> list[bytes]:
        """The control frames that are due. What may have been lost is said again with each PING."""
        inbox = self._inbox
        beat = now >= self._ping_at
        if not (self._urgent or beat or now >= inbox.ack_at):
            half_due = inbox.unacknowledged >= ACK_EVERY // 2 and self._outbox.waiting
            return [self._ack()] if half_due else []
        control = []
        if self._abort_cause is not None and (beat or self._say_abort):
            control.append(frames.encode_abort(self._abort_cause))
        if self._say_ready:
            control.append(frames.encode_ready())
        if self._session.heard:
            control.append(self._ack())
            if self._contact and (beat or self._say_contact):
                control.append(frames.encode_contact(self._contact))
        if self._pong is not None:
            control.append(frames.encode_pong(self._pong, self._state))
        if beat:
            control.append(frames.encode_ping(self._ping_number, self._state))
        if self._closing and not self._close_acknowledged and (beat or self._say_close):
            control.append(frames.encode_close(self._outbox.next_number))
        return control

    def _ack(self) -> bytes:
        ack = self._inbox.ack(self._session.opener.highest)
        return frames.encode_ack(ack._replace(contacts=self._contact_received))

    def _control_said(self, now: float) -> None:
        """All control that was due is sealed."""
        self._urgent = self._say_abort = self._say_ready = self._say_close = False
        self._say_contact = self._say_contact and not self._session.heard
        self._pong = None
        self._inbox.acknowledged()
        if now >= self._ping_at:
            if len(self._pings) < _PINGS_REMEMBERED:
                self._pings[self._ping_number] = now
            self._ping_number = (self._ping_number + 1) & 0xFFFFFFFF
            self._ping_at = now + self._ping_every(now)

    def _ping_every(self, now: float) -> float:
        if not self._stored:
            return PING_EVERY
        silent = now - self.last_heard > SILENCE
        return STORED_PING_EVERY_IN_SILENCE if silent else STORED_PING_EVERY

    def _retransmit(self, now: float) -> None:
        """Send again what waits for too long, and note when to look again: never before it can be due."""
        oldest = self._outbox.oldest_sent_at()
        after = self._retransmit_after(now)
        if now >= oldest + after and self._outbox.send_again(max(oldest, now - after)):
            self._back_off = min(self._back_off * 2, MAX_BACK_OFF)
            oldest = self._outbox.oldest_sent_at()
        after = self._least_wait if oldest == inf else oldest - now + self._retransmit_after(now)
        self._look_again = now + after

    def _retransmit_after(self, now: float) -> float:
        """max(1 s or, on a stored path, 5 s; 4 RTT + acknowledgement delay), doubled while it does not help.

        A PING that is unanswered for longer than the RTT says that the path is slower now: a path that
        is merely full must not be filled with copies.
        """
        rtt = self._rtt or 0.0
        if self._pings:
            rtt = max(rtt, now - next(iter(self._pings.values())))
        return max(self._least_wait, 4 * rtt + ACK_DELAY) * self._back_off

    @property
    def _least_wait(self) -> float:
        return STORED_RETRANSMIT_AFTER if self._stored else RETRANSMIT_AFTER

    # --- time

    def deadline(self) -> float:
        """When `packets` has to be called at the latest, even if nothing happens."""
        due = min(self._ends_at, self._probe_ends, self.last_heard + self._limits.idle_seconds)
        if self._proposed is not None and self._proposed.wire in self._up:
            due = min(due, self._propose_at)
        if self._may_speak() and not self._blocked:
            if self._urgent:
                return -inf
            due = min(due, self._ping_at, self._inbox.ack_at)
            if self._outbox.oldest_sent_at() < inf:
                due = min(due, self._look_again)
        return due

    def _expiry(self, now: float) -> str:
        if now >= self._ends_at:
            return f"The session is older than {self._limits.lifetime_seconds:.0f} s."
        if now >= self._probe_ends:
            return "The peer has lost the session."
        return f"Nothing was heard from the peer for {self._limits.idle_seconds:.0f} s: the session is over."

    def _end(self, error: SessionOver) -> None:
        self._over = error
        self._quiet_until = -inf
        self._up.clear()
        self._outbox.clear()
        self._inbox.clear()

    def _check_over(self) -> None:
        if self._over is not None:
            raise self._over
