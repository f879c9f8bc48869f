"""Where those come who have the link of a lobby: `knock` at the DID of its invitation.

A lobby that is open gets the knock in its inbox. One that has ended is answered for, with the reason. One
that its host has not opened again since this agent was started finds the knocks waiting.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from didmpc.agent.contacts.invitations import Invitations, Issued
from didmpc.agent.sessions.inbox import Inbox
from didmpc.protocols.did import canonical, did_of
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.mpc import lobby, messages

EXPIRED = "e.p.req.invitation.expired"
REVOKED = "e.p.req.invitation.revoked"
MOST_WAITING = 64  # knocks at one door that nobody has opened again

_ENDED = {
    "revoked": ("This link was taken back.", REVOKED),
    "begun": ("They have begun without you.", lobby.BEGUN),
    "closed": ("The host has ended this.", lobby.CLOSED),
}


class Door:
    """All lobbies of this agent, by the ids of their invitations."""

    def __init__(self, invitations: Invitations) -> None:
        self._invitations = invitations
        self._open: dict[str, Inbox] = {}
        self._waiting: dict[str, dict[str, Unpacked]] = {}

    @contextmanager
    def opened(self, issued: Issued, inbox: Inbox) -> Iterator[None]:
        """Let knocks in, with those that waited."""
        self._open[issued.id] = inbox
        try:
            for knock in self._waiting.pop(issued.id, {}).values():
                inbox.put(knock)
            yield
        finally:
            del self._open[issued.id]

    def is_open(self, issued: Issued) -> bool:
        """Whether a command gathers people here now."""
        return issued.id in self._open

    def leads_from(self, unpacked: Unpacked) -> bool:
        """Whether somebody who knocked goes before anything was proposed."""
        message = unpacked.message
        return message.type == messages.LEAVE and self._invitations.get(message.pthid or "") is not None

    def take(self, unpacked: Unpacked) -> None:
        """A knock, or the end of one. Raises `RemoteViolation` when nobody is let in here any more."""
        issued = self._invitations.find(unpacked.message.pthid, did_of(unpacked.recipient_kid or ""))
        if issued is None or not issued.attempt or unpacked.sender is None:
            raise RemoteViolation("There is no such lobby here.", code=lobby.CLOSED)
        inbox = self._open.get(issued.id)
        if inbox is not None:
            inbox.put(unpacked)
            return
        self.check(issued)
        waiting = self._waiting.setdefault(issued.id, {})
        if len(waiting) >= MOST_WAITING and canonical(unpacked.sender) not in waiting:
            raise RemoteViolation("Too many wait for the host.", code=lobby.BUSY)
        waiting[canonical(unpacked.sender)] = unpacked

    def check(self, issued: Issued) -> None:
        """Raise `RemoteViolation` when this link takes nobody any more."""
        now = self._invitations.get(issued.id)
        if now is None or now.ended:
            what, code = _ENDED[now.ended if now is not None else "closed"]
            raise RemoteViolation(what, code=code)
        if now.expired(time.time()):
            raise RemoteViolation("This link has expired.", code=EXPIRED)
