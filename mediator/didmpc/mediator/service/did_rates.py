"""How often one DID may write, wherever it writes from."""

import hashlib
from collections import OrderedDict

from didmpc.mediator.limits import Buckets, Rate
from didmpc.protocols.did import canonical

REMEMBERED = 10_000
"""Envelopes that were counted lately."""


class DidRates:
    """Counts envelopes per proven sender.

    Whoever has caught somebody's envelope can send it again, but not use up that one's rate with it: the
    second time it counts for the address that it comes from.
    """

    def __init__(self, rate: Rate) -> None:
        self._buckets = Buckets(rate)
        self._counted: OrderedDict[bytes, None] = OrderedDict()

    def take(self, sender: str, envelope: bytes, address: str, now: float) -> int:
        """0, and it was counted; else in how many seconds it may come again."""
        digest = hashlib.sha256(envelope).digest()
        key = f"again from {address}" if digest in self._counted else canonical(sender)
        if not self._buckets.take(key, now):
            return self._buckets.wait(key, now)
        self._counted[digest] = None
        if len(self._counted) > REMEMBERED:
            self._counted.popitem(last=False)
        return 0
