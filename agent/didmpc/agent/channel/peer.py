"""One other party of the run: its link, the path that the link uses now, and whether it is heard."""

import logging
from collections.abc import Mapping
from enum import Enum
from math import inf
from typing import Any, Protocol

from didmpc.agent.channel.clock import Wakefulness, now
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.paths.path import Path
from didmpc.protocols.errors import DidmpcError, LocalMisuse, SessionError
from didmpc.protocols.session.handshake import Established
from didmpc.protocols.session.link import (
    Aborted,
    Closed,
    Contacts,
    Data,
    Event,
    Link,
    LinkOverflow,
    PeerState,
    PeerViolation,
    Ready,
    Renewed,
    SessionOver,
)

RENEWAL_RETRY = 60.0

log = logging.getLogger(__name__)


class Presence(Enum):
    """What a user is told about a peer."""

    EXPECTED = "expected"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"


class PeerListener(Protocol):
    """What a peer tells the run."""

    def peer_ready(self, peer: "Peer") -> None: ...

    def peer_renewed(self, peer: "Peer") -> None: ...

    def peer_proofs(self, peer: "Peer", proofs: tuple[bytes, ...]) -> None: ...

    def peer_data(self, pid: int, start: int, data: bytes) -> None: ...

    def peer_state(self, peer: "Peer", state: Mapping[str, Any]) -> None: ...

    def peer_aborted(self, peer: "Peer", cause: Mapping[str, Any]) -> None: ...

    def peer_closed(self, peer: "Peer") -> None: ...

    def peer_failed(self, peer: "Peer", kind: str, error: DidmpcError) -> None: ...


class Peer:
    """Drives one sans-I/O link: what the path brings goes in, what the link wants to say goes out."""

    def __init__(self, pid: int, name: str, link: Link, listener: PeerListener) -> None:
        self.pid = pid
        self.name = name
        self.link = link
        self._listener = listener
        self._deliver = listener.peer_data
        self._paths: dict[str, Path] = {}  # by the wire form that they carry
        self.touched = False
        """Whether there may be something to say: written by the program, owed to the peer, or held back."""
        self._abort_written = False
        self.path_reason = ""
        self.paths_up = 0
        self.presence = Presence.EXPECTED
        self.ready = False
        self.closed = False
        self.aborting = False
        self.state: Mapping[str, Any] = {}
        self.refused_packets = 0
        self._ask_again = -inf

    # --- from the program

    def send(self, start: int, data: bytes) -> None:
        """Queue bytes of MPyC for this peer; `pump_if_touched` sends them."""
        self.touched = True
        try:
            self.link.send(start, data)
        except LinkOverflow as error:
            self._listener.peer_failed(self, "overflow", error)
        except SessionOver as error:
            self._over(error)

    # --- LinkEnd: from the path

    def path_up(self, path: Path) -> None:
        self.paths_up += 1
        self._paths[path.wire] = path
        self.path_reason = ""
        self.link.path_up(now(), path.wire, stored=path.stored)
        self.touched = True

    def path_down(self, path: Path, reason: str) -> None:
        self.path_reason = reason
        if self._paths.get(path.wire) is path:
            del self._paths[path.wire]
            self.link.path_down(now(), path.wire)

    def path_writable(self) -> None:
        self.touched = True

    def packet_received(self, packet: bytes | memoryview) -> None:
        try:
            events = self.link.receive(packet, now())
        except PeerViolation as error:
            self._listener.peer_failed(self, "violation", error)
            return
        except SessionOver as error:
            self._over(error)
            return
        except SessionError:
            self.refused_packets += 1  # whoever relays may garble; only authentic packets count for anything
            return
        if not self.touched:
            self.touched = self.link.has_to_answer
        for event in events:
            if type(event) is Data:
                self._deliver(self.pid, *event)
            else:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        match event:
            case Renewed():
                self._listener.peer_renewed(self)
            case Contacts():
                self._listener.peer_proofs(self, event.proofs)
            case Ready():
                self.ready = True
                self._listener.peer_ready(self)
            case PeerState():
                self.state = event.state
                self._listener.peer_state(self, event.state)
            case Aborted():
                self.closed = True
                self._listener.peer_aborted(self, event.cause)
            case Closed():
                self.closed = True
                self._listener.peer_closed(self)

    # --- to the path

    def pump(self, now: float) -> None:
        """Give the path what the link has to say, as far as there is budget. The caller flushes."""
        path = self._paths.get(self.link.wire)
        try:
            if path is None or (budget := path.budget) <= 0:
                self.link.expire(now)
                return
            self.touched = False
            packets = self.link.packets(now, budget)
        except SessionOver as error:
            self._over(error)
            return
        for packet in packets:
            path.write(packet)
            self._abort_written = self.aborting
        if len(self._paths) > 1:
            self._propose(now)

    def _propose(self, now: float) -> None:
        """READY of a new session in the other wire form, on the path of that form."""
        proposal = self.link.proposal(now)
        if proposal is not None:
            for wire, path in self._paths.items():
                if wire != self.link.wire:
                    path.write(proposal)
                    path.flush()

    def pump_if_touched(self, now: float) -> None:
        """After a read: send what the program wrote, answer what came, use credit that came."""
        if self.touched:
            self.pump(now)

    def flush(self) -> None:
        path = self._paths.get(self.link.wire)
        if path is not None:
            path.flush()

    def renew(self, established: Established) -> None:
        """A new session for the link; it takes over once the peer was heard in it."""
        try:
            self.link.renew(established, now())
        except SessionOver as error:
            self._over(error)
            return
        except LocalMisuse as error:
            log.info("a new session with %s was of no use: %s", self.name, error)
            return  # the present one goes on
        self.pump(now())
        self.flush()

    def wants_renewal(self, now: float) -> bool:
        """Whether to ask for a new session; once, and again after a minute without one."""
        if now < self._ask_again or not self.link.renewal_due(now):
            return False
        self._ask_again = now + RENEWAL_RETRY
        return True

    def _over(self, error: SessionOver) -> None:
        self._paths.clear()
        self._listener.peer_failed(self, "session-over", error)

    # --- the end

    def abort(self, cause: Mapping[str, Any]) -> None:
        """Tell the peer that the run ends, and why."""
        if not self.closed:
            self.aborting = True
            self.link.abort(dict(cause))
            self.pump(now())
            self.flush()

    @property
    def abort_written(self) -> bool:
        """The abort has been handed to a path (or the peer needs none)."""
        return self.closed or self._abort_written

    def close(self) -> None:
        """Nothing more will be sent: the peer is told after which record."""
        self.link.close()
        self.pump(now())
        self.flush()

    @property
    def settled(self) -> bool:
        """Everything the peer may need from us has arrived there."""
        return self.closed or not self.link.unacknowledged

    # --- liveness

    @property
    def rtt_ms(self) -> float | None:
        """The round trip to the peer's channel process, once it was measured."""
        return None if self.link.rtt is None else round(self.link.rtt * 1000, 1)

    def silence(self, now: float, wakefulness: Wakefulness) -> float:
        return wakefulness.silence(self.link.last_heard, now)

    def judge(self, silence: float, limits: Limits) -> Presence | None:
        """The new presence, when it has changed."""
        if self.closed:
            return None
        if silence > limits.unreachable:
            presence = Presence.UNREACHABLE
        elif self.ready:
            presence = Presence.CONNECTED
        else:
            presence = Presence.EXPECTED
        if presence is self.presence:
            return None
        self.presence = presence
        return presence
