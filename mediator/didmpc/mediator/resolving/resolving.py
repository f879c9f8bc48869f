"""Resolving DIDs: by themselves, by the long forms of did:peer:4 that were seen, and over the web.

The pure core asks for a document and cannot wait for one. So a job of the core is run, what it did not find
is looked up, and it is run again.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from didmpc.mediator.resolving.web_dids import WebDids
from didmpc.mediator.service.places import Places
from didmpc.mediator.store import Store
from didmpc.protocols import did as dids
from didmpc.protocols.did import DIDDocument, Resolve, canonical, did_of, web
from didmpc.protocols.errors import DidError, RemoteViolation

REMEMBERED = 16_384
MAX_LOOKED_UP = 8
"""DIDs that are looked up for one job."""

T = TypeVar("T")


class Dids:
    """Every DID that this mediator can resolve."""

    def __init__(self, store: Store, web_dids: WebDids, places: Places) -> None:
        self._store = store
        self._web = web_dids
        self._places = places
        self._long: OrderedDict[str, str] = OrderedDict()

    def remember(self, did: str) -> None:
        """Note a DID that was seen; only a long form has something to note."""
        did = did_of(did)
        short = canonical(did)
        if short != did:
            self._long[short] = did
            self._long.move_to_end(short)
            if len(self._long) > REMEMBERED:
                self._long.popitem(last=False)

    def long_form(self, did: str) -> str:
        """A did:peer:4 that was seen with its document in it; any other DID as it is."""
        return self._long.get(canonical(did), did)

    def resolve(self, did: str) -> DIDDocument:
        """The document of a DID that was looked up a moment ago, or needs no looking up."""
        return self._at_once(did, [])

    async def run(self, job: Callable[[Resolve], T]) -> T:
        """What a job of the core gives, with every DID looked up that it asks for.

        Raises what the job raises, and `RemoteViolation` for a DID that cannot be resolved.
        """
        for _ in range(MAX_LOOKED_UP):
            missed: list[str] = []
            try:
                return job(lambda did, missed=missed: self._at_once(did, missed))  # type: ignore[misc]
            except RemoteViolation:
                if not missed or not await self._look_up(missed[0]):
                    raise
        raise DidError("A message leads to too many DIDs.")

    # --- inner

    def _at_once(self, did: str, missed: list[str]) -> DIDDocument:
        if did.startswith(web.PREFIX):
            document = self._web.known(did)
            if document is None:
                missed.append(did_of(did))
                raise DidError("A did:web was not looked up yet.", code="e.p.did.unresolvable")
            return document
        return dids.resolve(did, known=lambda short: self._long_form(short, missed))

    def _long_form(self, short: str, missed: list[str]) -> str | None:
        long_did = self._long.get(short)
        if long_did is None:
            missed.append(short)
        return long_did

    async def _look_up(self, did: str) -> bool:
        """Whether a DID that was not found is known now."""
        if did.startswith(web.PREFIX):
            async with self._places.left():
                await self._web.resolve(did)
            return True
        long_did = await self._store.long_form(did)
        if long_did is not None:
            self.remember(long_did)
        return long_did is not None
