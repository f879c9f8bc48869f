"""coordinate-mediation 2.0 and 3.0: accounts and their key lists. An account has no version."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from didmpc.mediator.handlers.registration import Registration
from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.refusals import TooManyRequests
from didmpc.mediator.resolving.resolving import Dids
from didmpc.mediator.service.requests import Handler, Outcome, Request
from didmpc.mediator.store import Store
from didmpc.protocols import binding_proof
from didmpc.protocols.did import canonical, same_party, web
from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.messages import mediation
from didmpc.protocols.messages.mediation import Update

MOST_WEB_DIDS = 8
"""Proofs of did:web in one message: each may need a look at another server."""

log = logging.getLogger(__name__)


class Accounts:
    def __init__(
        self, store: Store, dids: Dids, registration: Registration, routing_did: str, limits: Limits
    ) -> None:
        self._store = store
        self._dids = dids
        self._registration = registration
        self._routing_did = routing_did
        self._enrolments = Buckets(limits.enrolments)

    def handlers(self) -> Mapping[str, Handler]:
        return {
            type: handler
            for version in mediation.VERSIONS
            for type, handler in (
                (version.request, self._request),
                (version.update, self._update),
                (version.query, self._query),
            )
        }

    async def _request(self, request: Request) -> Outcome:
        is_new = not await self._store.is_enrolled(request.sender)
        if is_new and not self._enrolments.take(request.address, request.now):
            raise TooManyRequests
        did = self._dids.long_form(request.sender)  # what the short form of it is resolved with later
        if not await self._registration.admit(did, request):
            log.info("%s was not admitted", did, extra={"account": did})
            return Outcome(mediation.mediate_deny(request.message))
        return Outcome(mediation.mediate_grant(request.message, request.addressed or self._routing_did))

    async def _update(self, request: Request) -> Outcome:
        updates = mediation.parse_keylist_update(request.message)
        updated = await self._store.update_keylist(
            *(request.sender, updates, request.envelope, request.now, request.message.created_time),
            await self._proven(request, updates),
        )
        return Outcome(mediation.keylist_update_response(request.message, updated))

    async def _proven(self, request: Request, updates: Sequence[Update]) -> dict[str, int]:
        """When each DID has claimed this account; a claim whose proof does not hold is one without."""
        proven: dict[str, int] = {}
        web_dids = 0
        for update in updates:
            did = canonical(update.recipient_did)
            if same_party(did, request.sender):
                proven[did] = int(request.now)  # by the envelope
            elif update.proof is not None and update.action == "add":
                web_dids += did.startswith(web.PREFIX)
                if did.startswith(web.PREFIX) and web_dids > MOST_WEB_DIDS:
                    continue
                await asyncio.sleep(0)  # many proofs shall not hold up others
                try:
                    proven[did] = await self._verify(update.recipient_did, update.proof, request)
                except RemoteViolation as problem:
                    about = {"account": request.sender, "code": problem.code}
                    log.info("a proof of a key binding does not hold: %s", problem.what, extra=about)
        return proven

    async def _verify(self, recipient: str, proof: str, request: Request) -> int:
        self._dids.remember(recipient)
        mediator = request.addressed or self._routing_did
        return await self._dids.run(
            lambda resolve: binding_proof.verify(
                proof, recipient, request.sender, mediator, request.now, resolve
            )
        )

    async def _query(self, request: Request) -> Outcome:
        page = mediation.parse_keylist_query(request.message)
        dids = await self._store.keylist(request.sender)
        return Outcome(mediation.keylist(request.message, dids, page))
