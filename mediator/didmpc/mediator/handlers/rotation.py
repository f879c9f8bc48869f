"""`from_prior`: an account follows its DID (DIDComm Messaging 2.1, "DID Rotation").

With the account go key list, mail, relay channels and links. The old DID has no access from then on, and
nothing is pushed to it any more.
"""

import logging

from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.neighbours import Neighbours
from didmpc.mediator.refusals import Denied
from didmpc.mediator.resolving.resolving import Dids
from didmpc.mediator.service.requests import Request
from didmpc.mediator.store import Store
from didmpc.protocols import from_prior
from didmpc.protocols.did import same_party

log = logging.getLogger(__name__)


class Rotations:
    def __init__(self, store: Store, dids: Dids, deliveries: Deliveries, neighbours: Neighbours) -> None:
        self._store = store
        self._dids = dids
        self._deliveries = deliveries
        self._neighbours = neighbours

    async def follow(self, request: Request) -> None:
        """Move the account of the DID that the sender says it has followed, where there is one.

        Raises `RemoteViolation` where the old DID has not said so, and where the account cannot move.
        """
        text, sender = request.message.from_prior, request.unpacked.sender
        if text is None or sender is None:
            return  # without authcrypt anybody could have sent it on
        prior = await self._dids.run(lambda resolve: from_prior.read(text, sender, resolve, now=request.now))
        if same_party(prior.did, sender):
            return
        if await self._store.is_denied(prior.did, sender):
            raise Denied
        new = self._dids.long_form(sender)
        if await self._store.move_account(prior.did, new, text.encode(), request.now, prior.stated):
            self._deliveries.drop(prior.did)
            self._neighbours.dropped(prior.did)
            log.info("the account of %s is that of %s now", prior.did, sender, extra={"account": sender})
