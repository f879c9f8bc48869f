"""From an envelope to an answer: open it, find its handler, pack the reply.

DIDComm Messaging 2.1, "Return Route": a reply goes back the way the message came only where the sender
asks for it; any other goes to the service of the sender's own DID (`onward`).
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from didmpc.mediator.limits import Limits
from didmpc.mediator.mail.onward import Onward
from didmpc.mediator.refusals import Expired, Refusal, TooDeep, TooManyRequests, Unavailable, Unsupported
from didmpc.mediator.resolving.resolving import Dids
from didmpc.mediator.service.did_rates import DidRates
from didmpc.mediator.service.places import Places
from didmpc.mediator.service.requests import Check, Connection, Handler, Outcome, Request
from didmpc.mediator.store import StoreFailed
from didmpc.protocols.envelope import Unpacked, pack_authcrypt, pack_signed, unpack
from didmpc.protocols.errors import DidmpcError, RemoteViolation
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import ENCRYPTED, SIGNED, Message
from didmpc.protocols.messages import problem_report

log = logging.getLogger(__name__)

PAUSE = 0.1
"""Seconds between looks whether a DID is within its rate again."""
_MINOR = re.compile(r"/(\d+)\.\d+/([^/]+)$")
_ONLY_BACK = re.compile(r"https://didcomm\.org/message-?pickup/")
"""Replies that make sense only on the way back: a status in a mailbox would be mail about itself."""
MAX_DEPTH = 3
"""How deep forwards for ourselves may be wrapped in one another."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the transport does with a message: a status over HTTP, a reply, or both."""

    status: int = 202
    reply: bytes | None = None
    media_type: str = ENCRYPTED
    problem: RemoteViolation | None = None
    then: Callable[[], None] | None = None
    """To be called once the reply was sent."""

    @property
    def retry_after(self) -> int | None:
        return self.problem.retry_after if isinstance(self.problem, Refusal) else None


