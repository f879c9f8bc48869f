"""The host's side of a lobby: proposes, lets in who knocks, keeps in touch with all, until it can begin.

`protocols.mpc.lobby` decides; this carries it out: mail to the guests, events for the person (see `host`).
"""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

from didmpc.agent.contacts.contacts import Contact, clean_name
from didmpc.agent.contacts.invitations import Issued
from didmpc.agent.mailbox.mailbox import Standing
from didmpc.agent.program.bundle import Bundle
from didmpc.agent.sessions import bundles
from didmpc.agent.sessions.door import Door
from didmpc.agent.sessions.gathering import Stream, Workshop
from didmpc.agent.sessions.inbox import Arrived, Inbox
from didmpc.agent.sessions.parties import LinkPeer
from didmpc.protocols.did import canonical
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError, RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.messages import problem_report
from didmpc.protocols.mpc import lobby as rules
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.drafting import check_joining
from didmpc.protocols.mpc.lobby import Change, Guest, Lobby, Picture, Row, State
from didmpc.protocols.mpc.messages import Join
from didmpc.protocols.mpc.proposal import Proposal

# A proposal is told again to a contact that did not answer, since its agent may have restarted: after so many
# seconds, then after twice as many, at last so rarely that its mailbox does not fill.
REMIND_AFTER = (20.0, 900.0)
WAITING_EVERY = 10.0
TELL_AFTER = 0.2
"""Seconds in which changes come together, before everybody is told."""
CUT_OFF_AFTER = 1.0
"""Seconds without a connection to our own mediator, before the person is told."""
SEND_PATIENCE = 15.0
CANCEL_WITHIN = 4.0

Peer = Contact | LinkPeer


