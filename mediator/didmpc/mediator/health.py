"""Whether the mediator lives, and whether it can take in mail now."""

import asyncio
import time

from didmpc.mediator.refusals import DiskFull
from didmpc.mediator.store import Store
from didmpc.protocols.errors import DidmpcError

PROBE_EVERY = 1.0
"""Anyone may ask, and each look costs a write."""
PROBE_SECONDS = 5.0


class Health:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._stopping = False
        self._looked = -PROBE_EVERY
        self._found: tuple[str, ...] = ()
        self._looking = asyncio.Lock()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """From now on nothing new is taken."""
        self._stopping = True

    async def obstacles(self) -> tuple[str, ...]:
        """Why mail cannot be taken in: `stopping`, `disk`, `store`. Nothing: it can."""
        if self._stopping:
            return ("stopping",)
        async with self._looking:
            if time.monotonic() - self._looked >= PROBE_EVERY:
                self._found = await self._look()
                self._looked = time.monotonic()
        return self._found

    async def _look(self) -> tuple[str, ...]:
        found: list[str] = []
        try:
            self._store.check_room_for_mail()
        except DiskFull:
            found.append("disk")
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._store.probe()
        except (DidmpcError, TimeoutError):
            found.append("store")
        return tuple(found)
