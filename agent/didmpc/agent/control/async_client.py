"""Talking to the agent from a program with an event loop; the requests are those of `control_client`."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Self

from didmpc.agent.channel.lines import Line, Lines
from didmpc.agent.control import client as control_client
from didmpc.agent.control.client import LONGEST_LINE, Json
from didmpc.agent.wallet.home import Home
from didmpc.protocols.errors import DidmpcError

HANG_UP_WITHIN = 2.0


class Conversation:
    """One request under way. `on_event` is called for each event, in the order in which they come."""

    def __init__(self, home: Home, on_event: Callable[[Json], None] = lambda event: None) -> None:
        self._home = home
        self._on_event = on_event
        self._lines = Lines(self._line, self._ended, limit=LONGEST_LINE)
        self._outcome: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())

    @classmethod
    async def start(
        cls,
        home: Home,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        on_event: Callable[[Json], None] = lambda event: None,
    ) -> Self:
        """Ask. Raises `LocalMisuse` where no agent runs."""
        conversation = cls(home, on_event)
        connection = control_client.connect(home)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: conversation._lines, sock=connection)
        conversation._lines.send({"method": method, "params": dict(params or {})})
        return conversation

    async def result(self) -> Json:
        """Wait for the result; the agent's error is raised. A caller that is cancelled may ask again."""
        return await asyncio.shield(self._outcome)

    @property
    def over(self) -> bool:
        """There is a result or an error, or the agent hung up."""
        return self._outcome.done()

    def answer(self, answer: Mapping[str, Any]) -> None:
        self._lines.send({"answer": answer})

    @property
    def waiting(self) -> int:
        """Bytes that the agent has not taken yet."""
        return self._lines.waiting

    def on_over(self, call: Callable[[], None]) -> None:
        """Have `call` called once it is over."""
        self._outcome.add_done_callback(lambda outcome: call())

    async def close(self) -> None:
        """Hang up; the agent gives up a request that still runs."""
        self._outcome.cancel()
        await self._lines.finish(HANG_UP_WITHIN)

    def _line(self, line: Line) -> None:
        try:
            kind, content = control_client.interpret(line)
        except DidmpcError as error:
            if not self._outcome.done():
                self._outcome.set_exception(error)
            return
        if kind == "event":
            self._on_event(content)
        elif not self._outcome.done():
            self._outcome.set_result(content)

    def _ended(self, reason: str) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(control_client.lost(self._home))


async def call(home: Home, method: str, params: Mapping[str, Any] | None = None) -> Json:
    """One request without events. Raises `DidmpcError`."""
    conversation = await Conversation.start(home, method, params)
    try:
        return await conversation.result()
    finally:
        await conversation.close()
