"""Tells the channel process whether the program computes or waits for messages, and for whose.

There is no witness of the program within the program: while MPyC holds the interpreter lock nothing here
runs. So "waiting" is said only after a quarter of a second without any message, and taken back as soon as
one comes, before the program works on it.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from didmpc.agent.program.mux import Mux
from didmpc.agent.program.wire import FrameType, encode_json

INTERVAL = 0.25


class Watch:
    """Sends STATE, on change. `waiting` says how many labels of each party the program waits for."""

    def __init__(
        self, mux: Mux, loop: asyncio.AbstractEventLoop, waiting: Callable[[], Mapping[int, int]]
    ) -> None:
        self._mux = mux
        self._loop = loop
        self._waiting = waiting
        self._seen = mux.receives
        self._said: dict[str, Any] = {"state": "computing"}
        mux.on_activity = self._on_activity
        loop.call_later(INTERVAL, self._tick)

    def _tick(self) -> None:
        self._loop.call_later(INTERVAL, self._tick)
        if self._seen != self._mux.receives:
            self._seen = self._mux.receives
            return
        waiting = {str(pid): labels for pid, labels in self._waiting().items() if labels}
        if waiting:
            self._say({"state": "waiting", "for": waiting})

    def _on_activity(self) -> None:
        if self._said["state"] == "waiting":
            self._say({"state": "computing"})

    def _say(self, state: dict[str, Any]) -> None:
        if state != self._said:
            self._said = state
            self._mux.send_frame(encode_json(FrameType.STATE, state))
