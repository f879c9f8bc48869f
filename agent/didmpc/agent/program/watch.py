"""Tells the channel process what the program does: it computes, waits, or reads what its person types.

There is no witness of the program within the program: while MPyC holds the interpreter lock nothing here
runs. So "waiting" is said only after a quarter of a second without any message, and taken back as soon as
one comes, before the program works on it. A program that waits for messages, and for nothing else, says so
until a message comes: nothing else can change it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from didmpc.agent.program import stdin
from didmpc.agent.program.mux import Mux
from didmpc.agent.program.wakers import Wakers
from didmpc.agent.program.wire import FrameType, encode_json

INTERVAL = 0.25
COMPUTING: Mapping[str, Any] = {"state": "computing"}
READING: Mapping[str, Any] = {"state": "reading"}


class Watch:
    """Sends STATE, on change (wire.py). `waiting` says how many labels of each party are waited for."""

    def __init__(
        self,
        mux: Mux,
        waiting: Callable[[], Mapping[int, int]],
        wakers: Wakers,
        places: Callable[[], list[str]],
    ) -> None:
        self._mux = mux
        self._again = wakers.later
        self._waiting = waiting
        self._wakers = wakers
        self._places = places
        self._seen = mux.receives
        self._said: Mapping[str, Any] = COMPUTING
        mux.on_activity = self._on_activity
        stdin.watch(self._on_stdin)
        self._again(INTERVAL, self._tick)

    def _tick(self) -> None:
        self._again(INTERVAL, self._tick)
        if self._seen != self._mux.receives:
            self._seen = self._mux.receives
            return
        if not self._mux.go.is_set():
            return  # links are still being made: that, and no message, is what it waits for
        waiting = {str(pid): labels for pid, labels in self._waiting().items() if labels}
        also = self._wakers.names()
        if not waiting and "computation" in also:
            self._say(COMPUTING)
            return
        state = {"state": "waiting", "for": waiting, "also": also, "read": self._mux.octets_read}
        if not also:
            state["at"] = self._places()
        self._say(state)

    def _on_activity(self) -> None:
        if self._said is not COMPUTING:
            self._say(COMPUTING)

    def _on_stdin(self, reads: bool) -> None:
        if stdin.in_main_thread():  # then nothing else runs that could send in the midst of it
            self._say(READING if reads else COMPUTING)
        else:
            self._wakers.typing = reads

    def _say(self, state: Mapping[str, Any]) -> None:
        if state != self._said:
            self._said = state
            self._mux.send_frame(encode_json(FrameType.STATE, dict(state)))
