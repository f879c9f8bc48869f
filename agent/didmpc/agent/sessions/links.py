"""One session for each pair of parties: handshakes, and the relay channels that the sessions run through.

For pids i < j, i opens the session, and dials the mediator of j, which j has asked for a channel.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from didmpc.agent.contacts.contacts import Contact, Contacts
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.sessions import relay_offers
from didmpc.agent.sessions.channel_process import ChannelProcess
from didmpc.agent.sessions.packets import Packets
from didmpc.agent.sessions.post import Post
from didmpc.agent.sessions.recognition import proofs, recognise
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import resolve
from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Message
from didmpc.protocols.messages import relay_control
from didmpc.protocols.session import handshake
from didmpc.protocols.session.handshake import WIRE_BINARY, Established, Initiation, Party

OPEN_EXPIRES = 120
ACCEPTS_KEPT = 256
_MAILBOX: Mapping[str, Any] = {"mailbox": True}


class Links:
    """This party's links, handed to the channel process as they come about."""

    def __init__(
        self,
        seat: Seat,
        mailbox: Mailbox,
        contacts: Contacts,
        post: Post,
        channel: ChannelProcess,
        packets: Packets,
    ) -> None:
        self._seat = seat
        self._manifest = seat.manifest
        self._mailbox = mailbox
        self._post = post
        self._contacts = contacts
        self._channel = channel
        self._packets = packets
        self._me = Party.of(seat.identity)
        self._initiations: dict[int, Initiation] = {}
        self._accepts: dict[str, Message] = {}
        self._relay_channels: dict[int, relay_control.Channel] = {}
        self._linked: set[int] = set()
        self._exporters: dict[int, tuple[bytes, ...]] = {}  # that a new session may continue, newest last
        self._first_exporters: dict[int, bytes] = {}

    @property
    def missing(self) -> list[int]:
        """The pids without a link."""
        return [pid for pid in self._seat.peers if pid not in self._linked]

    async def create_relay_channels(self) -> None:
        """Ask our mediator for a channel for each party that will dial it."""
        seat = self._seat
        pids = [
            pid
            for pid in seat.peers
            if pid < seat.pid and pid not in seat.without_session and self._wire(pid) == WIRE_BINARY
        ]
        if not pids:
            return
        channels = await relay_offers.create(self._mailbox, len(pids))
        self._relay_channels = dict(zip(pids, channels, strict=True))

    async def revoke_relay_channels(self) -> None:
        """Give the channels back."""
        if self._relay_channels:
            await relay_offers.revoke(self._mailbox, list(self._relay_channels.values()))

    def link_without_session(self) -> None:
        """Nothing to shake hands for with parties that get ordinary DIDComm messages."""
        for pid in self._seat.without_session:
            self._link(pid, {"didcomm": True})

    def to_open(self) -> list[int]:
        """The parties to which the `open` is ours to send."""
        seat = self._seat
        return [pid for pid in seat.peers if pid > seat.pid and pid not in seat.without_session]

    async def open(self, pid: int) -> None:
        """Begin the handshake with a party of a higher pid: for its link, or for a new session of it."""
        message_id = Message(type=handshake.OPEN, body={}).id
        exporters = self._exporters.get(pid)
        initiation = Initiation(
            self._me,
            self._party(pid),
            message_id,
            link=self._pair(self._seat.pid, pid),
            wires=(self._wire(pid),),
            continues=exporters[-1] if exporters else None,
        )
        self._initiations[pid] = initiation
        expires = int(time.time()) + OPEN_EXPIRES
        await self._post.send(
            pid, Message(type=handshake.OPEN, id=message_id, expires_time=expires, body=initiation.body)
        )

    async def take_open(self, pid: int, message: Message) -> None:
        """Answer an `open`; its repetition gets the same answer, byte for byte."""
        known = self._accepts.get(message.id)
        if known is None:
            if pid > self._seat.pid or pid in self._seat.without_session:
                raise MessageError("An open that no pair of the manifest asks for.")
            mediator, channel = self._mailbox.mediator_did, self._relay_channels.get(pid)
            offered = channel is not None and pid not in self._linked
            body, established = handshake.respond(
                self._me,
                self._party(pid),
                message.id,
                message.body,
                link=self._pair(pid, self._seat.pid),
                caps=(relay_offers.offer(mediator, channel.far),) if channel and offered else (),
                wires=(self._wire(pid),),
                continues=self._exporters.get(pid, ()),
            )
            known = self._accepts[message.id] = Message(type=handshake.ACCEPT, thid=message.id, body=body)
            if len(self._accepts) > ACCEPTS_KEPT:
                del self._accepts[next(iter(self._accepts))]
            self._established(pid, established, self._path(mediator, channel.near) if channel else _MAILBOX)
        await self._post.send(pid, known)

    def take_accept(self, pid: int, message: Message) -> None:
        """Complete a handshake that we began."""
        initiation = self._initiations.get(pid)
        if initiation is None:
            if pid in self._linked:
                return  # the answer to an open that was said twice
            raise MessageError("An accept without an open.")
        established = initiation.finish(message.body)
        del self._initiations[pid]
        path = _MAILBOX
        if established.wire == WIRE_BINARY and pid not in self._linked:
            routing = resolve(self._manifest.roster[pid].did).services[0].uri
            path = self._path(*relay_offers.find(established, routing))
        self._established(pid, established, path)

    def recognise(self, pid: int, received: Sequence[bytes]) -> Contact | None:
        """The contact that party `pid` has proven to be, if it has."""
        exporter = self._first_exporters.get(pid)
        if exporter is None:
            return None
        return recognise(self._contacts, "i" if pid < self._seat.pid else "r", exporter, received)

    def _party(self, pid: int) -> Party:
        return Party.of(resolve(self._manifest.roster[pid].did))

    def _pair(self, initiator: int, responder: int) -> dict[str, Any]:
        """What binds a handshake to this attempt and to the two pids (docs/session-extension.md)."""
        return {
            "attempt": self._manifest.attempt,
            "manifest_sha256": self._manifest.sha256,
            "pid_i": initiator,
            "pid_r": responder,
        }

    def _path(self, mediator: str, capability: bytes) -> dict[str, Any]:
        return relay_offers.path(self._mailbox, mediator, capability)

    def _wire(self, pid: int) -> str:
        return self._manifest.wire_of(self._seat.pid, pid)

    def _established(self, pid: int, established: Established, path: Mapping[str, Any]) -> None:
        """Hand a session to the channel process: with the path of its link, or for a link that it has."""
        if established.wire != WIRE_BINARY:
            self._packets.expect(pid, established.sid_in)
        self._exporters[pid] = established.continuable
        session = established.to_json()
        if pid in self._linked:
            self._channel.tell({"renewal": {"pid": pid, "session": session}})
            return
        self._first_exporters[pid] = established.exporter
        ours = proofs(self._contacts, "i" if self._seat.pid < pid else "r", established.exporter)
        self._link(pid, {"session": session, "path": path, "contacts": [b64url(proof) for proof in ours]})

    def _link(self, pid: int, link: Mapping[str, Any]) -> None:
        self._linked.add(pid)
        self._channel.tell({"link": {"pid": pid, **link}})
