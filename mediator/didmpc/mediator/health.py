"""Whether the mediator lives, and whether it can take in mail now."""

import asyncio
import shutil
import time
from pathlib import Path

from didmpc.mediator.limits import Limits
from didmpc.mediator.store import Store
from didmpc.protocols.errors import DidmpcError

PROBE_EVERY = 1.0
"""Anyone may ask, and each look costs a write."""
PROBE_SECONDS = 5.0


class Health:
    def __init__(self, folder: Path, store: Store, limits: Limits) -> None:
        self._folder = folder
        self._store = store
        self._limits = limits
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
        if shutil.disk_usage(self._folder).free < self._limits.free_disk_for_mail_bytes:
            found.append("disk")
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._store.probe()
        except (DidmpcError, TimeoutError):
            found.append("store")
        return tuple(found)