class Service:
    """Speaks for one mediator, by each of its DIDs; the first is its own where no other was spoken to."""

    def __init__(
        self,
        identities: Sequence[Identity],
        dids: Dids,
        onward: Onward,
        places: Places,
        limits: Limits,
        handlers: Iterable[Mapping[str, Handler]],
        checks: Iterable[Check] = (),
        clock: Callable[[], float] = time.time,
        on_held_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._identity = identities[0]
        self._identities = {identity.did: identity for identity in identities}
        self._secrets = Identities(*identities)
        self._dids = dids
        self._onward = onward
        self._limits = limits
        self._checks = tuple(checks)
        self._clock = clock
        self._rates = DidRates(limits.requests_per_did)
        self._on_held_back = on_held_back
        self._places = places
        self._handlers = {type: handler for group in handlers for type, handler in group.items()}

    async def handle(self, envelope: bytes, *, connection: Connection | None, address: str) -> Answer:
        """Act on one envelope. Whatever a peer sends, this raises nothing of its making."""
        try:
            # Not counted below: it may have to wait for a server elsewhere.
            unpacked = await self._open(envelope)
        except RemoteViolation as problem:
            return self._unreadable(problem, connection)
        except StoreFailed as problem:
            log.error("%s", problem)
            return self._unreadable(Unavailable(), connection)
        held_back = await self._hold_back(unpacked.sender, envelope, address, connection)
        if held_back is not None:
            return held_back
        async with self._places.taken():
            request = Request(unpacked, envelope, connection, address, self._clock(), self._dids.resolve)
            try:
                return await self._answered(request, await self._act(request))
            except RemoteViolation as problem:
                sender, type = unpacked.sender, unpacked.message.type
                about = {"account": sender, "type": type, "code": problem.code}
                log.info("refused %.120s from %s: %s", type, sender or "nobody", problem.code, extra=about)
                return await self._refused(request, problem)
            except StoreFailed as problem:
                log.error("%s", problem)
                return await self._refused(request, Unavailable())

    async def pack(self, message: Message, recipient: str, mediator: str | None) -> bytes:
        """A message to a DID that was seen before, by our DID `mediator`. Raises `RemoteViolation`."""
        identity = self._speaking_as(mediator)
        addressed = replace(message, from_=identity.did, to=(recipient,))
        return await self._dids.run(lambda resolve: pack_authcrypt(addressed, identity, resolve(recipient)))

    # --- inner

    async def _hold_back(
        self, sender: str | None, envelope: bytes, address: str, connection: Connection | None
    ) -> Answer | None:
        """A DID that sends too much waits on its WebSocket; over HTTP it is told when to come again."""
        was_held_back = False
        while sender is not None:
            wait = self._rates.take(sender, envelope, address, time.monotonic())
            if not wait:
                break
            if not was_held_back:
                self._on_held_back()
            was_held_back = True
            if connection is None:
                return Answer(status=429, problem=TooManyRequests(wait, "this DID"))
            await asyncio.sleep(PAUSE)  # not read meanwhile: TCP holds the peer back
        return None

    async def _open(self, envelope: bytes) -> Unpacked:
        unpacked = await self._dids.run(
            lambda resolve: unpack(envelope, self._secrets, resolve, self._limits.message_bytes)
        )
        if unpacked.sender is not None:
            self._dids.remember(unpacked.sender)
        return unpacked

    async def _act(self, request: Request) -> Outcome:
        message = request.message
        forgotten = request.now - self._limits.replay_seconds
        if message.expires_time is not None and message.expires_time <= request.now:
            raise Expired
        if message.created_time is not None and message.created_time <= forgotten:
            raise Expired
        # A higher minor version means optional additions only ("Semver Rules for Message Types").
        known_type = _MINOR.sub(r"/\1.0/\2", message.type)
        handler = self._handlers.get(known_type)
        if handler is None:
            raise Unsupported(message.type)
        if known_type != message.type:
            unpacked = replace(request.unpacked, message=replace(message, type=known_type))
            request = replace(request, unpacked=unpacked)
        if request.connection is not None:
            request.connection.set_route(message, request.addressed if request.unpacked.sender else None)
        for check in self._checks:
            await check(request)
        outcome = await handler(request)
        if outcome.reply is not None and message.please_ack is not None:
            outcome = replace(outcome, reply=replace(outcome.reply, ack=(message.id,)))
        for envelope in outcome.inside:
            await self._act_inside(request, envelope)
        return outcome

    async def _act_inside(self, outer: Request, envelope: bytes) -> None:
        """A forward carried an envelope for ourselves: act on it like on any other.

        Who wrote it is another than who forwarded it, so a reply does not go back the same way
        ("Return Route": not through intermediaries). What is wrong with it the forwarder is told too.
        """
        if outer.depth >= MAX_DEPTH:
            raise TooDeep
        unpacked = await self._open(envelope)
        held_back = await self._hold_back(unpacked.sender, envelope, outer.address, None)
        if held_back is not None and held_back.problem is not None:
            raise held_back.problem
        inner = replace(outer, unpacked=unpacked, envelope=envelope, connection=None, depth=outer.depth + 1)
        try:
            outcome = await self._act(inner)
        except RemoteViolation as problem:
            await self._report_elsewhere(inner, problem)
            raise
        await self._reply_elsewhere(inner, outcome.reply)

    async def _reply_elsewhere(self, request: Request, reply: Message | None) -> None:
        """Send a reply to the sender's own service, where that can be."""
        sender = request.unpacked.sender
        if reply is None or sender is None or _ONLY_BACK.match(reply.type):
            return
        with contextlib.suppress(RemoteViolation):  # a DID that nothing can be encrypted to
            envelope = await self.pack(reply, sender, request.addressed)
            await self._onward.reply(envelope, sender, request.address, request.now)

    async def _report_elsewhere(self, request: Request, problem: RemoteViolation) -> None:
        """Only to who is proven, and not where the same may succeed in a moment."""
        is_passing = isinstance(problem, Refusal) and problem.retry_after is not None
        if not is_passing and not _is_report(request.message):
            await self._reply_elsewhere(request, problem_report.report_on(request.message, problem))

    async def _answered(self, request: Request, outcome: Outcome) -> Answer:
        sender = request.unpacked.sender
        if outcome.reply is None or sender is None:
            return Answer(then=outcome.then)
        if not (outcome.unasked or _wanted(request)):
            await self._reply_elsewhere(request, outcome.reply)
            return Answer(then=outcome.then)
        reply = await self.pack(outcome.reply, sender, request.addressed)
        return Answer(status=200, reply=reply, then=outcome.then)

    async def _refused(self, request: Request, problem: RemoteViolation) -> Answer:
        """A report to the sender; to an anonymous one it is signed. Reports are never reported on."""
        status = problem.status if isinstance(problem, Refusal) else 400
        # A WebSocket has no status, and silence would lose mail: there the report goes out unasked.
        asked = request.connection is not None or _wanted(request)
        if not asked:
            await self._report_elsewhere(request, problem)
            return Answer(status=status, problem=problem)
        if _is_report(request.message):
            return Answer(status=status, problem=problem)
        report = problem_report.report_on(request.message, problem)
        sender = request.unpacked.sender
        if sender is not None:
            with contextlib.suppress(RemoteViolation):  # a DID that nothing can be encrypted to
                reply = await self.pack(report, sender, request.addressed)
                return Answer(status=200, reply=reply, problem=problem)
        return self._signed(report, status, problem, request.addressed)

    def _unreadable(self, problem: RemoteViolation, connection: Connection | None) -> Answer:
        log.info("an envelope was refused: %s", problem.code)
        status = problem.status if isinstance(problem, Refusal) else 400
        if connection is None:
            return Answer(status=status, problem=problem)
        report = problem_report.report(problem_report.ProblemReport(problem.code, problem.what))
        return self._signed(report, status, problem)

    def _signed(
        self, report: Message, status: int, problem: RemoteViolation, mediator: str | None = None
    ) -> Answer:
        identity = self._speaking_as(mediator)
        signed = pack_signed(replace(report, from_=identity.did, to=()), identity)
        return Answer(status=status, reply=signed, media_type=SIGNED, problem=problem)

    def _speaking_as(self, mediator: str | None) -> Identity:
        return self._identities.get(mediator or "", self._identity)


def _is_report(message: Message) -> bool:
    return message.type.startswith(problem_report.PROTOCOL.rpartition("/")[0])


def _wanted(request: Request) -> bool:
    if request.connection is not None:
        return request.connection.wants(request.message.thread)
    # Over HTTP both mean the same: the reply is in the thread of the message.
    return request.message.return_route in ("all", "thread")


def words(problem: DidmpcError) -> str:
    """Why and what next, in one line."""
    return " ".join(part for part in (problem.why, problem.fix) if part)
