"""Taking part in one session, in the foreground: between the agent, the channel process and the terminal.

The agent's control connection tells how people gather; it ends once the session is in the hands of the
channel process. That process speaks on a socket of its own: the program's output and ours to it, and how
the run ends. Everything comes together in one event loop.
"""

import asyncio
import base64
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from didmpc.agent.cli import narration
from didmpc.agent.cli.board import ASKED_EVERY, Board
from didmpc.agent.cli.channel_feed import ChannelFeed
from didmpc.agent.cli.client import ask
from didmpc.agent.cli.control_feed import ControlFeed
from didmpc.agent.cli.lobby import LobbyScreen
from didmpc.agent.cli.remedies import again
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.source import listing
from didmpc.agent.cli.streams import Output, Stdin
from didmpc.agent.control.client import AgentLost
from didmpc.agent.wallet.home import Home
from didmpc.local.private_files import write_private
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.mpc.statement import Ask

TOLD_WITHIN = 5.0  # after Ctrl-C: seconds until the others have been told
GONE_WITHIN = 5.0  # seconds for the last words of one side after the other side ended
FAREWELL = 0.3  # seconds for our last words on a terminal that may be stopped
RECEIPT_WITHIN = 4.0  # seconds until all should have signed the receipt; it grows without us, too
AGENT_LOOKED_FOR_EVERY = 0.5
REPEAT_WAITING = 30.0  # without a terminal: seconds between lines that say the same

Json = dict[str, Any]


