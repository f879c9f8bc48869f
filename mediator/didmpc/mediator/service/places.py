"""How many messages are acted on at once, and that none which waits for somebody else's server counts.

Otherwise a few senders with slow servers of their own could keep everybody waiting.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar

# Tasks that are started by one that has a place inherit its context, not its place.
_holder: ContextVar[asyncio.Task[object] | None] = ContextVar("who has a place", default=None)


class Places:
    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """One of the places, as long as the block runs."""
        async with self._free:
            token = _holder.set(asyncio.current_task())
            try:
                yield
            finally:
                _holder.reset(token)

    @contextlib.asynccontextmanager
    async def left(self) -> AsyncIterator[None]:
        """While the block runs, others may have the place of whoever runs it, if that has one."""
        if _holder.get() is not asyncio.current_task():
            yield
            return
        self._free.release()
        try:
            yield
        finally:
            # Taken again even when we are cancelled: `taken` gives it back in any case.
            await asyncio.shield(asyncio.create_task(self._take()))

    async def _take(self) -> None:
        await self._free.acquire()