class Reception:
    """One lobby while people gather. `gather` returns who takes part, in the order of the roster."""

    def __init__(
        self,
        workshop: Workshop,
        proposal: Proposal,
        bundle: Bundle,
        lobby: Lobby,
        peers: Mapping[str, Contact],
        inbox: Inbox,
        stream: Stream,
        *,
        auto: bool,
    ) -> None:
        """`peers` are those asked by name, by the canonical form of their DIDs."""
        self._workshop = workshop
        self._proposal = proposal
        self._bundle = bundle
        self._lobby = lobby
        self._peers: dict[str, Peer] = dict(peers)
        self._inbox = inbox
        self._stream = stream
        self._auto = auto
        self._wait = int(proposal.expires - time.time())
        self._door: tuple[Door, Issued] | None = None
        self._unreachable: dict[str, str] = {}
        self._parts: list[Message] | None = None
        self._serving: set[str] = set()  # to whom the program is on its way
        self._sending: set[asyncio.Task[None]] = set()
        self._beat = 0
        self._beats: dict[str, tuple[int, float]] = {}  # the last sign of life to a guest: number, time
        self._beating: set[str] = set()
        self._started = False
        self._pausing = False
        self._disconnected: float | None = None  # since when our own mediator is not connected
        self._cut_off = False  # and the person was told
        self._dirty = True

    def receive(self, door: Door, issued: Issued) -> None:
        """Let in who knocks with this invitation."""
        self._door = door, issued

    # -- the course of it ---------------------------------------------------------------------------

    async def gather(self) -> list[tuple[Peer, Join]]:
        """Until enough people agreed; raises `DidmpcError` when the time is over or somebody declines."""
        remind, pause = 0.0, REMIND_AFTER[0]
        beat = show = 0.0
        while True:
            now = time.monotonic()
            await self._watch_own_mediator(now)
            for change in self._lobby.tick(now) if self._disconnected is None else ():
                await self._announce(change)
            if (self._auto and self._lobby.complete) or (self._started and self._lobby.enough):
                return await self._begin()
            left = self._proposal.expires - time.time()
            if left <= 0:
                if self._auto and self._lobby.enough:
                    return await self._begin()
                raise self._too_late()
            if now >= remind:
                self._propose()
                remind = now + pause if remind else now + REMIND_AFTER[0]
                pause = min(2 * pause, REMIND_AFTER[1])
            if now >= beat or (self._dirty and now >= beat - rules.BEAT_EVERY + TELL_AFTER):
                self._tell_guests()
                await self._show()
                show = 0.0 if self._dirty else show
                beat, self._dirty = now + rules.BEAT_EVERY, False
            if now >= show:
                await self._show_waiting()
                show = now + WAITING_EVERY
            next_look = min(beat - rules.BEAT_EVERY + TELL_AFTER if self._dirty else beat, remind, show)
            ticks = self._lobby.next_tick() if self._disconnected is None else None
            wait = min(next_look, ticks if ticks is not None else next_look) - now
            with contextlib.suppress(TimeoutError):
                event = await self._inbox.next(max(0.0, min(wait, left)))
                if isinstance(event, Arrived):
                    await self._take(event)
                elif event.line is not None and "said" in event.line:
                    await self._hear(event.line["said"])

    async def _watch_own_mediator(self, now: float) -> None:
        """While our mediator cannot be reached we hear nobody, which is nobody's fault but its."""
        mailbox = self._workshop.mailbox
        if mailbox.connected.is_set():
            if self._disconnected is not None:
                self._lobby.deaf_until(now)
            self._disconnected = None
            if self._cut_off:
                self._cut_off = False
                await self._announce_ourselves("reconnected", f"Your mediator {mailbox.host} is back.")
        elif self._disconnected is None:
            self._disconnected = now
        elif not self._cut_off and now - self._disconnected >= CUT_OFF_AFTER:
            self._cut_off = True
            why = f"Your mediator {mailbox.host} cannot be reached. Your agent keeps trying; the others wait."
            await self._announce_ourselves("cut-off", why)

    async def _announce_ourselves(self, state: str, why: str) -> None:
        self._dirty = True
        event = {"event": "party", "name": self._proposal.parties[0], "state": state, "why": why}
        await self._stream.event(
            {**event, "mediator": self._workshop.mailbox.host, "rtt_ms": None, "by": None}
        )

    async def _begin(self) -> list[tuple[Peer, Join]]:
        """Those who are here take part; the others are told that they do not."""
        gone = self._lobby.begin()
        for guest in gone:
            self._farewell(self._peers[guest.did], "They began without you.")
        taking_part = [(self._peers[guest.did], guest.join) for guest in self._lobby.joined if guest.join]
        names = [self._proposal.parties[0], *(join.name for _, join in taking_part)]
        await self._stream.event({"event": "all-joined", "parties": names})
        return taking_part

    async def pause(self) -> None:
        """The agent stops: whoever waits here is told that the host will be back."""
        self._pausing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_WITHIN):
                await asyncio.gather(*(self._tell(guest) for guest in self._lobby.guests if guest.present))

    async def cancel(self, why: str) -> None:
        """It will not come to anything: tell everybody who was asked or came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_WITHIN):
                await asyncio.gather(*(self._cancel(peer, why) for peer in self._peers.values()))

    def stop(self) -> None:
        """End what is still being sent."""
        for task in self._sending:
            task.cancel()

    # -- what the person says -----------------------------------------------------------------------

    async def _hear(self, said: Mapping[str, Any]) -> None:
        if said.get("leave") is True:
            raise DidmpcError("The host has ended it.")
        if said.get("start") is True and self._cut_off:
            await self._notice("Not while your mediator cannot be reached: say it again when it is back.")
        elif said.get("start") is True:
            self._started = self._lobby.enough
            if not self._started:
                await self._notice("Not enough people are here and have agreed.")
        for word in ("admit", "refuse"):
            if word in said:
                await self._decide(word, str(said[word]))

    async def _decide(self, word: str, name: str) -> None:
        guest = self._lobby.called(name)
        if guest is None:
            await self._notice(f"Nobody here is called {name}.")
        elif not guest.by_link:
            await self._notice(f"You asked {guest.name} by name: Ctrl-C ends it for all.")
        elif word == "refuse":
            await self._shut_out(guest)
        else:
            try:
                for change in self._lobby.admit(guest.did, time.monotonic()):
                    await self._announce(change)
            except RemoteViolation as full:
                await self._notice(full.what)
            else:
                self._propose_to_one(guest)

    async def _shut_out(self, guest: Guest) -> None:
        peer = self._peers[guest.did]
        for change in self._lobby.refuse(guest.did):
            await self._announce(change)
        self._farewell(peer, "The host did not let you in.")

    async def _notice(self, text: str) -> None:
        await self._stream.event({"event": "notice", "text": text})

    # -- what the guests say ------------------------------------------------------------------------

    async def _take(self, event: Arrived) -> None:
        message, did = event.message, canonical(event.sender)
        if message.type == messages.KNOCK:
            await self._take_knock(event, did)
            return
        guest = self._lobby.get(did)
        if guest is None:
            return
        try:
            for change in await self._take_from(guest, message):
                await self._announce(change)
        except RemoteViolation as error:
            if guest.by_link:  # whoever has the link must not be able to end it for all
                await self._shut_out(guest)
                return
            raise DidmpcError(f"{guest.name} answered with something unexpected.", why=error.what) from error
        if message.type == messages.DECLINE:
            self._declined(guest, messages.text(message.body, "comment", default=""))

    async def _take_from(self, guest: Guest, message: Message) -> list[Change]:
        did, now = guest.did, time.monotonic()
        if message.type == messages.HERE:
            beat = messages.number(message.body, "beat", 0, 1 << 40)
            sent = self._beats.get(did)
            if sent is not None and sent[0] == beat:
                self._dirty = self._dirty or guest.rtt is None
                self._lobby.timed(did, now - sent[1])
            changes = self._lobby.heard(did, now, ready=messages.flag(message.body, "ready"))
            if messages.flag(message.body, "ready") and guest.join is None:
                self._propose_to_one(guest)  # it agreed before this agent was started: once more
            return changes
        if message.type == messages.JOIN:
            return self._take_join(guest, Join.of(message.body))
        if message.type == messages.LEAVE:
            return self._lobby.leave(did)
        if message.type == messages.DECLINE:
            return self._lobby.decline(did)
        if message.type == messages.BUNDLE_REQUEST and guest.state is not State.KNOCKING:
            self._serve_bundle(did, message)
        return []

    def _take_join(self, guest: Guest, join: Join) -> list[Change]:
        """A guest agreed. Where its place is taken or its versions do not fit, it may come again."""
        joined = {each.name: each.join.role for each in self._lobby.joined if each.join}
        joined.pop(guest.name, None)
        try:
            check_joining(self._proposal, guest.name, join, list(joined.items()))
        except DidmpcError as problem:
            sentences = f"{problem.what} {problem.why}".strip()
            body = {
                "code": "role" if isinstance(problem, LocalMisuse) else "versions",
                "comment": messages.sentence(sentences),
                "fix": messages.sentence(problem.fix),
            }
            answer = Message(type=messages.DECLINE, pthid=self._proposal.attempt, body=body)
            self._background(self._quietly(self._peers[guest.did], answer))
            self._background(self._notice(f"{guest.name} has to try again: {sentences}"))
            return []
        return self._lobby.join(guest.did, join, time.monotonic())

    def _declined(self, guest: Guest, why: str) -> None:
        if guest.by_link or self._lobby.can_be_enough:
            return
        raise DidmpcError(
            f"{guest.name} declined{': ' + why if why else '.'}",
            fix=f"Start again without {guest.name}, or talk to them first.",
        )

    async def _take_knock(self, event: Arrived, did: str) -> None:
        now = time.monotonic()
        if self._door is None or not self._lobby.may_answer_knock(did, now):
            return
        door, issued = self._door
        mine = issued.did
        try:
            name = clean_name(messages.text(event.message.body, "name", 256)) or "somebody"
            if self._lobby.get(did) is None:
                door.check(issued)
            changes = self._lobby.knock(did, name, self._mediator_of(event.sender), now)
        except (RemoteViolation, MessageError) as refusal:
            mailbox = self._workshop.mailbox
            caller = LinkPeer("", mailbox.long_form(event.sender), mine)
            report = problem_report.report_on(event.message, refusal)
            sending = mailbox.send_to_contact(caller, report, timeout=SEND_PATIENCE)
            mailbox.aside(sending, Standing.EXPECTED)
            return
        for change in changes:
            await self._announce(change)
        guest = self._lobby.get(did)
        if guest is None:
            return
        peer = self._peers.get(did)
        if peer is None:
            did_of_guest = self._workshop.mailbox.long_form(event.sender)
            peer = self._peers[did] = LinkPeer(guest.name, did_of_guest, mine)
            self._inbox.know(did_of_guest)
        if guest.state is State.KNOCKING:
            door_message = Message(type=messages.DOOR, pthid=issued.id, thid=event.message.thread)
            self._background(self._quietly(peer, door_message))
        else:
            self._propose_to_one(guest)

    def _mediator_of(self, did: str) -> str:
        """Where a guest takes mail, by its DID: nothing that it could say otherwise."""
        try:
            return self._workshop.mailbox.host_of(did)[:255]
        except DidmpcError:
            return ""

    # -- proposing, and sending the program ---------------------------------------------------------

    def _propose(self) -> None:
        """To those asked by name who did not answer yet."""
        for guest in self._lobby.guests:
            if guest.state is State.ASKED:
                self._background(self._propose_by_name(guest))

    def _proposal_message(self, you: str) -> Message:
        proposal = replace(self._proposal, you=you)
        return Message(type=messages.PROPOSE, body=proposal.body(), expires_time=proposal.expires)

    async def _propose_by_name(self, guest: Guest) -> None:
        try:
            await self._send(self._peers[guest.did], self._proposal_message(guest.name))
        except DidmpcError as error:
            known, self._unreachable[guest.name] = self._unreachable.get(guest.name), error.what
            if known != error.what:
                await self._announce(Change(guest, "unreachable"), error.what)
        else:
            now = self._lobby.get(guest.did)
            if self._unreachable.pop(guest.name, "") is not None and now and now.state is State.ASKED:
                await self._announce(Change(guest, "asked"))

    def _propose_to_one(self, guest: Guest) -> None:
        self._background(self._quietly(self._peers[guest.did], self._proposal_message(guest.name)))

    def _serve_bundle(self, did: str, message: Message) -> None:
        """Send the program, once at a time to each guest however often it asks."""
        ours = message.body.get("sha256") == self._bundle.sha256
        if ours and did not in self._serving:
            self._serving.add(did)
            self._background(self._send_bundle(did))

    async def _send_bundle(self, did: str) -> None:
        try:
            if self._parts is None:
                self._parts = await asyncio.to_thread(bundles.parts, self._bundle, self._proposal.attempt)
            for part in self._parts:
                await self._send(self._peers[did], part)
        except DidmpcError:
            return  # the guest asks again
        finally:
            self._serving.discard(did)

    # -- telling ------------------------------------------------------------------------------------

    def _rows(self) -> tuple[Row, ...]:
        host = "pausing" if self._pausing else "cut-off" if self._cut_off else "here"
        rows = [Row(self._proposal.parties[0], host, self._workshop.mailbox.host)]
        for guest in self._lobby.guests:
            rtt = None if guest.rtt is None else round(guest.rtt * 1000, 1)
            rows.append(Row(guest.name, guest.state.value, guest.mediator, rtt, guest.away))
        return tuple(rows)

    def _tell_guests(self) -> None:
        """A sign of life with the whole picture; whoever has been away for long is not written to."""
        self._beat += 1
        now = time.monotonic()
        for guest in self._lobby.guests:
            if guest.present and now - guest.heard < rules.KEPT and guest.did not in self._beating:
                self._background(self._tell(guest))

    async def _tell(self, guest: Guest) -> None:
        self._beating.add(guest.did)
        try:
            rows = tuple(row for row in self._rows() if row.state != State.KNOCKING)
            picture = Picture(rows, self._beat, guest.name, self._pausing)
            self._beats[guest.did] = (self._beat, time.monotonic())
            message = Message(type=messages.GATHERING, pthid=self._proposal.attempt, body=picture.body())
            await self._quietly(self._peers[guest.did], message)
        finally:
            self._beating.discard(guest.did)

    async def _show(self) -> None:
        """The whole picture for the person."""
        ways = [None, *("link" if guest.by_link else "contact" for guest in self._lobby.guests)]
        await self._stream.event(
            {
                "event": "gathering",
                "parties": [
                    {**row.json(), "by": way, "you": number == 0}
                    for number, (row, way) in enumerate(zip(self._rows(), ways, strict=True))
                ],
                "free": self._lobby.free,
                "m": self._proposal.m,
                "least": self._proposal.least or self._proposal.m,
                "ready": self._lobby.enough,
                "complete": self._lobby.complete,
                "seconds_left": self._seconds_left,
            }
        )

    @property
    def _seconds_left(self) -> int:
        return max(0, int(self._proposal.expires - time.time()))

    @property
    def _missing(self) -> list[str]:
        """Whom everything waits for."""
        names = [
            guest.name
            for guest in self._lobby.guests
            if guest.state in (State.ASKED, State.DECIDING) or (guest.away and guest.present)
        ]
        free = self._lobby.free
        return [*names, f"{free} more by the link"] if free > 0 else names

    async def _show_waiting(self) -> None:
        missing = ["your own mediator"] if self._cut_off else self._missing or ["you"]
        event = {"event": "waiting", "for": missing, "seconds_left": self._seconds_left}
        await self._stream.event(event)

    async def _announce(self, change: Change, why: str = "") -> None:
        self._dirty = True
        guest = change.guest
        if guest.by_link and change.what in ("left", "refused", "declined", "replaced"):
            self._peers.pop(guest.did, None)
        await self._stream.event(
            {
                "event": "party",
                "name": guest.name,
                "state": change.what,
                "why": why,
                "mediator": guest.mediator,
                "rtt_ms": None if guest.rtt is None else round(guest.rtt * 1000, 1),
                "by": "link" if guest.by_link else "contact",
            }
        )

    def _too_late(self) -> DidmpcError:
        missing = " and ".join(self._missing)
        if self._proposal.lobby:
            return DidmpcError(
                f"The invitation has expired before all were here: {missing} missing.",
                why="Nobody can come by its link any more, and those who waited are told.",
                fix="Make a new one with the same command; --expires 7d keeps it open longer.",
            )
        reasons = [why for name, why in self._unreachable.items() if name in self._missing]
        if self._cut_off:
            reasons = [f"Your own mediator {self._workshop.mailbox.host} cannot be reached."]
        return DidmpcError(
            f"{missing} did not join within {self._wait} s.",
            why=reasons[0] if reasons else "The proposal reached their mediator, but nobody answered it.",
            fix="Ask them to type:  didmpc join     and start again.",
        )

    # -- sending ------------------------------------------------------------------------------------

    async def send(self, peer: Peer, message: Message) -> None:
        """Send to somebody who takes part; raises `DidmpcError`."""
        await self._send(peer, message)

    async def _send(self, peer: Peer, message: Message) -> None:
        await self._workshop.mailbox.send_to_contact(peer, message, timeout=SEND_PATIENCE)

    async def _quietly(self, peer: Peer, message: Message) -> None:
        with contextlib.suppress(DidmpcError):
            await self._send(peer, message)

    def _farewell(self, peer: Peer, why: str) -> None:
        """Tell one guest that it is over for it; that goes on when people no longer gather."""
        self._workshop.mailbox.aside(self._cancel(peer, why), Standing.CONTACT)

    async def _cancel(self, peer: Peer, why: str) -> None:
        body = {"comment": messages.sentence(why)}
        await self._quietly(peer, Message(type=messages.CANCEL, pthid=self._proposal.attempt, body=body))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
