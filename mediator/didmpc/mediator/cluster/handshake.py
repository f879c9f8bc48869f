"""The handshake of a link: that of `session/1.0`, between the keys that stand in the table `node`. No I/O.

The node that dials sends `open`, the other one `accept`, both in authcrypt between the did:keys that the
nodes made when they started. Whoever can write that table can be a node, nobody else. An `open` that is
played again makes a session that nobody can use: it counts for nothing before its first packet.
"""

from dataclasses import dataclass

from didmpc.protocols import did as dids
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.errors import SessionError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.session.handshake import ACCEPT, OPEN, Established, Initiation, Party, respond

STRANGER = "e.p.cluster.stranger"


class Dialing:
    """The side that dials: send `open`, then `finish` with what comes."""

    def __init__(self, me: Identity, peer_key: str) -> None:
        self._me = me
        self._peer = dids.resolve(peer_key)
        request = Message(type=OPEN, from_=me.did, to=(self._peer.did,))
        self._id = request.id
        self._initiation = Initiation(Party.of(me), Party.of(self._peer), request.id, link={})
        request.body.update(self._initiation.body)
        self.open = pack_authcrypt(request, me, self._peer)

    def finish(self, envelope: bytes) -> Established:
        """Raises `RemoteViolation` where it is not that node which answered."""
        answer = unpack(envelope, Identities(self._me))
        if answer.sender != self._peer.did or answer.message.thread != self._id:
            raise SessionError("Another node answered.", code=STRANGER)
        if answer.message.type != ACCEPT:
            raise SessionError("The node did not accept.", code=STRANGER)
        return self._initiation.finish(answer.message.body)


@dataclass(frozen=True, slots=True, repr=False)
class Opened:
    """An `open` whose sender is proven; whether it is a node is the caller's to look up."""

    key: str
    kid: str | None
    message: Message


def read(me: Identity, envelope: bytes) -> Opened:
    """Raises `RemoteViolation` for what is no `open` for us."""
    unpacked = unpack(envelope, Identities(me))
    message = unpacked.message
    if unpacked.sender is None or message.type != OPEN:
        raise SessionError("What came is no session open.", code=STRANGER)
    return Opened(unpacked.sender, unpacked.sender_kid, message)


def answer(me: Identity, opened: Opened) -> tuple[bytes, Established]:
    """The `accept`, and the session: not proven before the first packet comes. Raises `RemoteViolation`."""
    peer = dids.resolve(opened.key)
    body, established = respond(
        Party.of(me), Party.of(peer, opened.kid), opened.message.id, opened.message.body, link={}
    )
    accept = Message(type=ACCEPT, from_=me.did, to=(peer.did,), thid=opened.message.thread, body=body)
    return pack_authcrypt(accept, me, peer), established
