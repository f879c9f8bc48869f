"""Resolving senders: the long forms of did:peer:4 that were seen, in memory and in the store.

The pure core asks for a long form and cannot wait for a store. So `KnownDids` notes what it did not
know; the service looks it up and tries again.
"""

from collections import OrderedDict
from functools import partial

from didmpc.protocols import did as dids
from didmpc.protocols.did import DIDDocument, Resolve, canonical, did_of

REMEMBERED = 16_384


class KnownDids:
    """Long forms by short form, the latest used of them."""

    def __init__(self) -> None:
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

    def resolve(self, did: str) -> DIDDocument:
        return dids.resolve(did, self._long.get)

    def resolver(self, missed: list[str]) -> Resolve:
        """A resolver that writes the short forms it does not know into `missed`."""
        return partial(dids.resolve, known=lambda short: self._find(short, missed))

    def _find(self, short: str, missed: list[str]) -> str | None:
        long_did = self._long.get(short)
        if long_did is None:
            missed.append(short)
        return long_did
