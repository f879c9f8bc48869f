"""Many small questions to the database in few large ones: those asked while one is under way go together."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST = 512


class Coalesced(Generic[K, V]):
    """`ask(key)` for what `run(keys)` finds; None for a key not found. Raises what `run` raises."""

    def __init__(self, run: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._run = run
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._runner: asyncio.Task[None] | None = None

    async def ask(self, key: K) -> V | None:
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._runner is None or self._runner.done():
                self._runner = asyncio.create_task(self._keep_running(), name="questions to the database")
        return await asyncio.shield(future)

    async def close(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        for future in self._waiting.values():
            future.cancel()

    async def _keep_running(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:MOST]
            asked = {key: self._waiting.pop(key) for key in keys}
            try:
                found = await self._run(keys)
            except Exception as error:
                for future in asked.values():
                    future.set_exception(error)
                    future.exception()  # whoever asked may have gone
            except BaseException:
                for future in asked.values():
                    future.cancel()
                raise
            else:
                for key, future in asked.items():
                    if not future.done():
                        future.set_result(found.get(key))