class Sink(Protocol):
    """Where a program's output goes."""

    at_line_start: bool
    closed: bool

    def write(self, data: bytes) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was typed."""

    method: str  # "run" or "join"
    params: Json
    home: Home
    program: str = ""  # as typed, for the command to repeat
    consented: bool = False
    if_trusted: bool = False  # agreed to, where the person trusts the program
    trusts: bool = False  # whoever agrees trusts it from now on
    forwards_stdin: bool = True
    receipt: Path | None = None  # where to put a copy of the receipt
    journal: Callable[[Json], None] | None = None  # takes every event as it comes, for programs
    lobby: LobbyScreen | None = None  # of a host, for the link and what it types meanwhile

    @property
    def host(self) -> bool:
        return self.method == "run"


@dataclass(slots=True)
class Outcome:
    """How it ended."""

    ok: bool = False
    interrupted: bool = False
    attempt: str | None = None
    parties: list[str] = field(default_factory=list)
    cause: Json | None = None
    stats: Json | None = None
    receipt: str | None = None


class _Declined(Exception):
    """The person at the terminal said no."""


class TakingPart:
    """One session, from the request to its end."""

    def __init__(
        self, request: Request, screen: Screen, stdout: Sink, stdin: Stdin, outcome: Outcome
    ) -> None:
        self._request = request
        self._screen = screen
        self._stdout = stdout
        self._stderr: Sink = Output(2)
        self._stdin = stdin
        self.outcome = outcome
        self._board = Board(screen, self._at_line_start)
        self._control = ControlFeed(request.method, request.params, request.home)
        self._channel: ChannelFeed | None = None
        self._follow_task: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._stdin_task: asyncio.Task[None] | None = None
        self._typing_task: asyncio.Task[None] | None = None
        self._considered: Json | None = None  # the proposal that the person agreed to
        self._interrupts = 0
        self._interrupted = asyncio.Event()
        self._said_waiting = ("", 0.0)
        self._told_output_closed = False
        self._consented = False
        self._own_input: bytes | None = None  # an input that was asked for before the run
        self._running = False
        self._handed_over = False
        self._receipt_comes: bool | None = None

    async def attend(self) -> None:
        """Go through the session and fill in its outcome. Raises `DidmpcError` where it never ran."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._on_ctrl_c)
        loop.add_signal_handler(signal.SIGTERM, self._on_terminate)
        self._board.start()
        try:
            if not await self._until_interrupted(self._take_part()):
                await self._leave()
        except _Declined as declined:
            await self._decline(declined.__cause__)
        finally:
            self._control.close()
            self._board.stop()
            for task in (self._stdin_task, self._typing_task, self._follow_task):
                if task is not None:
                    task.cancel()
            if self._channel is not None:
                self._channel.close()
            await self._screen.settle()

    # --- the course of a session

    async def _take_part(self) -> None:
        gathering = asyncio.ensure_future(self._gather())
        try:
            over = False
            while not over:
                either: set[asyncio.Future[Any]] = {gathering, self._ended}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                # Where the channel process ended first, what the agent says about it counts for more.
                await asyncio.wait({gathering}, timeout=GONE_WITHIN)
                # Neither: it ended with its agent, which is waited for (`_come_again`).
                over = gathering.done() or self._ended.done()
            if gathering.done():
                gathering.result()
        finally:
            gathering.cancel()
        if self._channel is None:
            raise DidmpcError("The agent named no channel process for this session.", fix="didmpc doctor")
        # Shielded: what ends this wait (Ctrl-C) must not end the channel's last words.
        self._take_end(await asyncio.shield(self._ended))

    async def _gather(self) -> None:
        """Until the session is in the hands of the channel process."""
        while True:
            try:
                kind, content = await self._control.next()
            except AgentLost:
                if not self._outlives_agent:
                    raise
                await self._come_again()
                continue
            if kind == "result":
                self._handed_over = True
                self.outcome.attempt = content.get("attempt", self.outcome.attempt)
                return
            if content.get("event") == "proposal":
                await self._consider(content)
            else:
                await self._tell(content)

    @property
    def _outlives_agent(self) -> bool:
        """Whether people gather by a link: that goes on when the agent has been started again."""
        lobby = self._request.lobby
        by_link = self._request.params.get("invitation") or (lobby is not None and lobby.link)
        return bool(by_link) and self._considered is not None

    async def _come_again(self) -> None:
        """Wait for an agent that was stopped, and go on where it was."""
        self._control.close()
        self._stop_typing()
        if self._follow_task is not None:
            self._follow_task.cancel()
        self._channel, self._follow_task = None, None
        self._ended = asyncio.get_running_loop().create_future()
        self._board.take({"event": "agent-lost"})
        self._say("Your agent has stopped. This command waits for it, and so do the others.", "yellow")
        self._say("Start it again, in another terminal:  didmpc agent start --detach", "bold")
        params = dict(self._request.params)
        if self._request.lobby is not None and self._request.lobby.link:
            params["lobby"] = self._request.lobby.link
        while True:
            await asyncio.sleep(AGENT_LOOKED_FOR_EVERY)
            with contextlib.suppress(DidmpcError):
                self._control = ControlFeed(self._request.method, params, self._request.home)
                return

    async def _consider(self, event: Json) -> None:
        self._note(event)
        self.outcome.attempt = event.get("attempt")
        self.outcome.parties = [str(name) for name in event.get("parties") or []]
        self._screen.clear_status()
        if not self._agreed_before(event):
            for text, style in narration.proposal(event, host=self._request.host):
                self._screen.line(text, style)
        answer = {"consent": True}
        if self._request.trusts:
            answer["trust"] = True
        if self._agreed_before(event):
            if narration.lacks_sandbox(event):
                answer["no_sandbox"] = True
        elif not self._request.consented and not self._trusts(event):
            if not await self._asked(event):
                self._control.answer({"consent": False})
                raise _Declined
            if narration.lacks_sandbox(event):
                answer["no_sandbox"] = True  # that was the question
            if narration.lacks_privacy(event):
                answer["no_privacy"] = True  # and that
        if self._considered is None:
            await self._ask_for_input(event)
        self._consented = True
        self._considered = event
        self._control.answer(answer)

    def _trusts(self, event: Json) -> bool:
        """Whether the person trusts this program; raises `_Declined` where nobody can be asked."""
        if not self._request.if_trusted or event.get("trusted") is True:
            return self._request.if_trusted
        if self._screen.terminal and os.isatty(0):
            return False
        self._control.answer({"consent": False, "why": "Their agent takes part in what it knows alone."})
        raise _Declined from DidmpcError(
            "This is not a program that you trust.",
            why=str(event.get("trusted_why") or ""),
            fix=f"Trust it:  didmpc session trust {event.get('sha256')}",
        )

    async def _ask_for_input(self, event: Json) -> None:
        """On a terminal: ask for an input of one line until it is what the program asks for."""
        question = narration.typed_input(event)
        interactive = self._screen.terminal and os.isatty(0)
        if question is None or not self._request.forwards_stdin or not interactive:
            return
        wanted = Ask.of(question[1])
        while True:
            line = await self._line(question[0])
            if line is None:
                return
            try:
                wanted.check(line.encode())
            except DidmpcError as problem:
                self._screen.line(problem.why, "yellow")
            else:
                self._own_input = line.encode() + b"\n"
                return

    def _agreed_before(self, event: Json) -> bool:
        """Whether it is what the person agreed to before its agent was started again."""
        changing = ("lobby", "sandbox_why", "sandbox_fix")
        known = self._considered
        return known is not None and all(
            known.get(name) == event.get(name) for name in known.keys() | event.keys() if name not in changing
        )

    async def _asked(self, event: Json) -> bool:
        """Ask the person, who may read the program first."""
        question, agreement = narration.question(event, host=self._request.host)
        while (said := (await self._line(question) or "").lower()) in ("s", "show"):
            await self._show_source(event)
        return said in agreement

    async def _show_source(self, event: Json) -> None:
        params = {"session": event.get("attempt"), "source": True}
        try:
            found = await asyncio.to_thread(ask, self._request.home, "session-show", params, timeout=90.0)
        except DidmpcError as problem:
            self._screen.error(problem.what, problem.why, problem.fix)
            return
        self._screen.raw("".join(f"{line}\n" for line in listing(found.get("contents") or [])))

    async def _line(self, question: str) -> str | None:
        """Ask for a line; meanwhile the agent may withdraw the question (its error is raised)."""
        self._stdin.forget_what_was_typed()
        self._screen.ask(question)
        answer = asyncio.ensure_future(self._stdin.line())
        try:
            while not answer.done():
                control = asyncio.ensure_future(self._control.next())
                try:
                    await asyncio.wait({answer, control}, return_when=asyncio.FIRST_COMPLETED)
                    if control.done() and control.result()[0] == "event":
                        event = control.result()[1]
                        if event.get("event") != "waiting":  # it would overwrite the question
                            await self._tell(event)
                            if not self._screen.asking:
                                self._screen.ask(question)  # something was said in between
                finally:
                    control.cancel()
            self._screen.answered()
            return answer.result()
        finally:
            answer.cancel()

    async def _tell(self, event: Json) -> None:
        """One event of the agent."""
        name = event.get("event")
        self._note(event)
        if name == "channel":
            self._channel = ChannelFeed.attach(Path(str(event["socket"])))
            self._follow_task = asyncio.create_task(self._follow(self._channel))
            if self._screen.terminal or self._request.journal is not None:
                await self._channel.send({"progress": ASKED_EVERY})
        elif name == "lobby" and self._request.lobby is not None:
            self._request.lobby.show(event, float(event["expires"]) - time.time())
            self._start_typing()
        elif name == "all-joined":
            self._stop_typing()
            self.outcome.parties = [str(each) for each in event.get("parties") or self.outcome.parties]
        elif name == "party":
            self._say(*narration.party(event))
            if self._request.lobby is not None:
                self._request.lobby.note(event)
        elif name == "waiting":
            self._say_waiting(narration.waiting(event))
        elif name == "words":
            self._say(narration.words(event), "bold")
        elif name == "started":
            self._on_started()
        elif name == "notice":
            self._say(str(event.get("text", "")), "yellow")

    def _take_end(self, ended: Json) -> None:
        self.outcome.ok = ended.get("ok") is True
        self._receipt_comes = ended.get("receipt")
        self.outcome.stats = ended.get("stats") or {}
        if text := narration.files(ended, self._request.params.get("output")):
            self._say(text, "yellow")
        if not self.outcome.ok:
            status = ended.get("exit")
            cause = ended.get("cause") or {
                "party": None,
                "what": f"Your program ended with exit status {status}.",
            }
            self.outcome.cause = dict(cause)

    # --- the channel process

    async def _follow(self, channel: ChannelFeed) -> None:
        """Everything the channel process says, up to its last word."""
        what = "The channel process of this session ended without a word."
        why = "It was killed, or it crashed; your agent tells the others."
        last: Json = {"cause": {"party": None, "kind": "channel-died", "what": what, "why": why}}
        try:
            while (message := await channel.next()) is not None:
                if "out" in message:
                    await self._pass_on(message["out"], base64.b64decode(message["data"]))
                elif message.get("event") == "ended":
                    last = message
                    break
                else:
                    self._tell_of_run(message)
        except Exception as problem:
            self._ended.set_exception(problem)
        else:
            self._ended.set_result(last)

    async def _pass_on(self, stream: str, data: bytes) -> None:
        if self._request.journal is not None:
            text = data.decode(errors="replace")
            self._request.journal({"event": "output", "stream": stream, "text": text})
        self._screen.clear_status()
        await self._screen.written()  # what we said before it stands before it
        sink = self._stdout if stream == "stdout" else self._stderr
        await sink.write(data)
        if self._stdout.closed and not self._told_output_closed:
            self._told_output_closed = True
            self._say("Nobody reads the output any more; the computation goes on for the others.", "yellow")

    def _tell_of_run(self, event: Json) -> None:
        name = event.get("event")
        self._note(event)
        if name == "started":
            self._on_started()
        elif name == "peer":
            self._say(*narration.peer(event))
        elif name == "recognised":
            self._say(narration.recognised(event), "green")
        elif name == "agent-lost":
            self._say("Your agent has stopped. This run goes on without it.", "yellow")
        elif name == "waiting" and not self._board.shows:
            self._say_at_times(narration.stalled(event))
        elif name == "deadlock":
            self._say(narration.deadlock(event), "yellow")
        elif name == "stopping":
            self._say(str(event.get("what", "The run is being stopped.")), "yellow")

    def _on_started(self) -> None:
        self._screen.clear_status()
        if not self._running:
            self._running = True
            self._say("Running.")
            if self._channel is not None and self._request.forwards_stdin:
                self._stdin_task = asyncio.create_task(self._forward_stdin(self._channel))

    def _start_typing(self) -> None:
        """Take lines from the host's terminal for the lobby; the program gets what is typed once it runs."""
        lobby = self._request.lobby
        if self._typing_task is None and lobby is not None and self._screen.terminal and self._stdin.terminal:
            self._typing_task = asyncio.create_task(self._take_lines(lobby))

    def _stop_typing(self) -> None:
        if self._typing_task is not None:
            self._typing_task.cancel()
            self._typing_task = None

    async def _take_lines(self, lobby: LobbyScreen) -> None:
        while (line := await self._stdin.line()) is not None:
            self._typed(f"{line}\n".encode())
            if (answer := lobby.answer(line)) is not None:
                self._control.answer(dict(answer))

    async def _forward_stdin(self, channel: ChannelFeed) -> None:
        if self._own_input is not None:
            await channel.send({"in": base64.b64encode(self._own_input).decode()})
            await channel.send({"in_eof": True})
            return
        while data := await self._stdin.read():
            self._typed(data)
            await channel.send({"in": base64.b64encode(data).decode()})
        await channel.send({"in_eof": True})

    # --- the receipt

    async def await_receipt(self) -> None:
        """After a run that went well: wait a moment until the others have signed; Ctrl-C ends the wait.

        The result stands whatever becomes of the receipt.
        """
        if not self.outcome.ok or self._receipt_comes is None:
            return
        found: list[Json] = []
        problem: DidmpcError | None = None
        if self._receipt_comes:
            try:
                await self._until_interrupted(self._ask_for_receipt(found))
            except DidmpcError as error:
                problem = error
        facts = (found[0].get("receipt") if found else None) or {}
        path = facts.get("path")
        if path and self._request.receipt is not None:
            path = self._copy_receipt(Path(path), self._request.receipt)
        self.outcome.receipt = path
        for text, style in narration.receipt(
            path, facts, lost=problem is not None or not self._receipt_comes
        ):
            self._say(text, style)

    async def _ask_for_receipt(self, found: list[Json]) -> None:
        params = {"session": self.outcome.attempt, "wait": RECEIPT_WITHIN}
        feed = ControlFeed("session-receipt", params, self._request.home)
        try:
            while True:
                kind, content = await feed.next()
                if kind == "result":
                    found.append(content)
                    return
        finally:
            feed.close()

    def _copy_receipt(self, kept: Path, wanted: Path) -> str:
        try:
            write_private(wanted, kept.read_bytes())
        except OSError as error:
            self._say(f"The receipt cannot be written to {wanted}: {error.strerror}.", "yellow")
            return str(kept)
        return str(wanted)

    # --- leaving

    def _on_ctrl_c(self) -> None:
        self._interrupts += 1
        self._interrupted.set()
        if self._interrupts > 1:
            self._screen.clear_status()
            self._screen.line("Left at once. Your agent tells the others.")
            self._screen.drain(FAREWELL)
            os._exit(130)  # whatever is stuck, a second Ctrl-C ends this command

    def _on_terminate(self) -> None:
        """Be killed as asked, with the terminal as we found it; the channel process tells the others."""
        self._screen.clear_status()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    async def _until_interrupted(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work came to its end before a Ctrl-C."""
        working = asyncio.ensure_future(work)
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait({working, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                return False
            working.result()
            return True
        finally:
            for task in (working, interrupted):
                task.cancel()
            await asyncio.gather(working, interrupted, return_exceptions=True)

    async def _leave(self) -> None:
        """Ctrl-C: tell everybody, and wait a moment until they know."""
        if not self._handed_over:
            await self._leave_lobby()
            self._control.close()  # the agent gives up the request, and tells those who were asked
        if self._channel is not None and not self._ended.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TOLD_WITHIN):
                    await self._channel.send({"interrupt": "Ctrl-C"})
                    await asyncio.wait({self._ended})
        self.outcome.interrupted = True
        told = "; all parties are told" if self._consented else ""
        what = f"Stopped: you pressed Ctrl-C{told}."
        self.outcome.cause = {"party": None, "kind": "interrupted", "what": what, "why": ""}
        self._say(what, "bold")

    async def _leave_lobby(self) -> None:
        """Say that a lobby is over: one whose command is lost without a word stays open."""
        if self._request.lobby is None or not self._request.lobby.link:
            return
        with contextlib.suppress(DidmpcError, TimeoutError):
            self._control.answer({"leave": True})
            async with asyncio.timeout(GONE_WITHIN):
                while (await self._control.next())[0] != "result":
                    pass

    async def _decline(self, why: BaseException | None) -> None:
        """Stay until the agent has told the others of the refusal."""
        with contextlib.suppress(DidmpcError, TimeoutError):
            async with asyncio.timeout(GONE_WITHIN):
                while (await self._control.next())[0] != "result":
                    pass
        if isinstance(why, DidmpcError):
            raise why
        raise DidmpcError(
            "You did not agree, so nothing was computed and nothing was shown to anybody.",
            fix=self._again() if self._request.host else "",
        )

    def _again(self) -> str:
        arguments = self._request.params.get("arguments") or []
        return again(self._request.program, [], host=True, arguments=arguments)

    # --- the screen

    def _note(self, event: Json) -> None:
        """Every event, whoever tells it."""
        self._board.take(event)
        if self._request.journal is not None:
            self._request.journal(event)

    def _at_line_start(self) -> bool:
        return self._stdout.at_line_start and self._stderr.at_line_start

    def _typed(self, data: bytes) -> None:
        """The person ended lines on the terminal, below the panel or behind a prompt of the program."""
        if self._screen.terminal and self._stdin.echoes is not None and data.endswith(b"\n"):
            self._screen.typed(data.decode(errors="replace"), shown=self._stdin.echoes)
            self._stdout.at_line_start = self._stderr.at_line_start = True

    def _say(self, text: str, style: str = "") -> None:
        if self._screen.terminal and not self._at_line_start():
            self._screen.raw("\n")  # the program's last line is unfinished
            self._stdout.at_line_start = self._stderr.at_line_start = True
        self._screen.line(text, style)

    def _say_waiting(self, text: str) -> None:
        if not self._screen.terminal:
            self._say_at_times(text)

    def _say_at_times(self, text: str) -> None:
        """A line whose figures change all the time: when its words change, and once in a while."""
        subject, now = text.split(" (", maxsplit=1)[0], time.monotonic()
        said, when = self._said_waiting
        if text and (subject != said or now - when > REPEAT_WAITING):
            self._said_waiting = (subject, now)
            self._say(text)
