"""Group commit on the node: what waits while one round trip is under way shares the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from didmpc.mediator.store.errors import StoreFailed, StoreRejected

Request = TypeVar("Request")
Result = TypeVar("Result")

MAX_GROUP = 512
MAX_GROUP_BYTES = 8 << 20
"""Most that goes in one round trip; a first request that is larger goes alone."""


class Group(Generic[Request, Result]):
    """Requests to `flush` together. It gives a result for each, or the exception that the request gets."""

    def __init__(
        self,
        flush: Callable[[Sequence[Request]], Awaitable[Sequence[Result | Exception]]],
        *,
        size: Callable[[Request], tuple[int, int]],
        keys: Callable[[Request], Iterable[Hashable]] = lambda request: (),
        at_once: int = 1,
    ) -> None:
        """`size`: how many items and bytes a request has. Two with a key in common never go together."""
        self._flush = flush
        self._size = size
        self._keys = keys
        self._at_once = at_once
        self._waiting: deque[tuple[Request, asyncio.Future[Result]]] = deque()
        self._flushing: set[asyncio.Task[None]] = set()
        self._running = 0
        self._closed = False

    async def add(self, request: Request) -> Result:
        """Returns once it has been committed."""
        if self._closed:
            raise StoreFailed("The mediator is stopping.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._running < self._at_once:
            self._running += 1
            task = asyncio.create_task(self._run())
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)
        return await future

    async def close(self) -> None:
        """Finish what was handed in."""
        self._closed = True
        await asyncio.gather(*self._flushing, return_exceptions=True)

    async def _run(self) -> None:
        while group := self._next():
            results = await self._flushed([request for request, _ in group])
            for (_, future), result in zip(group, results, strict=True):
                if future.done():
                    continue  # whoever asked has gone; what was committed stays
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        self._running -= 1  # before anything else can be added

    async def _flushed(self, requests: Sequence[Request]) -> Sequence[Result | Exception]:
        try:
            return await self._flush(requests)
        except StoreRejected as error:
            if len(requests) == 1:
                return [error]
            # One of them is at fault; the others are not to suffer for it.
            half = len(requests) // 2
            return [*await self._flushed(requests[:half]), *await self._flushed(requests[half:])]
        except Exception as error:
            return [error] * len(requests)

    def _next(self) -> list[tuple[Request, asyncio.Future[Result]]]:
        group: list[tuple[Request, asyncio.Future[Result]]] = []
        later: list[tuple[Request, asyncio.Future[Result]]] = []
        taken: set[Hashable] = set()
        items = size = 0
        while self._waiting:
            entry = self._waiting.popleft()
            count, length = self._size(entry[0])
            if entry[1].done():
                continue  # whoever asked has gone before it was begun
            if group and (items + count > MAX_GROUP or size + length > MAX_GROUP_BYTES):
                later.append(entry)
                break
            keys = set(self._keys(entry[0]))
            if taken & keys:
                later.append(entry)
                continue
            taken |= keys
            group.append(entry)
            items, size = items + count, size + length
        self._waiting.extendleft(reversed(later))
        return group
