"""The agent's side of a long request, as something a loop can wait for."""

import asyncio
from typing import Any

from didmpc.agent.control.client import Call
from didmpc.agent.wallet.home import Home
from didmpc.protocols.errors import DidmpcError

Json = dict[str, Any]


class ControlFeed:
    """Events and the result of one request, in order. Closing it cancels a request that still runs."""

    def __init__(self, method: str, params: Json, home: Home) -> None:
        self._received: asyncio.Queue[tuple[str, Json] | DidmpcError] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._call: Call | None = Call(method, params, home=home)
        self._loop.add_reader(self._call.fileno(), self._take)

    async def next(self) -> tuple[str, Json]:
        """`("event", ...)`, at last `("result", ...)`; an error of the agent is raised."""
        received = await self._received.get()
        if isinstance(received, DidmpcError):
            raise received
        return received

    def answer(self, content: Json) -> None:
        """Answer what the agent asked."""
        if self._call is not None:
            self._call.answer(content)

    def close(self) -> None:
        """Hang up."""
        if self._call is not None:
            self._loop.remove_reader(self._call.fileno())
            self._call.close()
            self._call = None

    def _take(self) -> None:
        try:
            while self._call is not None and (received := self._call.receive(0)) is not None:
                self._received.put_nowait(received)
                if received[0] == "result":
                    self.close()
        except DidmpcError as error:
            self._received.put_nowait(error)
            self.close()
