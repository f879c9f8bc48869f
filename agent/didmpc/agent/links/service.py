"""Links between contacts: what programs ask for, and what contacts send.

    link-open    {contact, protocol, wire, limits, timeout}
        makes a link: the events of program_link.py, then {}
    link-listen  {protocol}
        {"event": "listening"}: from now on an `open` for it waits for `link-accept`
    link-accept  {protocol, limits}
        waits for an `open`, and answers it: the events of program_link.py, then {}

Closing the connection ends what was asked for. A link whose program goes away without a word is lost: its
peer is told so, in one problem report.
"""

import asyncio
import contextlib
import logging
import shlex
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from didmpc.agent.contacts.contacts import Contact, Contacts
from didmpc.agent.control.server import Stream
from didmpc.agent.links import unknown
from didmpc.agent.links.discovery import Discovery
from didmpc.agent.links.program_link import ProgramLink, packet_event
from didmpc.agent.links.unknown import Graveyard
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.mailbox.packet_post import PacketPost
from didmpc.agent.sessions import relay_offers
from didmpc.agent.wallet.wallet import Wallet
from didmpc.protocols.did import canonical, did_of, resolve, same_party
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError, RemoteViolation, SessionError
from didmpc.protocols.message import Message
from didmpc.protocols.messages import problem_report, relay_control
from didmpc.protocols.session import handshake
from didmpc.protocols.session.contact_handshakes import (
    LONGEST_PROTOCOL,
    OPEN_SECONDS,
    Again,
    Answer,
    ContactHandshakes,
    Decline,
    Incoming,
    KnownLink,
    Pair,
    Wish,
)
from didmpc.protocols.session.handshake import WIRE_BINARY, WIRE_JSON, Established, Party

MOST_LINKS = 256
MOST_LISTENERS = 64
OPEN_AGAIN = 10.0
BUSY_PAUSE = 1.0
LONGEST_TIMEOUT = 3600.0
TELL_WITHIN = 5.0
RENEW_WITHIN = 60.0
_WIRES = {"auto": (WIRE_BINARY, WIRE_JSON), "binary": (WIRE_BINARY,), "json": (WIRE_JSON,)}
_MAILBOX: Mapping[str, Any] = {"mailbox": True}

log = logging.getLogger(__name__)


class Refused(RemoteViolation):
    """The contact's agent does not take the session. `code` begins with e.p.session.refused."""


