"""The channel process: everything wired together, data's way, and how a run ends.

Data's way: the program's frames of one read of the socket pair go to the links, and the links' packets to
their paths, within the same turn of the loop; back alike. No task or queue stands in between.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from didmpc.agent.channel import orders, stats
from didmpc.agent.channel.bridge import Bridge
from didmpc.agent.channel.causes import LEFT, TOLD_LIMIT, Cause, of_os, readable
from didmpc.agent.channel.clock import now
from didmpc.agent.channel.didcomm import FramePath
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.lines import Line, Lines
from didmpc.agent.channel.liveness import Liveness
from didmpc.agent.channel.orders import Session
from didmpc.agent.channel.paths.mailbox import MailboxPath
from didmpc.agent.channel.peer import Peer
from didmpc.agent.channel.pipes import InputPipe, OutputPipe
from didmpc.agent.channel.progress import Progress, interval
from didmpc.agent.channel.traffic import Traffic
from didmpc.agent.channel.ui import UserInterface
from didmpc.agent.channel.witness import Program
from didmpc.agent.program.wire import Frame, FrameType, WireError
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import DidmpcError, MessageError, SessionError
from didmpc.protocols.mpc.receipt import SALT_BYTES, output_hash
from didmpc.protocols.session.link import Link, LinkLimits

EXIT_INTERRUPTED = 130
PIPE_BYTES = 1024 * 1024
"""Asked of the kernel for the socket pair, so that a large frame needs no second turn; it may give less."""
_DATA = FrameType.DATA

log = logging.getLogger(__name__)


class Channel:
    """One run of one party. `run` returns when all is over."""

    def __init__(self, limits: Limits | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._limits = limits = limits or Limits()
        self._most_backlog = limits.program_backlog
        self._fault: asyncio.Future[Cause] = loop.create_future()
        self._begun: asyncio.Future[Session] = loop.create_future()
        self._signature: asyncio.Future[str] = loop.create_future()
        self._terminated = asyncio.Event()
        self._daemon = Lines(self._order, self._daemon_lost, limit=limits.line)
        self._ui = UserInterface(
            on_input=self._typed,
            on_input_end=self._typed_all,
            on_interrupt=self._interrupted,
            on_gone=self._ui_gone,
            on_room=self._ui_has_room,
            on_progress=self._progress_wanted,
            limits=limits,
        )
        self._stdin = InputPipe(limits.stdin, self._stdin_overflow)
        self._salt = os.urandom(SALT_BYTES)
        self._output_hash = output_hash(self._salt)
        self._stdout = OutputPipe(lambda data: self._printed("stdout", data))
        self._stderr = OutputPipe(lambda data: self._printed("stderr", data))
        self._bridge = Bridge(self._program_frames, self._program_broken)
        self._program: Program | None = None
        self._traffic = Traffic(limits, on_read=self._bridge.flush, on_beat=self._beat)
        self._peers = self._traffic.peers
        self._mailbox_paths: dict[int, MailboxPath] = {}
        self._frame_paths: dict[int, FramePath] = {}
        self._linked: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._names: Mapping[int, str] = {}
        self._me = -1
        self._going = False
        self._ending = False
        self._peer_ended_generation = False
        self._started_at = self._stopped_at = 0.0
        self._program_report: Mapping[str, Any] = {}
        self._daemon_envelopes = 0
        self._daemon_seconds = 0.0
        self._liveness: Liveness | None = None
        self._progress: Progress | None = None
        self._watched = False

    # --- the whole run

    async def run(self, daemon: socket.socket) -> None:
        """From the first line of the daemon to the last line to it."""
        self._loop.set_exception_handler(self._broken)
        self._loop.add_signal_handler(signal.SIGTERM, self._told_to_stop)
        daemon.setblocking(False)
        await self._loop.create_unix_connection(lambda: self._daemon, sock=daemon)
        await _first(self._begun, self._fault)
        self._spawn(self._traffic.beat_for_ever())
        program: asyncio.Task[Cause | None] | None = None
        if not self._fault.done():
            program = asyncio.create_task(self._see_program_through(self._begun.result()))
            await _first(program, self._fault)
        if self._fault.done():
            cause: Cause | None = self._fault.result()
        else:
            assert program is not None
            cause = await self._explained(await self._verdict(program))
        try:
            await self._wind_up(cause)
        except Exception:
            log.exception("the run could not be wound up; the agent sees this process end, and tells")
            if self._program is not None:
                await self._program.end(0)
            raise
        for task in self._tasks:
            task.cancel()

    async def _verdict(self, program: "asyncio.Task[Cause | None]") -> Cause | None:
        """How the program ended, or that seeing it through failed."""
        try:
            return await program
        except Exception as error:
            log.exception("the program could not be seen through")
            return Cause.ours("internal", self._name, f"{type(error).__name__}: {error}")

    async def _see_program_through(self, session: Session) -> Cause | None:
        """Spawn the program and see it end; returns what was wrong with its end, or None."""
        try:
            if session.input is not None:
                self._stdin.take_from(session.input)
            ours, theirs = socket.socketpair()
            for each in (ours, theirs):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIPE_BYTES)
            with theirs:
                self._program = Program(session.directory, theirs, session.sandbox, session.limits)
        except OSError as error:
            return Cause.ours("not-started", self._name, of_os(error), told=error.strerror or "")
        program = self._program
        self._spawn(self._end_when_too_far(program))
        await self._bridge.connect(ours)
        self._bridge.config(session.config)
        await self._stdin.connect(program.stdin)
        await self._stdout.connect(program.stdout)
        await self._stderr.connect(program.stderr)
        self._go_when_ready()
        code = await program.exited()
        self._stopped_at = now()
        self._share_state({"state": "exited"})
        await self._drain_program()
        end = program.explain(code)
        return None if end is None else Cause.ours(end.kind, self._name, end.why, told=end.told)

    async def _end_when_too_far(self, program: Program) -> None:
        if excess := await program.goes_too_far():
            self._end_ours("excess", excess, told=excess)

    async def _drain_program(self) -> None:
        """Take what the program left behind in its pipes and in the socket pair."""
        for pipe in (self._stdout, self._stderr):
            pipe.hold(False)
        ends = (self._bridge.closed, self._stdout.ended, self._stderr.ended)
        await _until(lambda: all(end.is_set() for end in ends), self._limits.pipe_grace)

    async def _explained(self, cause: Cause | None) -> Cause | None:
        """A failure that may be the echo of a peer's: wait a moment for the peer's own word."""
        if cause is not None and (self._peer_ended_generation or any(p.closed for p in self._peers.values())):
            await asyncio.wait({self._fault}, timeout=self._limits.hint_wait)
        return self._fault.result() if self._fault.done() else cause

    async def _wind_up(self, cause: Cause | None) -> None:
        """The end of the run, good or bad: told to the peers, to the user and to the daemon."""
        self._ending = True
        limits = self._limits
        report = None if cause is None else cause.report(self._names)
        if cause is None:
            await self._close_links()
        else:
            self._daemon.send({"stopping": cause.body() | {"pid": cause.pid}})
            await asyncio.gather(self._abort_links(cause), self._end_program())
        await asyncio.gather(*(relay.close(limits.abort_wait) for relay in self._traffic.relays.values()))
        code = (
            0
            if cause is None
            else EXIT_INTERRUPTED
            if cause.kind == "interrupted" and cause.pid is None
            else 1
        )
        ended: dict[str, Any] = {"ok": cause is None, "cause": report, "exit": code, "stats": self._stats()}
        if self._program is not None:
            ended |= await self._program.keep_files(self._begun.result().output)
        comes = cause is None and not self._daemon.closed.is_set()
        ended["receipt"] = comes
        shown = await self._ui.end(ended, limits.ui_wait)
        output = {"salt": b64url(self._salt), "commitment": b64url(self._output_hash.digest())}
        self._daemon.send({"ended": ended | {"output": output} if comes else ended})
        if not shown:  # a stopped terminal may still take its last lines
            await _first(
                asyncio.create_task(self._ui.end(ended, limits.ui_drain)),
                asyncio.create_task(self._terminated.wait()),
            )
        await self._daemon.finish(limits.daemon_wait)

    async def _close_links(self) -> None:
        for peer in self._peers.values():
            peer.close()
        await _until(
            lambda: all(peer.settled for peer in self._peers.values()) and not self._daemon.waiting,
            self._limits.close_wait,
        )

    async def _abort_links(self, cause: Cause) -> None:
        """With our signature, if our agent is there to sign; the links authenticate us all the same."""
        body = cause.body()
        if self._peers and not self._daemon.closed.is_set():
            self._daemon.send({"sign": body})
            await asyncio.wait({self._signature}, timeout=self._limits.sign_wait)
            if self._signature.done():
                body["signature"] = self._signature.result()
        for peer in self._peers.values():
            peer.abort(body)
        await _until(
            lambda: all(peer.abort_written for peer in self._peers.values()), self._limits.abort_wait
        )
        untold = [peer.pid for peer in self._peers.values() if not peer.abort_written]
        if untold:  # no way to them just now: our agent writes to them
            self._daemon.send({"untold": {"pids": untold}})

    async def _end_program(self) -> None:
        if self._program is not None:
            await self._program.end(self._limits.kill_grace)
            await self._drain_program()

    def _end(self, cause: Cause) -> None:
        """The run cannot go on. The first cause counts."""
        if not self._ending and not self._fault.done():
            log.info("ending: %s %s", cause.kind, cause.what)
            self._fault.set_result(cause)

    def _end_ours(self, kind: str, why: str = "", *, told: str = "") -> None:
        self._end(Cause.ours(kind, self._name, why, told=told))

    # --- data's way

    def _program_frames(self, frames: list[Frame]) -> None:
        """One read of the socket pair: to the links, and out, in this turn."""
        peers = self._peers
        for frame in frames:
            kind, pid, start, data = frame
            if kind is _DATA and pid in peers:
                peers[pid].send(start, data)
            else:
                self._program_says(frame)
        self._traffic.pump()

    def _send(self, pid: int, start: int, data: bytes) -> None:
        if pid in self._peers:
            self._peers[pid].send(start, data)
        elif pid in self._frame_paths:  # mode didcomm: one message of MPyC, one message of DIDComm
            self._frame_paths[pid].send(start, data)
        else:
            self._program_broken(f"The program wrote to party {pid}, which there is none.")

    def peer_data(self, pid: int, start: int, data: bytes) -> None:
        if not data:
            self._peer_ended_generation = True
        if self._bridge.data(pid, start, data) > self._most_backlog:
            why = f"Your program has left more than {self._most_backlog:,} bytes of it unread."
            self._end(Cause.of_peer("overflow", pid, self._names[pid], why))

    # --- what the program says

    def _program_says(self, frame: Frame) -> None:
        try:
            match frame.type:
                case FrameType.DATA | FrameType.END:  # which is empty
                    self._send(frame.pid, frame.start, frame.payload)
                case FrameType.STATE:
                    self._share_state(frame.json())
                case FrameType.FAILED:
                    self._program_failed(frame.json())
                case FrameType.STATS:
                    self._program_report = frame.json()
                case _:
                    self._program_broken(f"The program sent a {frame.type.name} frame.")
        except WireError as error:
            self._program_broken(error.what)

    def _share_state(self, state: Mapping[str, Any]) -> None:
        if self._progress is not None:
            self._progress.own_state(state, now())
        if self._liveness is not None:
            self._liveness.own_state(state, now())
            self._tell_state(self._liveness)

    def _tell_state(self, liveness: Liveness) -> None:
        """To all peers; a link says it at once where it is news."""
        heartbeat = liveness.heartbeat(self._peers, self._bridge.octets_written)
        for peer in self._peers.values():
            peer.link.set_state(heartbeat)

    def _program_failed(self, report: Mapping[str, Any]) -> None:
        """The program's own account of its failure; its exit would only say that there was one."""
        kind = readable(report.get("kind"), 40) or "raised"
        what, why = readable(report.get("what"), 300), readable(report.get("why"), 2000)
        pid = report.get("pid")
        if isinstance(pid, int) and pid in self._names and pid != self._me:
            if kind == "left":
                cause = Cause.of_peer("left", pid, self._names[pid], LEFT)
            else:
                why = f"{what} {why}".rstrip()
                cause = Cause.of_peer("violation", pid, self._names[pid], why, told="")
        else:
            told = what if kind == "threshold" else readable(report.get("told"), TOLD_LIMIT)
            cause = Cause.ours(kind, self._name, why or what, told=told)
        self._spawn(self._end_explained(cause))

    async def _end_explained(self, cause: Cause) -> None:
        explained = await self._explained(cause)
        if explained is not None:
            self._end(explained)

    def _program_broken(self, what: str) -> None:
        self._end_ours("broken-program", what)

    def _printed(self, stream: str, data: bytes) -> None:
        if stream == "stdout":
            self._output_hash.update(data)
        self._ui.output(stream, data)
        if self._ui.full and not self._ending:
            self._hold_output(True)

    def _hold_output(self, held: bool) -> None:
        self._stdout.hold(held)
        self._stderr.hold(held)

    # --- what the user says

    def _typed(self, data: bytes) -> None:
        self._stdin.write(data)

    def _typed_all(self) -> None:
        self._stdin.end()

    def _stdin_overflow(self) -> None:
        self._end_ours(
            "input-overflow", "More was typed or piped in than the program reads: use --input FILE."
        )

    def _interrupted(self, reason: str) -> None:
        self._end_ours("interrupted", readable(reason, 100))

    def _ui_gone(self) -> None:
        self._end_ours("closed")

    def _progress_wanted(self, every: float) -> None:
        if not self._watched:
            self._watched = True
            self._spawn(self._show_progress(interval(every)))

    async def _show_progress(self, every: float) -> None:
        """Now and then, and only where it is read: a stopped terminal has enough to catch up with."""
        while True:
            await asyncio.sleep(every)
            if self._going and not self._ending and self._progress is not None and self._ui.keeps_up:
                peers, frames = self._peers.values(), self._frame_paths.values()
                self._ui.tell("progress", **self._progress.picture(self._stats(), peers, frames, now()))

    def _ui_has_room(self) -> None:
        if not self._ui.full:
            self._hold_output(False)

    # --- what the daemon says

    def _order(self, line: Line) -> None:
        try:
            order = orders.parse(line)
            match order:
                case orders.Hello():
                    self._spawn(self._greet(order))
                case orders.Session():
                    self._begin(order)
                case orders.SessionLink():
                    self._link(order)
                case orders.DidcommLink():
                    self._frame_path(order.pid)
                    self._is_linked(order.pid)
                case orders.Renewal():
                    if order.pid in self._peers:
                        self._peers[order.pid].renew(order.established)
                case orders.Packet():
                    if order.pid in self._mailbox_paths:
                        self._mailbox_paths[order.pid].take(order.data)
                        self._bridge.flush()
                        self._traffic.pump()
                case orders.Recognised():
                    if order.pid in self._peers:
                        peer = self._peers[order.pid]
                        self._ui.tell("recognised", pid=peer.pid, name=peer.name, contact=order.name)
                case orders.Frame():
                    self._frame_path(order.pid).receive(order)
                    self._bridge.flush()
                case orders.Cost():
                    self._daemon_envelopes += order.envelopes
                    self._daemon_seconds += order.seconds
                case orders.AbortOrder():
                    self._aborted(order.pid, order.cause)
                case orders.Signature():
                    if not self._signature.done():
                        self._signature.set_result(order.signature)
        except SessionError as error:
            assert isinstance(order, orders.Frame)
            self._end(Cause.of_peer("violation", order.pid, self._names[order.pid], error.what))
        except DidmpcError as error:
            self._end_ours("agent", str(error))

    async def _greet(self, hello: orders.Hello) -> None:
        await self._ui.listen(hello.ui_socket)
        self._daemon.send({"ready": True})

    def _begin(self, session: Session) -> None:
        if self._begun.done():
            return
        if session.log:
            logging.getLogger("didmpc").setLevel(logging.INFO)
        self._me, self._names = session.me, session.names
        self._liveness = Liveness(
            session.names,
            session.me,
            session.resume_limit,
            session.deadlock_grace,
            self._limits,
            tell=self._ui.tell,
            end=self._end,
        )
        self._progress = Progress(session.names, session.me)
        self._begun.set_result(session)

    def _link(self, order: orders.SessionLink) -> None:
        pid, path = order.pid, order.path
        if pid in self._peers or pid not in self._names or pid == self._me:
            return
        limits = LinkLimits(renew_seconds=self._begun.result().renew_seconds)
        link = Link(order.established, now=now(), limits=limits, clock=time.perf_counter)
        if order.contacts:
            link.offer_contacts(order.contacts)
        link.set_state({"state": "computing"})
        peer = self._peers[pid] = Peer(pid, self._names[pid], link, self)
        if path is None:
            self._use_mailbox(peer)
        else:
            if self._progress is not None:
                self._progress.runs_at(pid, path.url)
            relay = self._traffic.relay(path)
            if not relay.channels:
                self._spawn(relay.keep_up())
            relay.add(path.capability, peer)
        self._is_linked(pid)

    def _use_mailbox(self, peer: Peer) -> None:
        mailbox = self._mailbox_paths[peer.pid] = MailboxPath(
            peer,
            send=lambda packet: self._daemon.send({"packet": {"pid": peer.pid, "data": b64url(packet)}}),
            room=lambda: self._limits.daemon_backlog - self._daemon.waiting,
        )
        mailbox.up()
        self._traffic.pump()

    def _frame_path(self, pid: int) -> FramePath:
        """The way to a party without a session; its first message may come before the daemon's word on it."""
        if pid not in self._names or pid == self._me or pid in self._peers:
            raise DidmpcError(f"The agent named party {pid} for messages, which there is none.")
        path = self._frame_paths.get(pid)
        if path is None:
            path = self._frame_paths[pid] = FramePath(
                pid, send_line=self._send_frame, deliver=self.peer_data, limits=self._limits
            )
        return path

    def _send_frame(self, line: Line) -> None:
        self._daemon.send(line)
        if self._daemon.waiting > self._limits.daemon_backlog:
            self._end_ours("overflow", "The agent takes messages more slowly than the program writes them.")

    def _is_linked(self, pid: int) -> None:
        self._linked.add(pid)
        self._go_when_ready()

    def _aborted(self, pid: int | None, body: Mapping[str, Any]) -> None:
        if pid is None or pid not in self._names or pid == self._me:
            what, why = readable(body.get("what"), 300), readable(body.get("why"), 2000)
            self._end(
                Cause(readable(body.get("kind"), 40) or "agent", what or "The agent ended the run.", why)
            )
        else:
            self._told(pid, body)

    def _daemon_lost(self, reason: str) -> None:
        """An agent that is gone ends no run, unless the run still needs it."""
        if self._ending or self._fault.done():
            return
        if self._going and not self._frame_paths and not self._mailbox_paths:
            self._ui.tell("agent-lost")
        else:
            self._end_ours("agent-lost", reason)

    def _told_to_stop(self) -> None:
        self._terminated.set()
        self._end_ours("stopped", "The agent was stopped, or it gave up the session.")

    # --- PeerListener: what the peers say

    def peer_ready(self, peer: Peer) -> None:
        self._go_when_ready()

    def peer_renewed(self, peer: Peer) -> None:
        log.info("a new session with party %d took over", peer.pid)

    def peer_proofs(self, peer: Peer, proofs: tuple[bytes, ...]) -> None:
        """Whom they prove is known to the daemon, which has the secrets of our contacts."""
        self._daemon.send({"contacts": {"pid": peer.pid, "proofs": [b64url(proof) for proof in proofs]}})

    def peer_state(self, peer: Peer, state: Mapping[str, Any]) -> None:
        if self._liveness is not None:
            self._liveness.peer_state(peer.pid, state, now())

    def peer_aborted(self, peer: Peer, cause: Mapping[str, Any]) -> None:
        self._told(peer.pid, cause)

    def peer_closed(self, peer: Peer) -> None:
        """It needs nothing more from us; `Liveness` sees whether we still wait for it."""

    def peer_failed(self, peer: Peer, kind: str, error: DidmpcError) -> None:
        self._end(Cause.of_peer(kind, peer.pid, peer.name, str(error)))

    def _told(self, pid: int, body: Mapping[str, Any]) -> None:
        """A peer says why it ended the run; what it says of a third party waits for that party's own word."""
        evidence = self._begun.result().evidence
        try:
            signed = evidence.of(pid, body)
        except MessageError as error:
            self._end(Cause.of_peer("violation", pid, self._names[pid], error.what))
            return
        passed_on = evidence.passed_on(body)
        if passed_on is not None and passed_on["pid"] not in (pid, self._me):
            pid, body, signed = passed_on["pid"], passed_on, passed_on
        cause = replace(Cause.told(body, pid, self._names), evidence=signed)
        if cause.kind == "deadlock" and self._liveness is not None and self._liveness.suspects_deadlock:
            cause = self._liveness.deadlock()
        if cause.hint:
            self._loop.call_later(self._limits.hint_wait, self._end, cause)
        else:
            self._end(cause)

    def _go_when_ready(self) -> None:
        """All links given and confirmed, and the program there: let it run."""
        if self._going or self._ending or not self._bridge.configured:
            return
        if len(self._linked) < len(self._names) - 1 or not all(p.ready for p in self._peers.values()):
            return
        self._going = True
        self._started_at = now()
        self._bridge.go()
        self._daemon.send({"links_ready": True})
        self._ui.tell("started")

    # --- time

    def _beat(self, at: float, late: bool) -> None:
        for peer in self._peers.values():
            if peer.wants_renewal(at):
                self._daemon.send({"renew": {"pid": peer.pid}})
        if self._liveness is not None and not late and not self._ending:
            if self._liveness.may_be_stuck:
                self._tell_state(self._liveness)
            self._liveness.beat(self._peers.values(), at, self._traffic.wakefulness)

    # --- within

    @property
    def _name(self) -> str:
        return self._names.get(self._me, "This party")

    def _stats(self) -> dict[str, Any]:
        stopped = self._stopped_at or now()
        return stats.collect(
            seconds=stopped - self._started_at if self._going else 0.0,
            program=self._program_report,
            peers=self._peers.values(),
            frame_paths=self._frame_paths.values(),
            relays=self._traffic.relays.values(),
            daemon_envelopes=self._daemon_envelopes,
            daemon_seconds=self._daemon_seconds,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside; that it failed is never overlooked."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(self._loop, {"exception": error})

    def _broken(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A fault of ours ends the run with a word, never in silence."""
        error = context.get("exception")
        log.error("internal error: %s", context.get("message", ""), exc_info=error)
        self._end_ours(
            "internal", f"{type(error).__name__}: {error}" if error else str(context.get("message"))
        )


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of these is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait for a condition at the end of a run, where a hundredth of a second matters to nobody."""
    deadline = now() + timeout
    while not condition():
        if now() >= deadline:
            return False
        await asyncio.sleep(0.01)
    return True
