"""routing 2.0, messagepickup 3.0 and message-pickup 4.0: mail comes in, is kept, and is fetched or pushed."""

from collections.abc import Mapping, Sequence

from didmpc.mediator.limits import Limits
from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.mail.onward import Onward, Post
from didmpc.mediator.refusals import Refusal
from didmpc.mediator.service.requests import Handler, Outcome, Request
from didmpc.mediator.store import Mail, Store
from didmpc.protocols.message import Message
from didmpc.protocols.messages import pickup
from didmpc.protocols.messages.pickup import Status
from didmpc.protocols.messages.routing import FORWARD, parse_forward


class LiveModeNotSupported(Refusal):
    code = pickup.LIVE_MODE_NOT_SUPPORTED

    def __init__(self) -> None:
        super().__init__(
            "Live delivery needs a WebSocket.", fix="Connect to the ws service of this mediator."
        )


class Mailboxes:
    def __init__(self, store: Store, onward: Onward, deliveries: Deliveries, limits: Limits) -> None:
        self._store = store
        self._onward = onward
        self._deliveries = deliveries
        self._limits = limits

    def handlers(self) -> Mapping[str, Handler]:
        return {
            FORWARD: self._forward,
            **{
                type: handler
                for version in pickup.VERSIONS
                for type, handler in (
                    (version.status_request, self._status),
                    (version.delivery_request, self._deliver),
                    (version.messages_received, self._received),
                    (version.live_delivery_change, self._live),
                )
            },
        }

    async def _forward(self, request: Request) -> Outcome:
        forward = parse_forward(request.message)
        longest = request.now + self._limits.mail_seconds
        expires = min(longest, forward.expires_time or longest)
        if self._onward.is_for_us(forward.next):
            return Outcome(inside=forward.envelopes)
        sender = request.unpacked.sender or f"address {request.address}"
        post = Post(
            sender, forward.next, forward.envelopes, expires, forward.delay_milli, forward.expires_time
        )
        await self._onward.forward(post, request.address, request.now)
        return Outcome()

    async def _status(self, request: Request) -> Outcome:
        recipient = pickup.parse_status_request(request.message)
        return Outcome(await self._status_of(request, recipient))

    async def _deliver(self, request: Request) -> Outcome:
        asked = pickup.parse_delivery_request(request.message)
        mail = await self._deliveries.fetch(
            request.sender, request.connection, asked.recipient_did, asked.limit
        )
        if not mail and not pickup.version_of(request.message).delivers_nothing:
            return Outcome(await self._status_of(request, asked.recipient_did))
        return Outcome(
            pickup.delivery(attachments(mail), request=request.message, recipient_did=asked.recipient_did)
        )

    async def _received(self, request: Request) -> Outcome:
        names = pickup.parse_messages_received(request.message)
        # What is no id of ours names nothing that could be deleted.
        seqs = [int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 19]
        await self._deliveries.acknowledge(request.sender, seqs)
        return Outcome(await self._status_of(request, None))

    async def _live(self, request: Request) -> Outcome:
        live = pickup.parse_live_delivery_change(request.message)
        connection = request.connection
        if connection is None:
            if live:
                raise LiveModeNotSupported
            return Outcome(await self._status_of(request, None))
        account = request.sender
        if not live:
            self._deliveries.unsubscribe(account, connection)
            return Outcome(await self._status_of(request, None))
        # Played again on another's socket it would lease that socket the mail.
        await self._store.act_once(
            request.sender, request.envelope, request.now, request.message.created_time
        )
        newest = await self._store.newest(account)  # before it is counted: the rest is pushed
        status = await self._status_of(request, None, live=True)

        version = pickup.version_of(request.message)

        async def push(mail: Sequence[Mail]) -> None:
            await connection.send(pickup.delivery(attachments(mail), version=version), account)

        def start() -> None:
            # What waits is left to requests (both versions, "Live Mode").
            self._deliveries.subscribe(account, connection, push, after=newest)

        return Outcome(status, then=start)

    async def _status_of(self, request: Request, recipient: str | None, *, live: bool = False) -> Message:
        queue = await self._store.queue(request.sender, recipient, request.now)
        is_live = live or (
            request.connection is not None and self._deliveries.is_live(request.sender, request.connection)
        )
        state = Status(
            message_count=queue.count,
            recipient_did=recipient,
            live_delivery=is_live,
            longest_waited_seconds=None if queue.oldest is None else max(0, int(request.now - queue.oldest)),
            newest_received_time=queue.newest,
            oldest_received_time=queue.oldest,
            total_bytes=queue.bytes,
        )
        return pickup.status(request.message, state)


def attachments(mail: Sequence[Mail]) -> list[tuple[str, bytes]]:
    """Mail as a delivery carries it: under the id by which it is acknowledged."""
    return [(str(item.seq), item.body) for item in mail]
