"""The small protocols that anyone may speak with a mediator, with an account or without."""

import logging
from collections.abc import Mapping

from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.refusals import TooManyRequests
from didmpc.mediator.service.requests import Handler, Outcome, Request
from didmpc.mediator.store import Store
from didmpc.protocols import binding_proof
from didmpc.protocols.errors import MessageError
from didmpc.protocols.messages import (
    basic_message,
    discover_features,
    empty,
    mediation,
    out_of_band,
    pickup,
    problem_report,
    relay_control,
    routing,
    shorten_url,
    trust_ping,
)
from didmpc.protocols.messages.discover_features import Feature
from didmpc.protocols.session import handshake

log = logging.getLogger(__name__)


def features(limits: Limits, *, relays: bool) -> tuple[Feature, ...]:
    """What discover-features tells about this mediator."""
    relay = ((handshake.PROTOCOL, "responder"), (relay_control.PROTOCOL, "mediator"))
    protocols = (
        (routing.FORWARD.rpartition("/")[0], "mediator"),
        *((version.protocol, "mediator") for version in mediation.VERSIONS),
        *((version.protocol, "mediator") for version in pickup.VERSIONS),
        (basic_message.PROTOCOL, "receiver"),
        (trust_ping.PROTOCOL, "receiver"),
        (discover_features.PROTOCOL, "responder"),
        (problem_report.PROTOCOL, "notified"),
        (out_of_band.PROTOCOL, "sender"),
        (shorten_url.PROTOCOL, "url-shortener"),
        (empty.EMPTY.rpartition("/")[0], "receiver"),
        *(relay if relays else ()),
        (binding_proof.PROTOCOL, "verifier"),
    )
    return (
        *(Feature("protocol", uri, roles=(role,)) for uri, role in protocols),
        Feature("goal-code", "request-mediate"),
        Feature("constraint", "max_receive_bytes", value=str(limits.message_bytes)),
    )


class Courtesies:
    def __init__(self, store: Store, limits: Limits, *, relays: bool) -> None:
        self._store = store
        self._limits = limits
        self._words_per_address = Buckets(limits.operator_message_rate)
        self._features = features(limits, relays=relays)

    def handlers(self) -> Mapping[str, Handler]:
        return {
            trust_ping.PING: self._ping,
            trust_ping.PING_RESPONSE: self._nothing,
            discover_features.QUERIES: self._queries,
            problem_report.PROBLEM_REPORT: self._problem,
            basic_message.MESSAGE: self._words,
            empty.EMPTY: self._nothing,
        }

    async def _ping(self, request: Request) -> Outcome:
        return Outcome(trust_ping.respond(request.message))

    async def _queries(self, request: Request) -> Outcome:
        answer = discover_features.disclose(request.message, self._features)
        return Outcome(answer if request.unpacked.authenticated else None)

    async def _words(self, request: Request) -> Outcome:
        """Words for the operator, kept until they are read. Nothing answers them."""
        words = basic_message.parse(request.message)
        if len(words.encode()) > self._limits.operator_message_bytes:
            raise MessageError(
                f"A message to the operator may have {self._limits.operator_message_bytes} bytes.",
                code="e.p.msg.bad-body",
            )
        if not self._words_per_address.take(request.address, request.now):
            raise TooManyRequests(self._words_per_address.wait(request.address, request.now))
        await self._store.keep_operator_message(request.sender, words, request.now)
        log.info("a message to the operator waits to be read", extra={"account": request.sender})
        return Outcome()

    async def _problem(self, request: Request) -> Outcome:
        # Never answered: two parties would report on reports for ever.
        log.info("a peer reports the problem %.60s", problem_report.parse(request.message).code)
        return Outcome()

    async def _nothing(self, request: Request) -> Outcome:
        return Outcome()
