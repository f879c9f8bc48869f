"""From a manifest to a running session: signatures, handshakes and links, then the watch over the channel.

Host and guests do the same here. All messages are between the session DIDs of the roster.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.agent.mailbox import Mailbox
from didmpc.agent.program.bundle import Bundle
from didmpc.agent.sessions.channel_process import ChannelProcess
from didmpc.agent.sessions.history import History
from didmpc.agent.sessions.inbox import Arrived, Inbox
from didmpc.protocols import relay_control
from didmpc.protocols.did import canonical, resolve
from didmpc.protocols.encoding import b64url, unb64url
from didmpc.protocols.errors import DidmpcError, MessageError, RemoteViolation
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.agreement import Agreement
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.session import handshake
from didmpc.protocols.session.handshake import Established, Initiation, Party

logger = logging.getLogger(__name__)

# Signatures, handshakes and links of all parties together, in seconds: many round trips on a slow path.
CONNECT_WITHIN = 60.0
OPEN_EXPIRES = 120
RESUME_LIMIT = 120.0
# The longest that a relay channel is kept by the mediator: the absolute limit of a session.
CHANNEL_SECONDS = 24 * 3600
GOODBYE_WITHIN = 4.0
FINISH_WITHIN = 15.0
ALIVE_EVERY = 10.0
FRAMES_UNDER_WAY = 16

Report = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Seat:
    """Everything this party brings to one attempt."""

    pid: int
    identity: Identity
    manifest: Manifest
    bundle: Bundle
    names: tuple[str, ...]
    directory: Path
    input: Path | None


class Attempt:
    """One party's part of one attempt, from the manifest to the end."""

    def __init__(
        self, seat: Seat, mailbox: Mailbox, channel: ChannelProcess, inbox: Inbox, history: History
    ) -> None:
        self._seat = seat
        self._mailbox = mailbox
        self._channel = channel
        self._inbox = inbox
        self._history = history
        self._manifest = seat.manifest
        self._agreement = Agreement(seat.manifest, seat.pid, seat.identity)
        self._peers = [pid for pid in range(seat.manifest.m) if pid != seat.pid]
        self._initiations: dict[int, Initiation] = {}
        self._early_opens: list[tuple[int, Message]] = []
        self._accepts: dict[str, Message] = {}
        self._linked: set[int] = set()
        self._relay_channels: dict[int, relay_control.Channel] = {}
        self._opened = False
        self._frames: dict[int, asyncio.Semaphore] = {
            pid: asyncio.Semaphore(FRAMES_UNDER_WAY) for pid in self._peers
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._heard: dict[int, float] = {}
        self._reader: asyncio.Task[None] | None = None
        self._reported_cost = (mailbox.envelopes, mailbox.crypto_seconds)

    # -- connecting ---------------------------------------------------------------------------------

    async def connect(self, report: Report) -> None:
        """Agree, shake hands and bring up all links; raises `DidmpcError` that names who failed.

        The caller ends the attempt with `give_up` when this raises.
        """
        seat, manifest = self._seat, self._manifest
        await asyncio.to_thread(seat.bundle.write_to, seat.directory)
        self._channel.tell({"session": self._session_line()})
        self._reader = asyncio.create_task(self._read_channel())
        lower = [pid for pid in self._peers if pid < seat.pid and manifest.uses_session(pid, seat.pid)]
        await asyncio.gather(
            self._broadcast(messages.SIGNATURE, self._agreement.signature()),
            self._create_relay_channels(lower),
        )
        deadline = time.monotonic() + CONNECT_WITHIN
        await self._open_when_signed(report)
        ready = False
        while not ready or self._agreement.words is None:
            try:
                event = await self._inbox.next(deadline - time.monotonic())
            except TimeoutError:
                raise self._too_slow() from None
            if isinstance(event, Arrived):
                await self._take(event, report)
            elif event.line is None:
                raise DidmpcError(
                    "The channel process of this session ended.", why="See agent.log.", fix="Try again."
                )
            elif "links_ready" in event.line:
                ready = True
            elif "ended" in event.line:
                raise DidmpcError(_sentence(event.line["ended"].get("cause")))
            else:
                self._take_line(event.line)

    def _session_line(self) -> dict[str, Any]:
        seat, manifest = self._seat, self._manifest
        return {
            "me": seat.pid,
            "parties": [{"pid": pid, "name": name} for pid, name in enumerate(seat.names)],
            "mode": manifest.mode,
            "resume_limit": RESUME_LIMIT,
            "directory": str(seat.directory),
            "input": str(seat.input) if seat.input else None,
            "config": {
                "pid": seat.pid,
                "m": manifest.m,
                "threshold": manifest.threshold,
                "entry": seat.bundle.entry,
                "arguments": list(manifest.arguments),
                "names": list(seat.names),
                "options": dict(manifest.options),
                "allow_threshold_change": manifest.free_threshold,
                # A reference must not be made better or worse than it is: one message of MPyC, one envelope.
                "coalesce": manifest.mode != "didcomm",
                "log_level": "warning",
            },
        }

    async def _read_channel(self) -> None:
        while (line := await self._channel.next()) is not None:
            self._inbox.put_line(line)
        self._inbox.put_line(None)

    async def _create_relay_channels(self, pids: list[int]) -> None:
        """For pids i < j, i dials j's mediator: j asks it for the channels."""
        if not pids:
            return
        request = relay_control.channel_create(len(pids), int(time.time()) + CHANNEL_SECONDS)
        reply = await self._mailbox.ask_mediator(request.type, request.body)
        channels = relay_control.parse_channel_created(reply)
        if len(channels) != len(pids):
            raise DidmpcError(
                "Our mediator gave fewer relay channels than asked for.", fix="Try again later."
            )
        self._relay_channels = dict(zip(pids, channels, strict=True))

    async def _take(self, event: Arrived, report: Report) -> None:
        pid = self._manifest.pid_of(event.sender)
        message = event.message
        if pid is None or pid == self._seat.pid:
            logger.info("ignored a %s from a stranger to this attempt", message.type)
            return
        try:
            await self._take_from(pid, message, report)
        except RemoteViolation as error:
            raise DidmpcError(
                f"{self._seat.names[pid]} does not follow the protocol: {error.what}",
                why=error.why,
                fix=error.fix,
            ) from error

    async def _take_from(self, pid: int, message: Message, report: Report) -> None:
        if message.type == messages.SIGNATURE:
            self._agreement.take_signature(pid, message.body)
            await self._open_when_signed(report)
        elif message.type == messages.REVEAL:
            self._agreement.take_reveal(pid, message.body)
        elif message.type == handshake.OPEN:
            if self._opened:
                await self._accept(pid, message)
            else:
                self._early_opens.append((pid, message))
        elif message.type == handshake.ACCEPT:
            self._finish(pid, message)
        elif message.type == handshake.DECLINE:
            code = messages.text(message.body, "code", 32)
            raise DidmpcError(f"{self._seat.names[pid]} declined the session ({code}).", fix="Try again.")
        elif message.type == messages.ABORT:
            raise DidmpcError(_sentence(read_cause(self._seat.names[pid], message)))
        elif message.type == messages.FRAME:
            self._take_frame(pid, message)
        if message.type in (messages.SIGNATURE, messages.REVEAL) and self._agreement.words:
            await report({"event": "words", "words": list(self._agreement.words)})

    async def _open_when_signed(self, report: Report) -> None:
        """Once all have signed: reveal, and shake hands with every party of a higher pid."""
        if self._opened or not self._agreement.signed:
            return
        self._opened = True
        await report({"event": "agreed"})
        opens = []
        for pid in self._peers:
            if not self._manifest.uses_session(self._seat.pid, pid):
                self._link(pid, {"didcomm": True})
            elif pid > self._seat.pid:
                opens.append(self._open(pid))
        early, self._early_opens = self._early_opens, []
        await asyncio.gather(
            self._broadcast(messages.REVEAL, self._agreement.reveal()),
            *opens,
            *(self._accept(pid, message) for pid, message in early),
        )

    def _pair(self, initiator: int, responder: int) -> dict[str, Any]:
        """What binds a handshake to this attempt and to the two pids (session.md, section 3)."""
        return {
            "attempt": self._manifest.attempt,
            "manifest_sha256": self._manifest.sha256,
            "pid_i": initiator,
            "pid_r": responder,
        }

    async def _open(self, pid: int) -> None:
        message = Message(
            type=handshake.OPEN,
            pthid=self._manifest.attempt,
            expires_time=int(time.time()) + OPEN_EXPIRES,
            body={},
        )
        initiation = Initiation(
            Party.of(self._seat.identity),
            Party.of(resolve(self._manifest.roster[pid].did)),
            message.id,
            link=self._pair(self._seat.pid, pid),
        )
        self._initiations[pid] = initiation
        await self._send(pid, message, initiation.body)

    async def _accept(self, pid: int, message: Message) -> None:
        """Answer an `open`; its repetition gets the same answer, byte for byte."""
        known = self._accepts.get(message.id)
        if known is None:
            if pid in self._linked or pid > self._seat.pid or pid not in self._relay_channels:
                raise MessageError("An open that no pair of the manifest asks for.")
            channel = self._relay_channels[pid]
            body, established = handshake.respond(
                Party.of(self._seat.identity),
                Party.of(resolve(self._manifest.roster[pid].did)),
                message.id,
                message.body,
                link=self._pair(pid, self._seat.pid),
                caps=(_relay_capability(self._mailbox.mediator_did, channel.far),),
            )
            known = Message(type=handshake.ACCEPT, thid=message.id, pthid=self._manifest.attempt, body=body)
            self._accepts[message.id] = known
            self._link(pid, self._session_link(established, self._mailbox.mediator_did, channel.near))
        await self._send(pid, known, known.body)

    def _finish(self, pid: int, message: Message) -> None:
        initiation = self._initiations.get(pid)
        if initiation is None:
            raise MessageError("An accept without an open.")
        if pid in self._linked:
            return
        established = initiation.finish(message.body)
        mediator, capability = _find_relay(
            established, resolve(self._manifest.roster[pid].did).services[0].uri
        )
        self._link(pid, self._session_link(established, mediator, capability))

    @staticmethod
    def _session_link(established: Established, mediator: str, capability: bytes) -> dict[str, Any]:
        return {
            "session": established.to_json(),
            "path": {"mediator": mediator, "ws": websocket_of(mediator), "capability": b64url(capability)},
        }

    def _link(self, pid: int, link: Mapping[str, Any]) -> None:
        self._linked.add(pid)
        self._channel.tell({"link": {"pid": pid, **link}})

    def _too_slow(self) -> DidmpcError:
        unsigned = [self._seat.names[pid] for pid in self._agreement.unsigned]
        unlinked = [self._seat.names[pid] for pid in self._peers if pid not in self._linked]
        missing, what = (unsigned, "did not sign") if unsigned else (unlinked, "did not open a session")
        if not missing and self._agreement.words is None:
            missing = [self._seat.names[pid] for pid in self._agreement.unrevealed]
            what = "did not reveal what the words to compare are made of"
        if not missing:
            missing, what = (
                [self._seat.names[pid] for pid in self._peers],
                "could not be reached through the relay",
            )
        return DidmpcError(
            f"{' and '.join(missing)} {what} within {CONNECT_WITHIN:.0f} s.",
            why="Their agent, their mediator or the way to it may be down.",
            fix="Check with:  didmpc ping NAME     then start again.",
        )

    # -- running ------------------------------------------------------------------------------------

    def watch(self) -> "asyncio.Task[None]":
        """Go on in the background until the session has ended; call after `connect`."""
        return asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        ended: Mapping[str, Any] | None = None
        if self._without_session:
            self._spawn(self._keep_alive())
        try:
            while ended is None:
                event = await self._inbox.next()
                if isinstance(event, Arrived):
                    self._take_while_running(event)
                elif event.line is None:
                    break
                elif "ended" in event.line:
                    ended = event.line["ended"]
                else:
                    self._take_line(event.line)
            if ended is not None:
                await self._finish_sending()
            else:
                cause = {"kind": "channel-died", "what": "The channel process was killed or crashed."}
                await self._say_goodbye(cause)
                ended = {"ok": False, "cause": cause, "stats": None}
            self._history.end(
                self._manifest.attempt,
                ok=bool(ended.get("ok")),
                cause=_sentence(ended["cause"]) if ended.get("cause") else None,
                stats=ended.get("stats"),
            )
        finally:
            await self._clean_up(over=ended is not None)

    async def _keep_alive(self) -> None:
        """Where no session has heartbeats: tell that we are here, and end the run when a party is not."""
        self._heard = dict.fromkeys(self._without_session, time.monotonic())
        while True:
            await asyncio.sleep(ALIVE_EVERY)
            with contextlib.suppress(DidmpcError):
                await self._broadcast(messages.ALIVE, {}, patience=ALIVE_EVERY, to=self._without_session)
            for pid, heard in self._heard.items():
                if time.monotonic() - heard > RESUME_LIMIT:
                    what = f"Nothing was heard from it for {RESUME_LIMIT:.0f} s."
                    self._channel.tell(
                        {"abort": {"pid": pid, "cause": {"kind": "unreachable", "what": what}}}
                    )

    async def _finish_sending(self) -> None:
        """The last messages of mode didcomm may still be on their way to the mediators."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=FINISH_WITHIN)

    def _take_while_running(self, event: Arrived) -> None:
        pid = self._manifest.pid_of(event.sender)
        if pid is None or pid == self._seat.pid:
            return
        self._heard[pid] = time.monotonic()
        try:
            if event.message.type == messages.ABORT:
                cause = read_cause(self._seat.names[pid], event.message)
                self._channel.tell({"abort": {"pid": pid, "cause": cause}})
            elif event.message.type == messages.FRAME:
                self._take_frame(pid, event.message)
        except RemoteViolation as error:
            logger.warning("a malformed %s from party %d: %s", event.message.type, pid, error)

    def _take_frame(self, pid: int, message: Message) -> None:
        """Mode didcomm: one message of MPyC came as one envelope."""
        if self._manifest.uses_session(self._seat.pid, pid):
            raise MessageError("A frame from a party that was to use the session extension.")
        data = message.attachments[0].data_base64 if len(message.attachments) == 1 else None
        if data is None:
            raise MessageError("A frame carries one attachment.")
        frame = {
            "pid": pid,
            "n": messages.number(message.body, "n", 0, 1 << 62),
            "start": messages.number(message.body, "start", 0, 1 << 31),
            "data": b64url(data),
        }
        self._channel.tell({"frame": frame})
        self._tell_cost()

    def _take_line(self, line: Mapping[str, Any]) -> None:
        """A line of the running channel that is neither its readiness nor its end."""
        if "frame" in line:
            self._spawn(self._send_frame(line["frame"]), self._sending)
        elif "stopping" in line and line["stopping"].get("pid") is None:
            # Parties with a session hear it through their links.
            self._spawn(self._say_goodbye(line["stopping"], only=self._without_session), self._sending)

    async def _send_frame(self, frame: Mapping[str, Any]) -> None:
        pid = int(frame["pid"])
        message = Message(
            type=messages.FRAME,
            pthid=self._manifest.attempt,
            body={"n": frame["n"], "start": frame["start"]},
            attachments=(Attachment(id="0", data_base64=unb64url(frame["data"])),),
        )
        async with self._frames[pid]:
            try:
                await self._send(pid, message, message.body)
            except DidmpcError as error:
                cause = {
                    "kind": "unreachable",
                    "what": f"{self._seat.names[pid]} could not be reached.",
                    "why": error.what,
                }
                self._channel.tell({"abort": {"pid": None, "cause": cause}})
        self._tell_cost()

    def _tell_cost(self) -> None:
        envelopes, seconds = self._reported_cost
        self._reported_cost = (self._mailbox.envelopes, self._mailbox.crypto_seconds)
        cost = {
            "envelopes": self._mailbox.envelopes - envelopes,
            "seconds": self._mailbox.crypto_seconds - seconds,
        }
        self._channel.tell({"cost": cost})

    # -- ending -------------------------------------------------------------------------------------

    async def give_up(self, cause: Mapping[str, Any]) -> None:
        """End an attempt that did not get to run: tell the others why, and leave nothing behind."""
        try:
            await self._say_goodbye(cause)
        finally:
            await self._clean_up()

    @property
    def _without_session(self) -> list[int]:
        return [pid for pid in self._peers if not self._manifest.uses_session(self._seat.pid, pid)]

    async def _say_goodbye(self, cause: Mapping[str, Any], only: list[int] | None = None) -> None:
        told = {name: messages.sentence(str(cause.get(name) or "")) for name in ("kind", "what", "why")}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_WITHIN):
                await self._broadcast(messages.ABORT, {"cause": told}, patience=GOODBYE_WITHIN, to=only)

    async def _clean_up(self, *, over: bool = False) -> None:
        for task in [*self._tasks, *self._sending, *([self._reader] if self._reader else [])]:
            task.cancel()
        if over:
            self._channel.release()
        else:
            await self._channel.stop()
        await asyncio.to_thread(shutil.rmtree, self._seat.directory, ignore_errors=True)
        if self._relay_channels:
            ids = [channel.id for channel in self._relay_channels.values()]
            request = relay_control.channel_revoke(ids)
            with contextlib.suppress(DidmpcError):
                await self._mailbox.ask_mediator(request.type, request.body)

    # -- sending ------------------------------------------------------------------------------------

    async def _broadcast(
        self,
        kind: str,
        body: Mapping[str, Any],
        *,
        patience: float = CONNECT_WITHIN,
        to: list[int] | None = None,
    ) -> None:
        """Send to these parties, or to all others. Raises what went wrong, except for a last word."""
        message = Message(type=kind, pthid=self._manifest.attempt, body=dict(body))
        results = await asyncio.gather(
            *(
                self._send(pid, message, body, patience=patience)
                for pid in (self._peers if to is None else to)
            ),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException) and (
                kind != messages.ABORT or not isinstance(result, DidmpcError)
            ):
                raise result

    async def _send(
        self, pid: int, message: Message, body: Mapping[str, Any], *, patience: float = CONNECT_WITHIN
    ) -> None:
        peer = self._manifest.roster[pid].did
        addressed = Message(
            type=message.type,
            id=message.id,
            thid=message.thid,
            pthid=message.pthid,
            from_=self._seat.identity.did,
            to=(peer,),
            expires_time=message.expires_time,
            body=dict(body),
            attachments=message.attachments,
        )
        await self._mailbox.send(addressed, self._seat.identity, peer, timeout=patience)

    def _spawn(self, work: Coroutine[Any, Any, None], group: "set[asyncio.Task[None]] | None" = None) -> None:
        tasks = self._tasks if group is None else group
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def read_cause(name: str, message: Message) -> dict[str, str]:
    """The cause of an `abort`, bounded and printable; an abort speaks only of its sender."""
    cause = message.body.get("cause")
    if not isinstance(cause, dict):
        raise MessageError("An abort states its cause.")
    return {
        "party": name,
        "kind": messages.text(cause, "kind", 32),
        "what": messages.text(cause, "what"),
        "why": messages.text(cause, "why", default=""),
    }


def _sentence(cause: Any) -> str:
    if not isinstance(cause, Mapping):
        return "The session ended."
    party, what, why = (str(cause.get(name) or "") for name in ("party", "what", "why"))
    return " ".join(part for part in (f"{party}:" if party else "", what, why) if part)


def websocket_of(mediator: str) -> str:
    """The WebSocket address that a mediator's DID names."""
    for service in resolve(mediator).services:
        if service.uri.startswith(("ws://", "wss://")):
            return service.uri
    raise MessageError("This mediator's DID names no WebSocket address.")


def _relay_capability(mediator: str, capability: bytes) -> dict[str, Any]:
    return {"type": "relay/1.0", "mediator": mediator, "capability": b64url(capability)}


def _find_relay(established: Established, routing: str) -> tuple[str, bytes]:
    """The relay channel that the responder offers, which must be at the mediator that its DID names."""
    for cap in established.peer_hs.get("caps", ()):
        if isinstance(cap, Mapping) and cap.get("type") == "relay/1.0":
            mediator = messages.text(cap, "mediator", 8192)
            if canonical(mediator) != canonical(routing):
                raise MessageError("The relay channel is not at the mediator of the party's DID.")
            return mediator, messages.octets(cap, "capability", 32, exactly=32)
    raise MessageError("The party offers no relay channel.")
