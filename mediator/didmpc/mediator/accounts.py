"""coordinate-mediation/2.0: accounts and their key lists."""

from collections.abc import Mapping

from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.refusals import TooManyRequests
from didmpc.mediator.requests import Handler, Outcome, Request
from didmpc.mediator.store import Store
from didmpc.protocols import mediation


class Accounts:
    def __init__(self, store: Store, routing_did: str, limits: Limits) -> None:
        self._store = store
        self._routing_did = routing_did
        self._enrolments = Buckets(limits.enrolments)

    def handlers(self) -> Mapping[str, Handler]:
        return {
            mediation.MEDIATE_REQUEST: self._request,
            mediation.KEYLIST_UPDATE: self._update,
            mediation.KEYLIST_QUERY: self._query,
        }

    async def _request(self, request: Request) -> Outcome:
        is_new = not await self._store.is_enrolled(request.sender)
        if is_new and not self._enrolments.take(request.address, request.now):
            raise TooManyRequests
        await self._store.enrol(request.sender, request.now)
        return Outcome(mediation.mediate_grant(request.message, self._routing_did))

    async def _update(self, request: Request) -> Outcome:
        updates = mediation.parse_keylist_update(request.message)
        updated = await self._store.update_keylist(request.sender, updates, request.envelope, request.now)
        return Outcome(mediation.keylist_update_response(request.message, updated))

    async def _query(self, request: Request) -> Outcome:
        page = mediation.parse_keylist_query(request.message)
        dids = await self._store.keylist(request.sender)
        return Outcome(mediation.keylist(request.message, dids, page))
