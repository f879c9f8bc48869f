"""Mail comes in: within the share of its sender, durably, and then whoever is connected is told."""

import random
from collections.abc import Collection, Sequence
from functools import partial

from didmpc.mediator.limits import Buckets, Limits, Rate
from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.mail.quotas import Pair, Quotas
from didmpc.mediator.neighbours import Alone, Neighbours
from didmpc.mediator.refusals import MailboxFull, SenderQuota, SessionsFull
from didmpc.mediator.store import Kept, Room, Store
from didmpc.protocols.did import canonical
from didmpc.protocols.session.packet_json import is_packet

LOOKS = Rate(1, 3)
"""How often it is looked whether mail that counts against a sender or a mailbox is still there."""
_chance = random.SystemRandom()


class Intake:
    def __init__(
        self,
        store: Store,
        deliveries: Deliveries,
        quotas: Quotas,
        limits: Limits,
        neighbours: Neighbours | None = None,
    ) -> None:
        self._neighbours = neighbours or Alone()
        self._looks = Buckets(LOOKS)
        self._store = store
        self._deliveries = deliveries
        self._quotas = quotas
        self._limits = limits

    async def put(
        self,
        sender: str,
        recipient: str,
        envelopes: Sequence[bytes],
        *,
        expires: float,
        now: float,
        delay_milli: int = 0,
    ) -> None:
        """Keep envelopes for a registered DID, all mail or none, and all packets or none. Raises a `Refusal`.

        `sender` is the DID that authcrypt proved, else the source address.
        """
        delay = seconds_of(delay_milli)
        due = now + delay if delay else 0.0
        mail: list[bytes] = []
        packets: list[bytes] = []
        for envelope in envelopes:
            (packets if is_packet(envelope) else mail).append(envelope)
        if mail:
            await self._put(sender, recipient, mail, expires, now, due, packets=False)
        if packets:
            expires = min(expires, now + self._limits.session_seconds)
            await self._put(sender, recipient, packets, expires, now, due, packets=True)

    async def _put(
        self,
        sender: str,
        recipient: str,
        envelopes: Sequence[bytes],
        expires: float,
        now: float,
        due: float,
        *,
        packets: bool,
    ) -> None:
        sizes = [len(envelope) for envelope in envelopes]
        pair = self._quotas.pair(sender, canonical(recipient), packets=packets)
        await self._reserve(pair, sizes, now, packets=packets)
        try:
            kept = await self._enqueue(recipient, envelopes, expires, now, due, packets)
            self._quotas.put(pair, kept.mail, expires)
        finally:
            self._quotas.settle(pair, sizes)
        if kept.mail:
            self._deliveries.ring(kept.account, due)

    async def _reserve(self, pair: Pair, sizes: Sequence[int], now: float, *, packets: bool) -> None:
        """Raises `SenderQuota`, and for packets `SessionsFull`."""
        try:
            self._quotas.reserve(pair, sizes, now)
            return
        except SenderQuota:
            # Other nodes do not tell what they have delivered, so they are asked where it matters.
            await self._forget_deleted(pair.hex(), self._quotas.waiting_of(pair), now)
        try:
            self._quotas.reserve(pair, sizes, now)
        except SenderQuota:
            if packets:
                raise SessionsFull from None
            raise

    async def _forget_deleted(self, whose: str, seqs: Collection[int], now: float) -> None:
        """What other nodes have deleted counts no more. Asked now and then only: it costs the store more."""
        if seqs and self._looks.take(whose, now):
            self._quotas.acknowledged(await self._neighbours.of_these_deleted(seqs))

    async def _enqueue(
        self,
        recipient: str,
        envelopes: Sequence[bytes],
        expires: float,
        now: float,
        due: float,
        packets: bool,
    ) -> Kept:
        put = partial(self._store.enqueue, recipient, envelopes, expires, now, due=due, packets=packets)
        try:
            return await put()
        except (MailboxFull, SessionsFull):
            mailbox = await self._store.mailbox(recipient)
            if mailbox is not None:
                handed_out = self._quotas.awaiting_in(mailbox, packets=packets)
                await self._forget_deleted(str(mailbox), handed_out, now)
            beyond = Room() if mailbox is None else self._quotas.beyond(mailbox, now, packets=packets)
            if beyond == Room():
                raise
            return await put(beyond=beyond)


def seconds_of(delay_milli: int) -> float:
    """A negative delay is a random time up to that (routing/2.0, "Forward message")."""
    return delay_milli / 1000 if delay_milli >= 0 else _chance.uniform(0, -delay_milli / 1000)
