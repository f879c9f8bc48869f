"""Opening the relay: `relay/1.0` grants channels to accounts, `session/1.0` makes a socket a leg."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping

from didmpc.mediator.limits import UNLIMITED, Buckets, Limits
from didmpc.mediator.neighbours import Neighbours
from didmpc.mediator.refusals import Refusal, Replayed, TooManyRequests
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.service.requests import Handler, Outcome, Request
from didmpc.mediator.store import Store
from didmpc.protocols.did import canonical
from didmpc.protocols.errors import MessageError, SessionError
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import relay_control
from didmpc.protocols.messages.empty import EMPTY
from didmpc.protocols.messages.relay_control import CAPABILITY_SIZE, Channel
from didmpc.protocols.session import handshake
from didmpc.protocols.session.handshake import Party

REMEMBERED_OPENS = 20_000
CHANNEL_ID_BYTES = 12


class NeedsWebSocket(Refusal):
    code = "e.p.session.transport"

    def __init__(self) -> None:
        super().__init__("A session with this mediator is opened on a WebSocket.")


class Channels:
    """relay/1.0: an account gets channels; only hashes of their capabilities are kept."""

    def __init__(self, store: Store, relay: Relay, limits: Limits, neighbours: Neighbours) -> None:
        self._store = store
        self._relay = relay
        self._neighbours = neighbours
        self._limits = limits

    def handlers(self) -> Mapping[str, Handler]:
        return {
            relay_control.CHANNEL_CREATE: self._create,
            relay_control.CHANNEL_REVOKE: self._revoke,
        }

    async def _create(self, request: Request) -> Outcome:
        asked = relay_control.parse_channel_create(request.message)
        if asked.expires <= request.now:
            raise MessageError(
                "A channel-create asks for channels that have expired.", code="e.p.msg.bad-body"
            )
        expires = int(min(asked.expires, request.now + self._limits.channel_seconds))
        rate = min(asked.rate or UNLIMITED, self._limits.channel_rate)
        rate = rate if rate < UNLIMITED else 0
        channels = [_new_channel() for _ in range(asked.count)]
        kept = [(channel.id, _hash(channel.near), _hash(channel.far)) for channel in channels]
        await self._store.create_channels(
            *(request.sender, kept, expires, request.envelope, request.now, request.message.created_time),
            rate=rate,
        )
        return Outcome(relay_control.channel_created(request.message, channels, expires, rate or None))

    async def _revoke(self, request: Request) -> Outcome:
        names = relay_control.parse_channel_revoke(request.message)
        revoked = await self._store.revoke_channels(request.sender, names)
        self._relay.revoke(revoked)
        self._neighbours.revoked(revoked)
        return Outcome(request.message.reply(EMPTY))


class Hops:
    """session/1.0 with the mediator itself: anyone may open one, also under a throwaway DID."""

    def __init__(self, identity: Identity, relay: Relay, limits: Limits) -> None:
        self._me = Party.of(identity)
        self._relay = relay
        self._limits = limits
        self._per_address = Buckets(limits.hop_opens)
        self._in_all = Buckets(limits.hop_opens_in_all)
        self._opens: OrderedDict[tuple[str, str], float] = OrderedDict()

    def handlers(self) -> Mapping[str, Handler]:
        return {handshake.OPEN: self._open}

    async def _open(self, request: Request) -> Outcome:
        connection = request.connection
        if connection is None:
            raise NeedsWebSocket
        sender = request.sender
        within_rate = self._per_address.take(request.address, request.now) and self._in_all.take(
            "", request.now
        )
        if not within_rate or self._relay.is_full(request.address):
            raise TooManyRequests
        message = request.message
        self._once((canonical(sender), message.id), self._until(message, request.now), request.now)
        peer = Party.of(request.document, request.unpacked.sender_kid)
        try:
            body, established = handshake.respond(self._me, peer, message.id, message.body, link={})
        except SessionError as error:
            return Outcome(message.reply(handshake.DECLINE, handshake.decline_body(error)), unasked=True)
        reply = message.reply(handshake.ACCEPT, body)
        return Outcome(reply, then=lambda: connection.start_hop(established), unasked=True)

    def _until(self, message: Message, now: float) -> float:
        latest = now + self._limits.hop_open_seconds
        if message.expires_time is not None and message.expires_time > latest:
            raise MessageError("A session open is valid for too long.", code="e.p.session.policy")
        return latest

    def _once(self, key: tuple[str, str], until: float, now: float) -> None:
        """An `open` is answered once: its accept went down the socket it came on.

        Another node of this mediator does not know of it. There it makes a session of which whoever plays
        it again has no keys: it binds nothing, and its socket is closed after `leg_unbound_seconds`.
        """
        while self._opens and next(iter(self._opens.values())) <= now:
            self._opens.popitem(last=False)
        if key in self._opens:
            raise Replayed
        self._opens[key] = until
        if len(self._opens) > REMEMBERED_OPENS:
            self._opens.popitem(last=False)


def _new_channel() -> Channel:
    near, far = secrets.token_bytes(CAPABILITY_SIZE), secrets.token_bytes(CAPABILITY_SIZE)
    return Channel(secrets.token_hex(CHANNEL_ID_BYTES), near, far)


def _hash(capability: bytes) -> bytes:
    return hashlib.sha256(capability).digest()