@dataclass(eq=False)
class _Seeker:
    """A program that wants a link."""

    wish: Wish
    linked: asyncio.Future[ProgramLink]
    limits: Mapping[str, int]
    declined: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ContactLinks:
    """The links of all programs of this agent. Wired to its mailbox when it is made."""

    def __init__(self, *, wallet: Wallet, mailbox: Mailbox, contacts: Contacts) -> None:
        self._wallet = wallet
        self._mailbox = mailbox
        self._contacts = contacts
        self._handshakes = ContactHandshakes()
        self._discovery = Discovery(mailbox)
        self._graveyard = Graveyard(mailbox.forget_packets)
        self._links: dict[KnownLink, ProgramLink] = {}
        self._seekers: dict[Wish, _Seeker] = {}
        self._listeners: Counter[str] = Counter()
        self._places = 0  # links that there are, or are being made
        self._news = asyncio.Condition()
        self._aside: set[asyncio.Task[None]] = set()
        self._closing = False
        mailbox.on(f"{handshake.PROTOCOL}/", self._on_message)
        mailbox.on(problem_report.PROBLEM_REPORT, self._on_report)

    async def close(self) -> None:
        """The agent stops. Links through a relay go on without it, so their peers are told nothing."""
        self._closing = True
        self._discovery.close()
        for task in self._aside:
            task.cancel()
        await asyncio.gather(*self._aside, return_exceptions=True)

    def takes_sessions(self, unpacked: Unpacked) -> bool:
        """Whether an `open` of the sender would be answered, so that it may know of us."""
        contact, pair = self._contact_of(unpacked)
        return contact is not None and (bool(self._listeners) or self._handshakes.wishes(pair))

    # --- what programs ask for

    async def open(self, params: Mapping[str, Any], program: Stream) -> dict[str, Any]:
        """Make a link with a contact, and serve it."""
        contact = self._contacts.find(str(params.get("contact", "")))
        protocol, limits = _protocol(params), _limits(params)
        wires = _WIRES.get(str(params.get("wire", "auto")))
        if wires is None:
            raise LocalMisuse("A session has the wire form auto, binary or json.")
        timeout = params.get("timeout", 30.0)
        if not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST_TIMEOUT:
            raise LocalMisuse(f"The time-out of a session is between 0 and {LONGEST_TIMEOUT:.0f} s.")
        with self._place():
            pair = canonical(contact.my_did), canonical(contact.did)
            seeker = _Seeker(
                self._handshakes.wish(pair, protocol), asyncio.get_running_loop().create_future(), limits
            )
            self._seekers[seeker.wish] = seeker
            link = None
            try:
                async with asyncio.timeout(timeout):
                    link = await self._seek(seeker, contact, wires)
            except TimeoutError:
                raise Refused(
                    f"{contact.name} did not answer within {timeout:g} s.",
                    why="That agent may be offline, or its program does not take sessions just now.",
                    fix=f"See whether the agent is there: didmpc ping {shlex.quote(contact.name)}",
                    code="e.p.session.refused.silent",
                ) from None
            finally:
                self._handshakes.unwish(seeker.wish)
                del self._seekers[seeker.wish]
                if link is None and seeker.linked.done() and seeker.linked.exception() is None:
                    await self._over(seeker.linked.result())  # it came about just too late
            return await self._serve(link, program)

    async def listen(self, params: Mapping[str, Any], program: Stream) -> dict[str, Any]:
        """Have `open`s for a protocol wait here, for as long as the program listens."""
        protocol = _protocol(params)
        if len(self._listeners) >= MOST_LISTENERS:
            raise LocalMisuse(f"Programs listen for {MOST_LISTENERS} protocols already, which is the limit.")
        self._listeners[protocol] += 1
        try:
            await program.event({"event": "listening"})
            await asyncio.get_running_loop().create_future()
        finally:
            self._listeners -= Counter([protocol])
            if not self._listeners[protocol]:
                for incoming in self._handshakes.stop_listening(protocol):
                    self._decline_aside(incoming.pair, incoming.open_id, "policy")
        return {}

    async def accept(self, params: Mapping[str, Any], program: Stream) -> dict[str, Any]:
        """Wait for an `open` for a protocol, answer it, and serve the link."""
        protocol, limits = _protocol(params), _limits(params)
        with self._place():
            while True:
                incoming = await self._next(protocol)
                contact = self._contacts.by_did(incoming.pair[1])
                if contact is None or canonical(contact.my_did) != incoming.pair[0]:
                    continue  # no contact any more, or under another DID
                try:
                    link = await self._answer(incoming, contact, limits)
                except DidmpcError as error:
                    log.info("a session with %s did not come about: %s", contact.name, error)
                    continue
                return await self._serve(link, program)

    async def _next(self, protocol: str) -> Incoming:
        async with self._news:
            while True:
                incoming = self._handshakes.next_waiting(protocol, time.time())
                if incoming is not None:
                    return incoming
                with contextlib.suppress(TimeoutError):  # a half-open session may have become stale
                    async with asyncio.timeout(1.0):
                        await self._news.wait()

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._places >= MOST_LINKS:
            raise LocalMisuse(f"Programs have {MOST_LINKS} sessions here already, which is the limit.")
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    # --- a link from its beginning to its end

    async def _seek(self, seeker: _Seeker, contact: Contact, wires: tuple[str, ...]) -> ProgramLink:
        """Ask whether the contact takes sessions, send an `open`, again and again; or take what it opens."""
        waiting = self._handshakes.waiting_for(seeker.wish)
        if waiting is not None:
            self._handshakes.unwish(seeker.wish)
            return await self._answer(waiting, contact, seeker.limits)
        disclosed = await _unless(seeker.linked, self._discovery.takes_sessions(contact))
        if isinstance(disclosed, ProgramLink):
            return disclosed
        if not disclosed:
            raise Refused(
                f"{contact.name} takes no sessions now.",
                why="No program there listens for any, or that agent does not know sessions.",
                fix=f"Have {contact.name} start the program that takes them.",
                code="e.p.session.refused.unavailable",
            )
        while True:
            if self._handshakes.wished(seeker.wish):  # else an `open` of the contact is being answered
                seeker.declined = asyncio.get_running_loop().create_future()
                message = await self._send_open(seeker, contact, wires)
            while True:
                either: set[asyncio.Future[Any]] = {seeker.linked, seeker.declined}
                done, _ = await asyncio.wait(either, timeout=OPEN_AGAIN, return_when=asyncio.FIRST_COMPLETED)
                if seeker.linked.done():
                    return seeker.linked.result()
                if done:
                    break
                if self._handshakes.wished(seeker.wish):
                    await self._mailbox.send_to_contact(contact, message)
            code = seeker.declined.result()
            if code != "busy":
                raise Refused(
                    f"{contact.name} declined the session.",
                    why=_WHY.get(code, ""),
                    fix=_FIX.get(code, "").format(name=contact.name),
                    code=f"e.p.session.refused.{code}",
                )
            await asyncio.wait({seeker.linked}, timeout=BUSY_PAUSE)  # perhaps it opens one itself
            if seeker.linked.done():
                return seeker.linked.result()

    async def _send_open(self, seeker: _Seeker, contact: Contact, wires: tuple[str, ...]) -> Message:
        message = Message(type=handshake.OPEN, body={}, expires_time=int(time.time()) + OPEN_SECONDS)
        me, peer = self._parties(contact)
        body = self._handshakes.open(
            seeker.wish, me, peer, message.id, wires=wires, limits=seeker.limits, now=time.time()
        )
        message.body.update(body)
        await self._mailbox.send_to_contact(contact, message)
        return message

    async def _answer(self, incoming: Incoming, contact: Contact, limits: Mapping[str, int]) -> ProgramLink:
        """Accept an `open` for a new link. Where that fails it was declined, and the error is raised."""
        channel = await self._relay_channel(incoming)
        wire = WIRE_JSON if channel is None else WIRE_BINARY
        mediator = self._mailbox.mediator_did
        me, peer = self._parties(contact)
        try:
            body, known, established = self._handshakes.answer(
                incoming,
                me,
                peer,
                wire=wire,
                caps=() if channel is None else (relay_offers.offer(mediator, channel.far),),
                limits=limits,
                now=time.time(),
            )
        except DidmpcError as error:
            code = handshake.decline_body(error)["code"] if isinstance(error, SessionError) else "policy"
            self._decline_aside(incoming.pair, incoming.open_id, code)
            raise
        path = _MAILBOX if channel is None else relay_offers.path(self._mailbox, mediator, channel.near)
        link = await self._new_link(known, contact, incoming.open_id, established, path, channel)
        try:
            await self._send_accept(contact, incoming.open_id, body)
        except BaseException:
            await self._over(link)
            raise
        return link

    async def _relay_channel(self, incoming: Incoming) -> relay_control.Channel | None:
        """A channel at our mediator where the initiator would have the binary form, and there is one."""
        wires = incoming.request.wires
        if WIRE_BINARY not in wires or not self._mailbox.supports(relay_control.PROTOCOL):
            return None
        if WIRE_JSON in wires and wires.index(WIRE_JSON) < wires.index(WIRE_BINARY):
            return None
        try:
            return (await relay_offers.create(self._mailbox, 1))[0]
        except DidmpcError as error:
            log.warning("no relay channel for a session: %s", error)
            return None

    async def _new_link(
        self,
        known: KnownLink,
        contact: Contact,
        open_id: str,
        established: Established,
        path: Mapping[str, Any],
        channel: relay_control.Channel | None,
    ) -> ProgramLink:
        post = PacketPost(self._mailbox, contact.did)
        link = self._links[known] = ProgramLink(self, known, contact, post, path=path, channel=channel)
        await link.tell(link.established(open_id, established))
        return link

    async def _serve(self, link: ProgramLink, program: Stream) -> dict[str, Any]:
        try:
            return await link.serve(program)
        finally:
            await asyncio.shield(asyncio.ensure_future(self._over(link)))

    async def _over(self, link: ProgramLink) -> None:
        """Forget a link. Its sessions are remembered, for a peer who does not know that yet."""
        if self._links.pop(link.known, None) is None:
            return
        self._handshakes.forget(link.known)
        if not link.confirmed and not link.known.initiator:
            self._handshakes.unconfirmed(link.known.pair, link.sessions[0][0])
        if self._closing:
            return
        for ended in link.ends():
            self._graveyard.bury(ended)
            self._mailbox.expect_packets(ended.sid, self._teller(ended.sid))
        if link.channel is not None:
            self._spawn(relay_offers.revoke(self._mailbox, [link.channel]))
        if not link.ended and link.confirmed:
            self._tell_unknown(link.sessions[-1][1])

    def _teller(self, sid: bytes) -> Callable[[bytes], None]:
        return lambda packet: self._tell_unknown(sid)

    # --- Office

    def expect_packets(self, sid: bytes, link: ProgramLink) -> None:
        def take(packet: bytes) -> None:
            if link.has_room():
                self._spawn(link.tell(packet_event(packet)))

        self._mailbox.expect_packets(sid, take)

    def confirmed(self, link: ProgramLink, open_id: str) -> None:
        self._handshakes.confirmed(link.known.pair, open_id)
        self._spawn(self._notify())

    def ask_for_renewal(self, link: ProgramLink) -> None:
        self._spawn(self._renew(link))

    async def _renew(self, link: ProgramLink) -> None:
        message = Message(type=handshake.OPEN, body={}, expires_time=int(time.time()) + OPEN_SECONDS)
        me, peer = self._parties(link.contact)
        message.body.update(self._handshakes.renew(link.known, me, peer, message.id, time.time()))
        await self._mailbox.send_to_contact(link.contact, message, timeout=RENEW_WITHIN)

    # --- what contacts send

    async def _on_message(self, unpacked: Unpacked) -> None:
        message = unpacked.message
        if message.pthid:
            return  # of a computation: see didmpc.agent.sessions
        if not unpacked.authenticated:
            raise MessageError("A handshake must be authenticated.", code="e.p.trust.crypto")
        contact, pair = self._contact_of(unpacked)
        if contact is None:
            log.info("a %.60s from nobody we know was dropped", message.type.rpartition("/")[2])
        elif message.type == handshake.OPEN:
            await self._on_open(contact, pair, unpacked)
        elif message.type == handshake.ACCEPT:
            await self._on_accept(contact, pair, message)
        elif message.type == handshake.DECLINE:
            code = self._handshakes.take_decline(pair, message.thread, message.body)
            for seeker in self._seekers.values():
                if code is not None and seeker.wish.open_id == message.thread and not seeker.declined.done():
                    seeker.declined.set_result(code)

    async def _on_open(self, contact: Contact, pair: Pair, unpacked: Unpacked) -> None:
        message = unpacked.message
        verdict, incoming = self._handshakes.take_open(
            pair,
            message.id,
            message.body,
            expires=message.expires_time,
            now=time.time(),
            listens=lambda protocol: self._listeners[protocol] > 0,
        )
        match verdict:
            case Again():
                await self._send_accept(contact, message.id, verdict.body)
            case Decline():
                self._decline_aside(pair, message.id, verdict.code)
            case Answer.WAITS:
                await self._notify()
            case Answer.CROSSED if incoming is not None and incoming.wish is not None:
                await self._crossed(contact, incoming, self._seekers[incoming.wish])
            case Answer.CONTINUES if incoming is not None:
                await self._continued(contact, incoming)

    async def _crossed(self, contact: Contact, incoming: Incoming, seeker: _Seeker) -> None:
        """Our own `open` was given up: whoever wanted it gets the link that the contact opens."""
        try:
            link = await self._answer(incoming, contact, seeker.limits)
        except DidmpcError:
            if not seeker.declined.done():
                seeker.declined.set_result("policy")
            raise
        if seeker.linked.done() or seeker.wish not in self._seekers:
            await self._over(link)
        else:
            seeker.linked.set_result(link)

    async def _continued(self, contact: Contact, incoming: Incoming) -> None:
        link = None if incoming.link is None else self._links.get(incoming.link)
        if link is None:
            self._decline_aside(incoming.pair, incoming.open_id, "roster")
            return
        me, peer = self._parties(contact)
        try:
            body, _, established = self._handshakes.answer(
                incoming, me, peer, wire=link.known.wire, limits={}, now=time.time()
            )
        except SessionError as error:
            self._decline_aside(incoming.pair, incoming.open_id, handshake.decline_body(error)["code"])
            return
        self._spawn(link.tell(link.established(incoming.open_id, established)))
        await self._send_accept(contact, incoming.open_id, body)

    async def _on_accept(self, contact: Contact, pair: Pair, message: Message) -> None:
        completed = self._handshakes.take_accept(pair, message.thread, message.body)
        if completed is None:
            return
        known, established = completed
        link = self._links.get(known)
        if link is not None:
            self._spawn(link.tell(link.established(message.thread, established)))
            return
        seeker = next((each for each in self._seekers.values() if each.wish.open_id == message.thread), None)
        if seeker is None or seeker.linked.done():
            self._handshakes.forget(known)
            return
        try:
            path = self._path_of(contact, established)
        except DidmpcError as error:
            self._handshakes.forget(known)
            seeker.linked.set_exception(error)
            return
        link = await self._new_link(known, contact, message.thread, established, path, None)
        seeker.linked.set_result(link)

    def _path_of(self, contact: Contact, established: Established) -> Mapping[str, Any]:
        """What the responder offers."""
        if established.wire != WIRE_BINARY:
            return _MAILBOX
        routing = [service.uri for service in resolve(contact.did).services]
        return relay_offers.path(self._mailbox, *relay_offers.find(established, "".join(routing[:1])))

    async def _on_report(self, unpacked: Unpacked) -> None:
        """Somebody says that a session is not known there: the link asks its peer."""
        reported = unknown.reported(unpacked.message)
        if reported is None or unpacked.sender is None:
            return
        for link in self._links.values():
            if link.speaks_in(*reported) and same_party(unpacked.sender, link.contact.did):
                self._spawn(link.tell({"event": "probe"}))

    # --- what contacts are sent

    async def _send_accept(self, contact: Contact, open_id: str, body: Mapping[str, Any]) -> None:
        accept = Message(type=handshake.ACCEPT, thid=open_id, body=dict(body))
        await self._mailbox.send_to_contact(contact, accept)

    def _decline_aside(self, pair: Pair, open_id: str, code: str) -> None:
        contact = self._contacts.by_did(pair[1])
        if contact is not None:
            decline = Message(type=handshake.DECLINE, thid=open_id, body={"code": code})
            self._spawn(self._mailbox.send_to_contact(contact, decline, timeout=TELL_WITHIN))

    def _tell_unknown(self, sid: bytes) -> None:
        ended = self._graveyard.due(sid, time.monotonic())
        contact = None if ended is None else self._contacts.by_did(ended.contact)
        if ended is not None and contact is not None:
            self._spawn(self._mailbox.send_to_contact(contact, unknown.report(ended), timeout=TELL_WITHIN))

    # --- within

    def _contact_of(self, unpacked: Unpacked) -> tuple[Contact | None, Pair]:
        """The contact that sent this, to the DID that we use towards it alone."""
        contact = self._contacts.by_did(unpacked.sender or "")
        if contact is None or unpacked.recipient_kid is None:
            return None, ("", "")
        mine = canonical(did_of(unpacked.recipient_kid))
        if mine != canonical(contact.my_did):
            return None, ("", "")
        return contact, (mine, canonical(contact.did))

    def _parties(self, contact: Contact) -> tuple[Party, Party]:
        return Party.of(self._wallet.identity(contact.my_did)), Party.of(resolve(contact.did))

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that may fail, aside."""

        async def aside() -> None:
            try:
                await work
            except DidmpcError as problem:
                log.info("something about a session did not arrive: %s", problem)

        if self._closing:
            work.close()
            return
        task = asyncio.create_task(aside())
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)


_WHY = {
    "policy": "No program there takes sessions of this protocol, or it does not want this one.",
    "suite": "The two agents have no suite or wire form in common.",
    "roster": "That agent expects another link.",
}
_FIX = {
    "policy": "Have {name} start the program that takes them.",
    "suite": "Try the other wire form, or install the newest didmpc at both.",
}


async def _unless(
    linked: "asyncio.Future[ProgramLink]", work: Coroutine[Any, Any, bool]
) -> "bool | ProgramLink":
    """What the work gives, or the link that came about first."""
    task = asyncio.create_task(work)
    try:
        either: set[asyncio.Future[Any]] = {linked, task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return linked.result() if linked.done() else task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _protocol(params: Mapping[str, Any]) -> str:
    protocol = params.get("protocol")
    if not isinstance(protocol, str) or ":" not in protocol or not 2 < len(protocol) <= LONGEST_PROTOCOL:
        raise LocalMisuse(
            "A session needs the URI of the protocol that runs in it.",
            why=f"It was given {str(protocol)[:80]!r}.",
            fix="Name one that you own, such as https://example.org/my-protocol/1.0",
        )
    return protocol


def _limits(params: Mapping[str, Any]) -> dict[str, int]:
    limits = params.get("limits", {})
    if not isinstance(limits, dict) or not all(
        isinstance(name, str) and type(limit) is int and 0 < limit < 1 << 53 for name, limit in limits.items()
    ):
        raise LocalMisuse("The limits of a session are whole numbers.")
    return limits
