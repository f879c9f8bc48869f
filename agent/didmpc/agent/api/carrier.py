"""One link of this process: made by the daemon, run here, through a relay or the daemon's mailbox."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from didmpc.agent.api.errors import SessionLost
from didmpc.agent.channel.clock import Wakefulness, now
from didmpc.agent.channel.limits import MIB
from didmpc.agent.channel.orders import RelayPath
from didmpc.agent.channel.paths.mailbox import MailboxPath
from didmpc.agent.channel.peer import Peer
from didmpc.agent.channel.traffic import Traffic
from didmpc.agent.control.async_client import Conversation
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.session.handshake import Established
from didmpc.protocols.session.link import Link, LinkLimits

DAEMON_ROOM = 1 * MIB  # packets that the daemon has not read yet
END_WITHIN = 15.0
WRITE_WITHIN = 1.0

log = logging.getLogger(__name__)


class CarrierListener(Protocol):
    """What a link tells its session."""

    def record_came(self, start: int, data: bytes) -> None: ...

    def state_came(self, state: Mapping[str, Any]) -> None: ...

    def peer_left(self) -> None: ...

    def peer_ended(self, cause: Mapping[str, Any]) -> None: ...

    def link_failed(self, error: DidmpcError) -> None: ...

    def link_moved(self) -> None: ...


class Carrier:
    """Runs one link. It is a `PeerListener`; `event` takes what the daemon says."""

    def __init__(self, traffic: Traffic, number: int, limits: LinkLimits, unreachable: float) -> None:
        self._traffic = traffic
        self._number = number
        self._limits = limits
        self._unreachable = unreachable
        self._conversation: Conversation | None = None
        self._listener: CarrierListener | None = None
        self._keeping_up: asyncio.Task[None] | None = None
        self._mailbox: MailboxPath | None = None
        self._relay_name = f"link {number}"
        self._failure: DidmpcError | None = None
        self._finishing = False
        self._peer: Peer | None = None
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done once the peer was heard; failed where that will not be."""
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self.established: Established | None = None
        self.facts: Mapping[str, Any] = {}

    # --- the beginning

    def converse(self, conversation: Conversation) -> None:
        self._conversation = conversation
        conversation.on_over(self._daemon_gone)

    def listen(self, listener: CarrierListener) -> None:
        """Tell this session from now on."""
        self._listener = listener

    def event(self, event: Mapping[str, Any]) -> None:
        """What the daemon says."""
        match event.get("event"):
            case "linked":
                self._begin(event)
            case "renewal":
                self.peer.renew(Established.from_json(event["session"]))
            case "packet" if self._mailbox is not None:
                self._mailbox.take(unb64url(event["data"]))
                self.moved()
                self._traffic.pump()
            case "probe":
                self.peer.link.probe(now())
                self.peer.pump(now())

    def _begin(self, event: Mapping[str, Any]) -> None:
        self.facts = event
        self.established = established = Established.from_json(event["session"])
        link = Link(established, now=now(), limits=self._limits, clock=time.perf_counter)
        peer = self._peer = self._traffic.peers[self._number] = Peer(
            self._number, str(event["contact"]), link, self
        )
        path = event["path"]
        if path.get("mailbox") is True:
            self._mailbox = MailboxPath(peer, send=self._post, room=self._room)
            self._mailbox.up()
            self._traffic.pump()
            return
        channel = RelayPath(
            mediator=str(path["mediator"]),
            url=str(path["ws"]),
            capability=unb64url(path["capability"]),
            private=bool(path["private"]),
        )
        relay = self._traffic.relay(channel, self._relay_name)
        relay.add(channel.capability, peer)
        self._keeping_up = asyncio.create_task(relay.keep_up())
        self._keeping_up.add_done_callback(self._kept_up)

    def _kept_up(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the relay failed", exc_info=error)
            self._fail(SessionLost("The session ended by an error of didmpc.", why=type(error).__name__))

    # --- in use

    @property
    def peer(self) -> Peer:
        assert self._peer is not None, "not linked"
        return self._peer

    @property
    def link(self) -> Link:
        return self.peer.link

    def send(self, start: int, data: bytes) -> None:
        """Queue one record, and send what may be sent."""
        self.peer.send(start, data)
        self.pump()

    def pump(self) -> None:
        peer = self.peer
        peer.pump_if_touched(now())
        peer.flush()

    def beat(self, at: float, wakefulness: Wakefulness) -> None:
        """Now and then: fresh keys, and whether the peer is heard."""
        peer = self._peer
        if peer is None or self._failure is not None:
            return
        if peer.wants_renewal(at):
            self.renew()
        silence = peer.silence(at, wakefulness)
        if silence > self._unreachable and not peer.closed:
            why = f"Nothing was heard for {silence:.0f} s. {peer.path_reason}".rstrip()
            self._fail(SessionLost(f"The session with {peer.name} is lost.", why=why))
        self.moved()

    def renew(self) -> None:
        """Ask for fresh keys."""
        self._tell({"renew": True})

    def moved(self) -> None:
        if self._listener is not None:
            self._listener.link_moved()

    # --- PeerListener

    def peer_ready(self, peer: Peer) -> None:
        self._tell({"confirmed": True})
        if not self.ready.done():
            self.ready.set_result(None)

    def peer_renewed(self, peer: Peer) -> None:
        self._tell({"confirmed": True})

    def peer_proofs(self, peer: Peer, proofs: tuple[bytes, ...]) -> None:
        """Contacts know each other already."""

    def peer_data(self, pid: int, start: int, data: bytes) -> None:
        self._to_listener(lambda listener: listener.record_came(start, data))

    def peer_state(self, peer: Peer, state: Mapping[str, Any]) -> None:
        self._to_listener(lambda listener: listener.state_came(state))

    def peer_aborted(self, peer: Peer, cause: Mapping[str, Any]) -> None:
        self._to_listener(lambda listener: listener.peer_ended(cause))

    def peer_closed(self, peer: Peer) -> None:
        self._to_listener(lambda listener: listener.peer_left())

    def peer_failed(self, peer: Peer, kind: str, error: DidmpcError) -> None:
        what = f"The session with {peer.name} is lost."
        if kind == "violation":
            what = f"The session with {peer.name} ended: its program broke the protocol."
        self._fail(SessionLost(what, why=str(error)))

    def _to_listener(self, tell: Callable[[CarrierListener], None]) -> None:
        if self._listener is not None:
            tell(self._listener)

    # --- the daemon

    def _tell(self, answer: Mapping[str, Any]) -> None:
        if self._conversation is not None:
            self._conversation.answer(answer)

    def _post(self, packet: bytes) -> None:
        self._tell({"packet": b64url(packet)})

    def _room(self) -> int:
        if self._conversation is None or self._conversation.over:
            return 0
        return DAEMON_ROOM - self._conversation.waiting

    def _daemon_gone(self) -> None:
        """Without it a link through the mailbox is lost; one through a relay only gets no fresh keys."""
        if self._mailbox is not None and self._peer is not None and not self._finishing:
            self._fail(
                SessionLost(
                    f"The session with {self._peer.name} is lost.",
                    why="The agent of this program was stopped, and packets went through its mailbox.",
                    fix="Start it again: didmpc agent start",
                )
            )

    # --- the end

    def _fail(self, error: DidmpcError) -> None:
        if self._failure is None:
            self._failure = error
            if not self.ready.done():
                self.ready.set_exception(error)
            if self._listener is not None:
                self._listener.link_failed(error)

    def abort(self, cause: Mapping[str, Any]) -> None:
        """Tell the peer that it is over, and why."""
        self.peer.abort(cause)

    async def finish(self, *, orderly: bool) -> None:
        """Write out what is to be written, and let go of everything. Without `orderly` the daemon takes the
        program for gone, and tells the peer."""
        self._finishing = True
        relay = self._traffic.relays.get(self._relay_name)
        try:
            if self._peer is not None:
                self._peer.pump(now())
                self._peer.flush()
            if relay is not None:
                await relay.close(WRITE_WITHIN)
            if self._conversation is not None and orderly and self._failure is None:
                self._tell({"end": True})
                with contextlib.suppress(DidmpcError, TimeoutError):
                    async with asyncio.timeout(END_WITHIN):
                        await self._conversation.result()
        finally:
            self._traffic.peers.pop(self._number, None)
            self._traffic.relays.pop(self._relay_name, None)
            if self._keeping_up is not None:
                self._keeping_up.cancel()
            if self._conversation is not None:
                await self._conversation.close()
