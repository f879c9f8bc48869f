"""One party's part in a joint computation: what `didmpc run` and `didmpc join` do, for programs.

request to the agent -> proposal, consent, gathering, words -> channel process: output, input, end
"""

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from didmpc.agent.api.events import Event, Printed, Proposed, event_of
from didmpc.agent.channel.lines import Line, Lines
from didmpc.agent.control.async_client import Conversation
from didmpc.agent.wallet.home import Home
from didmpc.local import unix_socket
from didmpc.protocols.errors import DidmpcError

LONGEST_LINE = 32 * 1024 * 1024
LAST_WORDS = 5.0
"""Seconds for what the agent still says after the channel process has ended, and the other way round."""
TOLD_WITHIN = 5.0
KEPT_OUTPUT = 16 * 1024 * 1024
PIECE = 256 * 1024

Consent = bool | Callable[[Proposed], bool | Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a run ended before its time. `party` is None where it is our own side."""

    party: str | None
    kind: str
    what: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one party's part ended."""

    ok: bool
    attempt: str
    parties: tuple[str, ...]
    output: str
    """What the program wrote to its standard output, up to 16 MiB."""
    errors: str
    """And to its standard error."""
    words: tuple[str, ...]
    cause: Cause | None
    stats: Mapping[str, Any] = field(repr=False)
    """What it cost this party: `seconds`, `rounds`, `messages`, `bytes` and more (docs/user-guide.md)."""


class ComputationFailed(DidmpcError):
    """The computation began and did not end well. `outcome` says how."""

    def __init__(self, outcome: Outcome) -> None:
        cause = outcome.cause or Cause(None, "unknown", "The computation failed.")
        super().__init__(cause.what, why=cause.why)
        self.outcome = outcome


class Computation:
    """Await it for its `Outcome`; or use it as a context, and iterate over its events while it runs.

    Raises `ComputationFailed` when the run failed, and another `DidmpcError` when it never began. Leaving the
    context early ends the computation for everybody.
    """

    def __init__(
        self, home: Home, method: str, params: Mapping[str, Any], *, consent: Consent, stdin: bytes
    ) -> None:
        self._home = home
        self._method = method
        self._params = params
        self._consent = consent
        self._stdin = stdin
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._followed = False
        self._work: asyncio.Task[Outcome] | None = None
        self._conversation: Conversation | None = None
        self._channel: Lines | None = None
        self._ended: asyncio.Future[Line] | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._printed: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._attempt = ""
        self._parties: tuple[str, ...] = ()
        self._words: tuple[str, ...] = ()
        self._running = False

    # --- for its user

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self.result().__await__()

    async def result(self) -> Outcome:
        """Wait until this party's part has ended. A caller that is cancelled stops it."""
        self._begin()
        assert self._work is not None
        try:
            return await asyncio.shield(self._work)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self.stop()))
            raise

    async def stop(self, why: str = "stopped by its program") -> None:
        """End the computation for everybody, who learn that it was us; returns when they are told."""
        work = self._work
        if work is None or work.done():
            return
        if self._channel is not None and self._ended is not None and not self._ended.done():
            self._channel.send({"interrupt": why})
            await asyncio.wait({work}, timeout=TOLD_WITHIN)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    async def __aenter__(self) -> Self:
        self._followed = True
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __aiter__(self) -> Self:
        self._followed = True
        self._begin()
        return self

    async def __anext__(self) -> Event:
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
            raise StopAsyncIteration
        return event

    # --- within

    def _begin(self) -> None:
        if self._work is None:
            self._work = asyncio.create_task(self._see_through(), name=f"didmpc {self._method}")
            # Whoever only iterates is not to read on the console what `result` would have raised.
            self._work.add_done_callback(lambda work: work.cancelled() or work.exception())

    async def _see_through(self) -> Outcome:
        self._ended = asyncio.get_running_loop().create_future()
        conversation = await Conversation.start(
            self._home, self._method, self._params, on_event=self._on_event
        )
        self._conversation = conversation
        try:
            over = asyncio.ensure_future(conversation.result())
            await asyncio.wait({over, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            # Where the channel process ended first, what the agent says about it counts for more.
            if not (self._ended.done() and self._ended.exception()):
                await asyncio.wait({over}, timeout=LAST_WORDS)
            if over.done():
                self._attempt = str(over.result().get("attempt", self._attempt))
            over.cancel()
            if self._ended.done():
                self._ended.result()
            if self._channel is None:
                raise DidmpcError("The agent named no channel process.", fix="didmpc doctor")
            return self._outcome(await self._ended)
        finally:
            for task in self._asking:
                task.cancel()
            if self._channel is not None:
                self._channel.hang_up()
            await conversation.close()
            self._events.put_nowait(None)

    def _outcome(self, ended: Line) -> Outcome:
        ok = ended.get("ok") is True
        told = ended.get("cause") or {}
        status = ended.get("exit")
        cause = Cause(
            told.get("party"),
            str(told.get("kind", "failed")),
            str(told.get("what", f"The program ended with exit status {status}.")),
            str(told.get("why") or ""),
        )
        outcome = Outcome(
            ok=ok,
            attempt=self._attempt,
            parties=self._parties,
            output=self._printed["stdout"].decode(errors="replace"),
            errors=self._printed["stderr"].decode(errors="replace"),
            words=self._words,
            cause=None if ok else cause,
            stats=ended.get("stats") or {},
        )
        if not ok:
            raise ComputationFailed(outcome)
        return outcome

    # --- what the agent says

    def _on_event(self, facts: dict[str, Any]) -> None:
        event = event_of(facts)
        if isinstance(event, Proposed):
            self._attempt = str(facts.get("attempt") or "")
            self._parties = event.parties
            self._aside(self._answer(event))
        elif event.name == "channel":
            self._aside(self._attach(Path(str(facts["socket"]))))
            return
        elif event.name == "words":
            self._words = tuple(str(word) for word in facts.get("words") or ())
        self._tell(event)

    def _tell(self, event: Event) -> None:
        if self._followed:  # else nobody would ever take it
            self._events.put_nowait(event)

    async def _answer(self, proposed: Proposed) -> None:
        agreed = self._consent
        if callable(agreed):
            said = agreed(proposed)
            agreed = said if isinstance(said, bool) else await said
        assert self._conversation is not None
        self._conversation.answer({"consent": agreed is True})

    # --- what the channel process says

    async def _attach(self, path: Path) -> None:
        connection = unix_socket.connect(path, timeout=TOLD_WITHIN)
        connection.setblocking(False)
        channel = Lines(self._on_line, self._on_channel_end, limit=LONGEST_LINE)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=connection)
        self._channel = channel

    def _on_line(self, line: Line) -> None:
        assert self._ended is not None
        if "out" in line:
            stream, data = str(line["out"]), base64.b64decode(line["data"])
            kept = self._printed[stream]
            kept += data[: KEPT_OUTPUT - len(kept)]
            self._tell(Printed("printed", stream=stream, data=data))
        elif line.get("event") == "ended":
            if not self._ended.done():
                self._ended.set_result(line)
        else:
            if line.get("event") == "started" and not self._running:
                self._running = True
                self._type()
            self._tell(event_of(line))

    def _on_channel_end(self, reason: str) -> None:
        assert self._ended is not None
        if not self._ended.done():
            what = "The channel process of this session ended without a word."
            why = "It was killed, or it crashed; your agent tells the others."
            cause = {"party": None, "kind": "channel-died", "what": what, "why": why}
            self._ended.set_result({"ok": False, "cause": cause})

    def _type(self) -> None:
        """The program's standard input, where it is no file."""
        assert self._channel is not None
        for at in range(0, len(self._stdin), PIECE):
            self._channel.send({"in": base64.b64encode(self._stdin[at : at + PIECE]).decode()})
        self._channel.send({"in_eof": True})

    def _aside(self, work: Awaitable[None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._asking.add(task)
        task.add_done_callback(self._done_aside)

    def _done_aside(self, task: "asyncio.Task[None]") -> None:
        """What goes wrong in the caller's `consent`, or in attaching, ends the computation."""
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            with contextlib.suppress(asyncio.InvalidStateError):
                assert self._ended is not None
                self._ended.set_exception(error)
