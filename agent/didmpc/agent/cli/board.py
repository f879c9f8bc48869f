"""The panel of one session on the screen: fed with its events, drawn a few times a second at most."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from didmpc.agent.cli import panel
from didmpc.agent.cli.screen import Screen

DRAWN_EVERY = 0.25
"""Seconds between two drawings."""
ASKED_EVERY = 0.5
"""Seconds between two pictures that the channel process is asked for."""


class Board:
    """`free` says whether the lines below belong to us now: no program has written half a line there."""

    def __init__(self, screen: Screen, free: Callable[[], bool]) -> None:
        self._screen = screen
        self._free = free
        self._state: panel.State = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Draw from now on, where there is a terminal to draw on."""
        if self._screen.terminal:
            self._screen.write_aside()
            self._task = asyncio.create_task(self._draw_for_ever())

    def stop(self) -> None:
        """Draw nothing any more."""
        self._state = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._screen.clear_status()

    def take(self, event: Mapping[str, Any]) -> None:
        """An event of the agent or of the channel process."""
        before = self._state
        self._state = panel.take(before, event, time.monotonic())
        if before is not None and self._state is None:
            self._screen.clear_status()

    @property
    def shows(self) -> bool:
        """Whether there is a panel, so that what it says needs no line of its own."""
        return self._task is not None and self._state is not None

    async def _draw_for_ever(self) -> None:
        while True:
            if self._state is not None and self._free():
                lines = panel.lines(self._state, time.monotonic(), self._screen.size()[0])
                self._screen.panel(lines)
            await asyncio.sleep(DRAWN_EVERY)
