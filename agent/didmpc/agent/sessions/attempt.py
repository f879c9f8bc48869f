"""From a manifest to the end of a run: agree and connect, then watch over the channel process.

Host and guests do the same here. All messages are between the session DIDs of the roster.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from didmpc.agent.contacts.contacts import Contacts
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.sandbox import disk
from didmpc.agent.sessions.causes import AGAIN, EndedEarly, in_words, read_cause
from didmpc.agent.sessions.channel_process import ChannelProcess
from didmpc.agent.sessions.comparison import Comparison
from didmpc.agent.sessions.disagreement import NAMED_WITHIN, Disagreement
from didmpc.agent.sessions.frames import Frames
from didmpc.agent.sessions.history import History
from didmpc.agent.sessions.inbox import Arrived, Inbox
from didmpc.agent.sessions.links import Links
from didmpc.agent.sessions.packets import Packets
from didmpc.agent.sessions.post import Post
from didmpc.agent.sessions.receipts import ReceiptBook, Receipts
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.errors import DidmpcError, RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.agreement import Agreement
from didmpc.protocols.mpc.receipt import OUTPUT, RECEIPT
from didmpc.protocols.session import handshake

logger = logging.getLogger(__name__)

# Signatures, handshakes and links of all parties together, in seconds: many round trips on a slow path.
CONNECT_WITHIN = 60.0
EACH_LINK = 0.5  # more for each link: 25 parties have 300 of them
FINISH_WITHIN = 15.0
RECEIPTS = (OUTPUT, RECEIPT)

Report = Callable[[Mapping[str, Any]], Awaitable[None]]


class Attempt:
    """One party's part of one attempt, from the manifest to the end."""

    def __init__(
        self,
        seat: Seat,
        mailbox: Mailbox,
        contacts: Contacts,
        channel: ChannelProcess,
        inbox: Inbox,
        history: History,
        book: ReceiptBook,
    ) -> None:
        self._seat = seat
        self._channel = channel
        self._inbox = inbox
        self._history = history
        self._comparison = Comparison(history, contacts)
        self._post = Post(seat, mailbox)
        self._receipts = Receipts(seat, self._post, book)
        self._packets = Packets(seat, mailbox, channel)
        self._links = Links(seat, mailbox, contacts, self._post, channel, self._packets)
        self._frames = Frames(seat, mailbox, self._post, channel)
        self._agreement = Agreement(seat.manifest, seat.pid, seat.identity)
        self._disagreement = Disagreement(seat, self._post)
        self._early_opens: dict[int, Message] = {}
        self._opened = False
        self._stopping: Mapping[str, Any] | None = None
        self._words_told = False
        self._background: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()

    # -- connecting ---------------------------------------------------------------------------------

    async def connect(self, report: Report) -> None:
        """Agree, shake hands and bring up all links; raises `DidmpcError` that names who failed.

        The caller ends the attempt with `give_up` when this raises.
        """
        await asyncio.to_thread(self._seat.bundle.write_to, self._seat.directory / "bundle")
        self._channel.tell({"session": self._seat.session_line()})
        self._spawn(self._read_channel(), self._background)
        await asyncio.gather(
            self._post.broadcast(messages.SIGNATURE, self._agreement.signature()),
            self._links.create_relay_channels(),
        )
        deadline = time.monotonic() + self._patience
        await self._open_when_signed(report)
        ready = False
        while not ready or self._agreement.words is None:
            try:
                event = await self._inbox.next(deadline - time.monotonic())
            except TimeoutError:
                raise (self._disagreement.unnamed() if self._disagreement else self._too_slow()) from None
            if isinstance(event, Arrived):
                await self._take(event, report)
                if self._disagreement:
                    deadline = min(deadline, time.monotonic() + NAMED_WITHIN)
            elif event.line is None:
                raise DidmpcError(
                    "The channel process of this session ended.", why="See channel.log.", fix="Try again."
                )
            elif "links_ready" in event.line:
                ready = True
            elif "ended" in event.line:
                raise EndedEarly(event.line["ended"].get("cause"), self._stopping)
            else:
                self._take_line(event.line)

    async def _read_channel(self) -> None:
        while (line := await self._channel.next()) is not None:
            self._inbox.put_line(line)
        self._inbox.put_line(None)

    async def _take(self, event: Arrived, report: Report) -> None:
        pid = self._seat.peer_of(event.sender)
        if pid is None:
            logger.info("ignored a %s from a stranger to this attempt", event.message.type)
            return
        try:
            await self._take_from(pid, event.message, report)
        except RemoteViolation as error:
            raise DidmpcError(
                f"{self._seat.names[pid]} does not follow the protocol: {error.what}",
                why=error.why,
                fix=error.fix,
            ) from error

    async def _take_from(self, pid: int, message: Message, report: Report) -> None:
        if message.type == messages.MANIFEST:
            await self._disagreement.take(pid, message.body)
        elif message.type == messages.SIGNATURE:
            if await self._disagreement.found(pid, message.body):
                return
            self._agreement.take_signature(pid, message.body)
            await self._open_when_signed(report)
        elif message.type == messages.REVEAL:
            self._agreement.take_reveal(pid, message.body)
        elif message.type == handshake.OPEN:
            if self._opened:
                await self._links.take_open(pid, message)
            else:
                self._early_opens[pid] = message
        elif message.type == handshake.ACCEPT:
            self._links.take_accept(pid, message)
        elif message.type == handshake.DECLINE:
            code = messages.text(message.body, "code", 32)
            raise DidmpcError(f"{self._seat.names[pid]} declined the session ({code}).", fix="Try again.")
        elif message.type == messages.ABORT:
            if pid in self._disagreement:
                return  # it signs for another manifest; what differs is being told
            raise DidmpcError(in_words(read_cause(self._seat, pid, message)), fix=AGAIN)
        elif message.type == messages.FRAME:
            self._frames.take(pid, message)
        elif message.type in RECEIPTS:
            self._receipts.take(pid, message)
        words = self._agreement.words
        record = self._agreement.record
        if words and record and not self._words_told:
            self._words_told = True
            self._receipts.agreed(record)
            seat = self._seat
            self._comparison.keep(
                seat.manifest.attempt,
                words,
                me=seat.pid,
                names=seat.names,
                without_session=seat.without_session,
            )
            await report({"event": "words", "words": list(words)})

    async def _open_when_signed(self, report: Report) -> None:
        """Once all have signed: reveal, and shake hands."""
        if self._opened or not self._agreement.signed:
            return
        self._opened = True
        await report({"event": "agreed"})
        self._links.link_without_session()
        early, self._early_opens = self._early_opens, {}
        await asyncio.gather(
            self._post.broadcast(messages.REVEAL, self._agreement.reveal()),
            *(self._links.open(pid) for pid in self._links.to_open()),
            *(self._links.take_open(pid, message) for pid, message in early.items()),
        )

    @property
    def _patience(self) -> float:
        m = self._seat.manifest.m
        return CONNECT_WITHIN + EACH_LINK * m * (m - 1) / 2

    def _too_slow(self) -> DidmpcError:
        agreement = self._agreement
        if agreement.unsigned:
            missing, what = agreement.unsigned, "did not sign"
        elif self._links.missing:
            missing, what = self._links.missing, "did not open a session"
        elif agreement.words is None:
            missing, what = agreement.unrevealed, "did not reveal what the words to compare are made of"
        else:
            missing, what = self._seat.peers, "could not be reached through the relay"
        return DidmpcError(
            f"{' and '.join(self._seat.names[pid] for pid in missing)} {what} within {self._patience:.0f} s.",
            why="Their agent, their mediator or the way to it may be down.",
            fix="Check with:  didmpc ping NAME     then start again.",
        )

    # -- running ------------------------------------------------------------------------------------

    def watch(self) -> "asyncio.Task[None]":
        """Go on in the background until the session has ended; call after `connect`."""
        return asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        ended: Mapping[str, Any] | None = None
        self._spawn(self._frames.keep_alive(), self._background)
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
                await self._post.goodbye(cause)
                await self._channel.stop()  # what it left behind: its socket
                ended = {"ok": False, "cause": cause, "stats": None}
            self._history.end(
                self._seat.manifest.attempt,
                ok=bool(ended.get("ok")),
                cause=in_words(ended["cause"]) if ended.get("cause") else None,
                stats=ended.get("stats"),
            )
        finally:
            await self._clean_up(over=ended is not None)
        try:
            if ended.get("ok") and "output" in ended:
                await self._receipts.come_about(ended["output"], self._inbox)
        finally:
            await self._receipts.finish()

    def _take_while_running(self, event: Arrived) -> None:
        pid, message = self._seat.peer_of(event.sender), event.message
        if pid is None:
            return
        self._frames.heard(pid)
        try:
            if message.type == messages.ABORT:
                cause = read_cause(self._seat, pid, message)
                self._channel.tell({"abort": {"pid": pid, "cause": cause}})
            elif message.type == messages.FRAME:
                self._frames.take(pid, message)
            elif message.type == handshake.OPEN:
                self._spawn(self._renew(pid, message), self._sending)
            elif message.type == handshake.ACCEPT:
                self._links.take_accept(pid, message)
            elif message.type in RECEIPTS:
                self._receipts.take(pid, message)
        except RemoteViolation as error:
            logger.warning("a malformed %s from party %d: %s", message.type, pid, error)

    def _take_line(self, line: Mapping[str, Any]) -> None:
        """A line of the running channel that is neither its readiness nor its end."""
        if "frame" in line:
            self._spawn(self._frames.send(line["frame"]), self._sending)
        elif "packet" in line:
            self._spawn(self._packets.send(line["packet"]), self._sending)
        elif "renew" in line:
            self._spawn(self._renew(int(line["renew"]["pid"])), self._sending)
        elif "contacts" in line:
            self._recognise(line["contacts"])
        elif "sign" in line:
            self._channel.tell({"signature": {"signature": self._seat.sign_abort(line["sign"])}})
        elif "untold" in line and self._stopping is not None:
            untold = [pid for pid in self._seat.peers if pid in line["untold"]["pids"]]
            self._spawn(self._post.goodbye(self._stopping, to=untold), self._sending)
        elif "stopping" in line and line["stopping"].get("pid") is None:
            # Parties with a session hear it through their links.
            self._stopping = line["stopping"]
            self._spawn(self._post.goodbye(line["stopping"], to=self._seat.without_session), self._sending)

    async def _renew(self, pid: int, opened: Message | None = None) -> None:
        """Make a new session for a link, or answer the peer that does; a failure leaves the present one."""
        try:
            if opened is None:
                await self._links.open(pid)
            else:
                await self._links.take_open(pid, opened)
        except DidmpcError as error:
            logger.warning("no new session with party %d: %s", pid, error)

    def _recognise(self, line: Mapping[str, Any]) -> None:
        """A party has sent contact proofs: say so where it has proven to be a contact."""
        pid = int(line["pid"])
        contact = self._links.recognise(pid, [unb64url(proof) for proof in line["proofs"]])
        if contact is not None:
            self._comparison.proven(self._seat.manifest.attempt, pid, contact)
            self._channel.tell({"recognised": {"pid": pid, "name": contact.name}})

    async def _finish_sending(self) -> None:
        """The last messages of mode didcomm may still be on their way to the mediators."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=FINISH_WITHIN)

    # -- ending -------------------------------------------------------------------------------------

    async def give_up(self, cause: Mapping[str, Any]) -> None:
        """End an attempt that did not get to run: tell the others why, and leave nothing behind."""
        try:
            await self._post.goodbye(cause)
        finally:
            await self._clean_up()
            await self._receipts.finish()

    async def _clean_up(self, *, over: bool = False) -> None:
        for task in (*self._background, *self._sending):
            task.cancel()
        if over:
            self._channel.release()
        else:
            await self._channel.stop()
        self._packets.forget()
        await asyncio.to_thread(disk.remove, self._seat.directory)
        await self._links.revoke_relay_channels()

    @staticmethod
    def _spawn(work: Coroutine[Any, Any, None], group: "set[asyncio.Task[None]]") -> None:
        task = asyncio.create_task(work)
        group.add(task)
        task.add_done_callback(group.discard)
