"""Where an envelope goes that is not for us: into a mailbox here, or on to where its recipient takes mail.

routing/2.0, "Mediator process": a `next` without a mailbox here may be another mediator, or anyone whose DID
says where it takes messages. "Return Route": a reply that is not asked for on the way back goes to the
sender's own service.

Anybody can have us do this, so both have rates of their own, and a sender is told nothing of what became of
what was passed on.
"""

import asyncio
import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.mail.intake import Intake, seconds_of
from didmpc.mediator.mail.outgoing import Outgoing, host_of
from didmpc.mediator.refusals import TooBig, TooManyRequests, UnknownNext
from didmpc.mediator.resolving.resolving import Dids
from didmpc.mediator.store import Parcel
from didmpc.protocols.did import Resolve, canonical, did_of
from didmpc.protocols.envelope import envelope_recipients
from didmpc.protocols.errors import DidError, DidmpcError
from didmpc.protocols.messages.routing import Way, way_to, wrap

log = logging.getLogger(__name__)

MAX_TURNS = 3
"""How often a way may lead back to ourselves."""


@dataclass(frozen=True, slots=True)
class Post:
    """Envelopes for one recipient."""

    sender: str
    """Whose quota it is: a DID, or an address."""
    recipient: str
    """A DID or a key id."""
    envelopes: tuple[bytes, ...]
    expires: float
    delay_milli: int = 0
    expires_time: int | None = None
    """What their forward said, for the forwards that it is wrapped in."""


class Onward:
    def __init__(
        self,
        own_dids: Collection[str],
        own_uris: Collection[str],
        dids: Dids,
        intake: Intake,
        outgoing: Outgoing,
        limits: Limits,
        *,
        forwards: bool,
    ) -> None:
        """`forwards`: whether mail for recipients elsewhere is passed on."""
        self._own_dids = frozenset(canonical(did) for did in own_dids)
        self._own_uris = frozenset(own_uris)
        self._dids = dids
        self._intake = intake
        self._outgoing = outgoing
        self._limits = limits
        self._forwards = forwards
        self._onwards = Buckets(limits.onwards)
        self._replies_per_address = Buckets(limits.replies_per_address)
        self._replies_per_did = Buckets(limits.replies_per_did)

    def is_for_us(self, recipient: str) -> bool:
        """Whether a DID or key id is the mediator's own."""
        return canonical(recipient) in self._own_dids

    async def forward(self, post: Post, address: str, now: float) -> None:
        """Deliver a forward: when this returns, it is durable here. Raises a `Refusal`."""
        try:
            await self._put(post, now)
            return
        except UnknownNext:
            if not self._forwards:
                raise
        if not all(self._onwards.take(address, now) for _ in post.envelopes):
            raise TooManyRequests(self._onwards.wait(address, now))
        await self._pass_on(post, now, self._limits.outgoing_keep_seconds)

    async def reply(self, envelope: bytes, recipient: str, address: str, now: float) -> None:
        """Send a reply to the recipient's own service, where it has one. What becomes of it is not told."""
        if not self._replies_per_did.take(canonical(recipient), now):
            return
        if not self._replies_per_address.take(address, now):
            return
        # It counts as mail of whoever asked for it.
        post = Post(recipient, recipient, (envelope,), now + self._limits.mail_seconds)
        try:
            await self._pass_on(post, now, self._limits.reply_keep_seconds)
        except DidmpcError as problem:
            log.info("a reply was not sent: %s", getattr(problem, "code", type(problem).__name__))

    # --- inner

    async def _put(self, post: Post, now: float) -> None:
        await self._intake.put(
            post.sender,
            did_of(post.recipient),
            post.envelopes,
            expires=post.expires,
            now=now,
            delay_milli=post.delay_milli,
        )

    async def _pass_on(self, post: Post, now: float, keep: float) -> None:
        """Along the way that the recipient's DID asks for, which may lead to a mailbox here.

        What leaves is tried for `keep` seconds.
        """
        for _ in range(MAX_TURNS):
            way = await self._way_to(post.recipient)
            hops = self._after_us(way)
            if hops is None:
                await self._send(post, way, now, min(post.expires, now + keep))
                return
            turned = await self._wrapped(post, hops)
            try:
                await self._put(turned, now)
                return
            except UnknownNext:
                if turned.recipient == post.recipient:
                    raise
            post = turned
        raise UnknownNext

    async def _way_to(self, recipient: str) -> Way:
        """Raises `UnknownNext` where no way is known."""
        did = did_of(recipient)

        def found(resolve: Resolve) -> Way:
            way = way_to(resolve(did), resolve)
            for hop in way.hops:
                resolve(did_of(hop))  # so that all are known before the first wrap
            return way

        try:
            return await self._dids.run(found)
        except DidError:
            raise UnknownNext from None

    def _after_us(self, way: Way) -> tuple[str, ...] | None:
        """The hops that are left where a way leads through us; None where it does not.

        Also where we are not its first hop: else it would lead round and back to us.
        """
        for number in reversed(range(len(way.hops))):
            if self.is_for_us(way.hops[number]):
                return way.hops[number + 1 :]
        return way.hops if way.uri.rstrip("/") in self._own_uris else None

    async def _wrapped(self, post: Post, hops: Sequence[str]) -> Post:
        """What the first of these hops gets."""
        if not hops:
            return post

        envelopes = []
        for envelope in post.envelopes:

            def wrapped(resolve: Resolve, envelope: bytes = envelope) -> bytes:
                return wrap(envelope, post.recipient, hops, resolve, expires_time=post.expires_time)

            try:
                envelopes.append(await self._dids.run(wrapped))
            except DidError:
                raise UnknownNext from None
            await asyncio.sleep(0)  # many envelopes over many hops shall not hold up others
        return replace(post, recipient=hops[0], envelopes=tuple(envelopes))

    async def _send(self, post: Post, way: Way, now: float, expires: float) -> None:
        for envelope in post.envelopes:
            if len(envelope) > self._limits.forward_bytes:
                raise TooBig(self._limits.forward_bytes)
            envelope_recipients(envelope)  # nothing but envelopes leaves
        try:
            host = host_of(way.uri)
        except DidError:
            raise UnknownNext from None
        wrapped = await self._wrapped(post, way.hops)
        parcels = [
            Parcel(way.uri, host, body, _digest(post.recipient, envelope))
            for body, envelope in zip(wrapped.envelopes, post.envelopes, strict=True)
        ]
        await self._outgoing.put(parcels, due=now + seconds_of(post.delay_milli), expires=expires)


def _digest(recipient: str, envelope: bytes) -> bytes:
    return hashlib.sha256(canonical(recipient).encode() + b"\n" + envelope).digest()
