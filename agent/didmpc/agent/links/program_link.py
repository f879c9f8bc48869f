"""A link that a program runs: what the daemon does for it, from the handshake to its end.

Over the control socket, to the program:

    {"event": "linked", "session", "path", "contact", "did", "link", "protocol", "role"}   the first line
    {"event": "renewal", "session"}     a new session for the link
    {"event": "packet", "data"}         a packet that came through the mailbox
    {"event": "probe"}                  the peer is said to have lost the session

and from it, as answers: {"packet": b64url}, {"confirmed": true} (the peer was heard in the newest session),
{"renew": true}, {"end": true} (all is said: the request ends with a result once all packets are posted).
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from didmpc.agent.contacts.contacts import Contact
from didmpc.agent.links.unknown import Ended
from didmpc.agent.mailbox.packet_post import PacketPost
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.messages import relay_control
from didmpc.protocols.session.contact_handshakes import KnownLink
from didmpc.protocols.session.handshake import WIRE_JSON, Established
from didmpc.protocols.session.packet import MAX_PACKET_BYTES

UNREAD = (
    16 * 1024 * 1024
)  # what a program has left unread: packets beyond it are dropped, the link says them again

log = logging.getLogger(__name__)


class Program(Protocol):
    """The other end of the control socket."""

    async def event(self, event: Mapping[str, Any]) -> None: ...

    async def answer(self) -> dict[str, Any]: ...

    @property
    def unread(self) -> int: ...


class Office(Protocol):
    """What a link needs of the daemon."""

    def expect_packets(self, sid: bytes, link: "ProgramLink") -> None: ...

    def confirmed(self, link: "ProgramLink", open_id: str) -> None: ...

    def ask_for_renewal(self, link: "ProgramLink") -> None: ...


class ProgramLink:
    """One link; `serve` it with the connection of its program."""

    def __init__(
        self,
        office: Office,
        known: KnownLink,
        contact: Contact,
        post: PacketPost,
        *,
        path: Mapping[str, Any],
        channel: relay_control.Channel | None,
    ) -> None:
        self._office = office
        self._post = post
        self._path = path
        self._news: list[Mapping[str, Any]] = []
        self._program: Program | None = None
        self.known = known
        self.contact = contact
        self.channel = channel
        """The relay channel of ours that it runs through, to be given back."""
        self.sessions: list[tuple[str, bytes, bytes]] = []
        """Of each session that may be in use: the id of its open, and the sids of both directions."""
        self.confirmed = False
        self.ended = False

    def established(self, open_id: str, session: Established) -> Mapping[str, Any]:
        """A session for this link, the first or a new one; what the program is to be told of it."""
        self.sessions = [*self.sessions[-1:], (open_id, session.sid_in, session.sid_out)]
        if session.wire == WIRE_JSON:
            self._office.expect_packets(session.sid_in, self)
        return {"event": "renewal", "session": session.to_json()}

    async def tell(self, event: Mapping[str, Any]) -> None:
        """Tell the program, as soon as it is there."""
        if self._program is None:
            self._news.append(event)
        else:
            await self._program.event(event)

    def has_room(self) -> bool:
        """Whether the program keeps up with what the mailbox brings."""
        if self._program is None:
            return len(self._news) < 64
        return self._program.unread < UNREAD

    async def serve(self, program: Program) -> dict[str, Any]:
        """Until the program says that all is said."""
        known = self.known
        first, *rest = self._news
        self._news.clear()
        self._program = program
        await program.event(
            {
                "event": "linked",
                "session": first["session"],
                "path": dict(self._path),
                "contact": self.contact.name,
                "did": self.contact.did,
                "link": known.id,
                "protocol": known.link["protocol"],
                "role": "initiator" if known.initiator else "responder",
            }
        )
        for event in rest:
            await program.event(event)
        while True:
            answer = await program.answer()
            if "packet" in answer:
                await self._take_packet(answer["packet"])
            elif "confirmed" in answer:
                self.confirmed = True
                known.confirmed()
                self._office.confirmed(self, self.sessions[-1][0])
            elif "renew" in answer:
                self._office.ask_for_renewal(self)
            elif "end" in answer:
                self.ended = True
                await self._post.settle()
                return {}
            else:
                raise LocalMisuse("A program said something about its link that this agent does not know.")

    async def _take_packet(self, text: Any) -> None:
        try:
            packet = unb64url(text)
        except (DidmpcError, ValueError, TypeError):
            packet = b""
        if not 0 < len(packet) <= MAX_PACKET_BYTES:
            raise LocalMisuse("A program handed over a packet that is none.")
        await self._post.hand_over(packet)

    def ends(self) -> list[Ended]:
        """Its sessions, to be remembered."""
        return [Ended(sid_in, open_id, self.contact.did) for open_id, sid_in, _ in self.sessions]

    def speaks_in(self, open_id: str, sid: bytes) -> bool:
        """Whether this is the newest session of the link, and the name under which its packets go out."""
        return bool(self.sessions) and self.sessions[-1][0] == open_id and self.sessions[-1][2] == sid


def packet_event(packet: bytes) -> Mapping[str, Any]:
    return {"event": "packet", "data": b64url(packet)}
