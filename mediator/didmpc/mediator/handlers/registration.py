"""Who may have an account here: everybody, whoever was invited, or whom the operator has listed.

What the operator has said of a DID goes before that: an allowed one is admitted however registration is set,
and a denied one gets nothing, also with the account that it has. Registration is asked for new accounts only.
"""

from didmpc.mediator.refusals import Denied
from didmpc.mediator.service.requests import Request
from didmpc.mediator.store import Admission, Store
from didmpc.protocols.messages import mediation

# What these ask for has an answer of its own that says no.
_ASKS_TO_BE_ADMITTED = tuple(version.request for version in mediation.VERSIONS)


class Registration:
    def __init__(self, store: Store, admission: Admission = "open") -> None:
        self._store = store
        self._admission = admission

    async def check(self, request: Request) -> None:
        """Raise `Denied` for whatever a denied DID asks, to be admitted apart."""
        sender = request.unpacked.sender
        if sender is None or request.message.type in _ASKS_TO_BE_ADMITTED:
            return
        if await self._store.is_denied(sender):
            raise Denied

    async def admit(self, did: str, request: Request) -> bool:
        """Open an account for a DID, if it may have one; whether it has one now. Raises `Replayed`."""
        return await self._store.enrol(
            *(did, request.now, self._admission, request.message.pthid),
            envelope=request.envelope,
            created=request.message.created_time,
        )
