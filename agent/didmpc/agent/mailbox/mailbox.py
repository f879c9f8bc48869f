"""The agent's account at its mediator, and the mail that goes out.

On every connection: ask for mediation (which is idempotent), put the key list right, switch live delivery
on, then fetch what waited. Envelopes that arrive go through `Inbox` to the handler of their type.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp

from didmpc.agent.mailbox.connection import MAX_FRAME, Connection
from didmpc.agent.mailbox.inbox import Inbox
from didmpc.agent.mailbox.meter import Meter
from didmpc.agent.mailbox.transport import Transport, host_of, words_for
from didmpc.agent.wallet.wallet import Wallet
from didmpc.protocols import binding_proof, from_prior
from didmpc.protocols import (
    did as dids,
)
from didmpc.protocols.did import DIDDocument, Service, canonical, did_of
from didmpc.protocols.envelope import Unpacked, pack_authcrypt, unpack
from didmpc.protocols.errors import DidError, DidmpcError, MessageError, RemoteViolation
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message, decode_json
from didmpc.protocols.messages import discover_features, mediation, pickup, problem_report, trust_ping
from didmpc.protocols.messages.mediation import Action, Update
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.messages.routing import route
from didmpc.protocols.mpc import messages as mpc
from didmpc.protocols.namespace import NAMESPACE
from didmpc.protocols.session import packet_json
from didmpc.protocols.session.packet import MAX_PACKET_BYTES

HEARTBEAT = 20.0  # seconds between WebSocket pings; no pong within half of it ends the connection
BACK_OFF = (0.2, 10.0)
CONNECT_WITHIN = 10.0
ASK_WITHIN = 15.0
# Seconds between two looks for mail that was not pushed, each with a ping: so many at first, then twice as
# many while nothing comes or goes. The WebSocket's own pings keep NATs open and tell when the way is gone.
LOOK_EVERY = (30.0, 240.0)
FETCH_PATIENCE = 2.0  # for what was fetched to be handled, before more is asked for
FETCH = 10  # messages per delivery-request: even of the largest size they fit into one frame
KEYLIST_PAGE = 200
KEYLIST_BATCH = 128  # updates in one message: with DIDs and proofs it stays far below what mediators take
REMEMBERED_DIDS = 1024
ASIDE = 16  # answers under way at once; those to others than contacts leave half of the places free
ASIDE_WITHIN = 5.0
ASIDE_AT_END = 1.0
# What a running session brings: much at once, from DIDs that are no contacts, and none of it may be lost.
BURSTS = (mpc.PREFIX, f"{NAMESPACE}/session/")

log = logging.getLogger(__name__)

Handler = Callable[[Unpacked], Awaitable[None]]
OnRotation = Callable[[str, str], Awaitable[None]]


def pause_after(pause: float, *, idle: bool) -> float:
    """Seconds until mail is looked for again; `idle`: nothing came or went in the last so many."""
    return min(2 * pause, LOOK_EVERY[1]) if idle else LOOK_EVERY[0]


class NotAdmitted(DidmpcError):
    """The mediator gives this agent no account."""


class Standing(Enum):
    """What the sender of a message is to us."""

    CONTACT = auto()
    EXPECTED = auto()  # an invitation between us is being accepted just now
    STRANGER = auto()


class Correspondent(Protocol):
    """What it takes to write to a contact."""

    @property
    def did(self) -> str: ...
    @property
    def my_did(self) -> str: ...
    @property
    def from_prior(self) -> str | None: ...


class Mailbox:
    """Start it with `start`, end it with `close`."""

    def __init__(
        self,
        wallet: Wallet,
        mediator_did: str,
        http: aiohttp.ClientSession,
        *,
        invitation: str | None = None,
    ) -> None:
        """`invitation` is the id of the one by which the mediator was named: it may open the account."""
        self._wallet = wallet
        self._invitation = invitation
        self._http = http
        self._handlers: list[tuple[str, Handler]] = []
        self._observers: list[Handler] = []
        self._on_rotation: list[OnRotation] = []
        self._long_forms: OrderedDict[str, str] = OrderedDict()
        self._features: frozenset[str] = frozenset()
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._was_up = False
        self._pushes = True
        self._problem: DidmpcError | None = None
        self._meter = Meter()
        self._packets: dict[bytes, Callable[[bytes], None]] = {}
        self._inbox = Inbox(self._open, self._handle, self._acknowledge, self._may_burst, self._take_packet)
        self._asides: set[asyncio.Task[None]] = set()
        self.standing: Callable[[Unpacked], Standing] = lambda unpacked: Standing.STRANGER
        self.mediator: DIDDocument = dids.resolve(mediator_did)
        self.mediator_did = self.mediator.did
        self.routing_did = ""
        self.websocket_uri = self._endpoint("ws", "wss")
        self.host = host_of(self.http_uri or self.websocket_uri)
        self._transport = Transport(near=self.websocket_uri)
        self.connected = asyncio.Event()
        self._not_admitted = asyncio.Event()
        self.rtt: float | None = None

    # --- the account

    @property
    def http_uri(self) -> str:
        """The mediator's address for a browser; empty where it has none."""
        return next(
            (s.uri for s in self.mediator.services if urlsplit(s.uri).scheme in ("http", "https")), ""
        )

    @property
    def allows_private(self) -> bool:
        """Whether what a peer names may be at a private address."""
        return self._transport.allows_private

    @staticmethod
    def host_named(mediator_did: str) -> str:
        """The host of a mediator, for people."""
        services = dids.resolve(mediator_did).services
        return host_of(services[0].uri) if services else mediator_did[:32]

    def host_of(self, did: str) -> str:
        """The host of the mediator through which a DID takes mail, for people. Raises `DidError`."""
        services = self.resolve(did).services
        if services and services[0].uri.startswith("did:"):
            services = self.resolve(services[0].uri).services
        return host_of(services[0].uri) if services else ""

    def _endpoint(self, *schemes: str) -> str:
        for service in self.mediator.services:
            if urlsplit(service.uri).scheme in schemes:
                return service.uri
        raise DidmpcError(
            "This mediator offers no WebSocket.",
            why="Without one it cannot deliver messages as they come.",
            fix="Name another one: didmpc agent start --mediator INVITATION",
        )

    async def start(self, timeout: float) -> bool:
        """Connect, and stay connected from now on; returns whether it was so within `timeout`.

        A mediator that gives this agent no account is not waited for.
        """
        await self._ensure_account()
        self._keeper = asyncio.create_task(self._keep_connected(), name="mailbox")
        outcomes = [asyncio.create_task(event.wait()) for event in (self.connected, self._not_admitted)]
        try:
            await asyncio.wait(outcomes, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for outcome in outcomes:
                outcome.cancel()
        return self.connected.is_set()

    async def close(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._inbox.flush()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._inbox.close()
        if self._asides:
            await asyncio.wait(self._asides, timeout=ASIDE_AT_END)
        for task in self._asides:
            task.cancel()
        await asyncio.gather(*self._asides, return_exceptions=True)
        await self._transport.close()

    @property
    def envelopes(self) -> int:
        """How many messages to and from other agents were packed or opened so far."""
        return self._meter.envelopes

    @property
    def crypto_seconds(self) -> float:
        """What that took, the layers towards the mediator included."""
        return self._meter.seconds

    def supports(self, protocol: str) -> bool:
        """Whether the mediator disclosed this protocol (its URI with the version)."""
        return protocol in self._features

    async def new_identity(self, *, keep: bool) -> Identity:
        """A fresh DID of ours, reachable through the mediator; kept in the wallet, or in memory only."""
        await self._wait_connected(ASK_WITHIN)
        identity = Identity.peer4((Service(self.routing_did),))
        # First into memory: else a reconnection in between would take it for a leftover.
        self._wallet.add(identity, keep=keep)
        try:
            await self._update_keylist([(identity.did, "add")])
            if keep:
                await self._wallet.save()
        except BaseException:
            self._wallet.remove(identity.did)
            raise
        return identity

    async def drop_identity(self, did: str) -> None:
        """Unregister a DID of ours and forget its keys; what still comes for it is refused."""
        kept = self._wallet.is_kept(did)
        self._wallet.remove(did)
        if kept:
            await self._wallet.save()
        if self.connected.is_set():
            # Otherwise the next connection puts the key list right.
            with contextlib.suppress(DidmpcError):
                await self._update_keylist([(did, "remove")])

    async def ask_mediator(
        self, message_type: str, body: dict[str, Any], *, timeout: float = ASK_WITHIN
    ) -> Message:
        """A request under our account; a broken connection is waited out within the time."""
        return await self._ask(Message(type=message_type, body=body), timeout)

    async def _ask(self, message: Message, timeout: float) -> Message:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while True:
            await self._wait_connected(deadline - clock())
            connection = self._connection
            if connection is None:
                continue
            try:
                return await connection.ask(message, max(0.0, deadline - clock()))
            except TimeoutError:
                raise DidmpcError(
                    f"The mediator {self.host} did not answer in time.",
                    why=f"It was asked for {message.type.rpartition('/')[2]}.",
                    fix="Try again; if it stays so: didmpc doctor",
                ) from None
            except (ConnectionError, aiohttp.ClientError):
                if self._connection is connection:
                    self._disconnected()

    async def _wait_connected(self, timeout: float) -> None:
        if self.connected.is_set():
            return
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await self.connected.wait()
        except TimeoutError:
            raise self.unreachable() from None

    def unreachable(self) -> DidmpcError:
        """Why there is no connection, for a person."""
        problem = self._problem
        if isinstance(problem, NotAdmitted):
            return problem
        return DidmpcError(
            f"The mediator {self.host} cannot be reached.",
            why=" ".join(filter(None, (problem.what, problem.why))) if problem else "It does not answer.",
            fix="Check the network and that the mediator runs (didmpc doctor tells more).",
        )

    async def _ensure_account(self) -> None:
        """The DID under which the mediator knows us: without a service, used towards it alone."""
        accounts = self._wallet.settings.accounts
        did = accounts.get(canonical(self.mediator_did))
        if did is None or self._wallet.identities.identity(did) is None:
            account = Identity.peer4()
            self._wallet.add(account, keep=True)
            accounts[canonical(self.mediator_did)] = account.did
            await self._wallet.save()

    @property
    def _account(self) -> Identity:
        return self._wallet.identity(self._wallet.settings.accounts[canonical(self.mediator_did)])

    # --- the connection

    async def _keep_connected(self) -> None:
        pause = BACK_OFF[0]
        while True:
            self._was_up = False
            try:
                await self._connect_once()
            except DidmpcError as problem:
                self._problem = problem
                if isinstance(problem, NotAdmitted):
                    self._not_admitted.set()
            except (aiohttp.ClientError, OSError, TimeoutError) as problem:
                self._problem = DidmpcError(f"It says: {words_for(problem)}.")
            except Exception as problem:  # whatever a mediator does, we try again
                log.exception("the connection to the mediator failed")
                self._problem = DidmpcError(f"An error of our own: {type(problem).__name__}.")
            else:
                self._problem = DidmpcError("The connection ended.")
            if self._was_up:
                pause = BACK_OFF[0]
            self._disconnected()
            log.warning("not connected to the mediator %s: %s", self.host, self._problem)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  (jitter, no secret)
            pause = min(pause * 2, BACK_OFF[1])

    def _disconnected(self) -> None:
        self._connection = None
        self.connected.clear()
        self.rtt = None

    async def _connect_once(self) -> None:
        """One connection from its beginning to its end."""
        async with asyncio.timeout(CONNECT_WITHIN):
            socket = await self._http.ws_connect(
                self.websocket_uri, heartbeat=HEARTBEAT, compress=0, max_msg_size=MAX_FRAME
            )
        async with socket:
            self._transport.near(socket.get_extra_info("peername"))
            connection = Connection(
                socket,
                self._account,
                self.mediator,
                meter=self._meter,
                on_push=self._pushed,
                on_other=self._pushed_envelope,
            )
            reader = asyncio.create_task(connection.read(), name="mailbox reader")
            user = asyncio.create_task(self._set_up_and_watch(connection), name="mailbox user")
            try:
                await asyncio.wait({reader, user}, return_when=asyncio.FIRST_COMPLETED)
                # What the reader ended with explains what befell the user, so it goes first.
                for task in (reader, user):
                    if task.done():
                        task.result()
            finally:
                for task in (reader, user):
                    task.cancel()
                await asyncio.gather(reader, user, return_exceptions=True)

    async def _set_up_and_watch(self, connection: Connection) -> None:
        async with asyncio.timeout(CONNECT_WITHIN):
            await self._set_up(connection)
        self._connection = connection
        self._was_up = True
        self.connected.set()
        log.info("connected to the mediator %s", self.host)
        pause, envelopes = LOOK_EVERY[0], -1
        while True:
            await self._fetch(connection)
            idle = self._pushes and self._meter.envelopes == envelopes
            pause, envelopes = pause_after(pause, idle=idle), self._meter.envelopes
            await asyncio.sleep(pause)
            await self._measure(connection)

    async def _set_up(self, connection: Connection) -> None:
        request = mediation.mediate_request(pthid=self._invitation)
        grant = await connection.ask(request, CONNECT_WITHIN)
        if grant.type == mediation.MEDIATE_DENY:
            raise self._denied()
        routing_did = mediation.parse_mediate_grant(grant)
        dids.resolve(routing_did)  # others must be able to, or nobody can write to us
        self.routing_did = routing_did
        registered, _, _ = await asyncio.gather(
            self._registered(connection), self._discover(connection), self._measure(connection)
        )
        await self._reconcile(connection, registered)
        status = await connection.ask(pickup.live_delivery_change(True), CONNECT_WITHIN)
        self._pushes = status.body.get("live_delivery") is not False

    def _denied(self) -> NotAdmitted:
        return NotAdmitted(
            f"The mediator {self.host} gives this agent no account.",
            why="Its host lets in who was invited or is on a list, or has excluded this agent.",
            fix="Ask its host for an invitation (didmpc agent start --mediator INVITATION), or to allow"
            f" {canonical(self._account.did)}",
        )

    async def _measure(self, connection: Connection) -> None:
        """The round trip to the mediator. One that answers no pings is as good as gone."""
        started = time.monotonic()
        await connection.ask(trust_ping.ping(self._account.did, self.mediator_did), CONNECT_WITHIN)
        self.rtt = time.monotonic() - started

    async def _discover(self, connection: Connection) -> None:
        question = discover_features.queries([discover_features.Query("protocol")])
        answer = await connection.ask(question, CONNECT_WITHIN)
        self._features = frozenset(feature.id for feature in discover_features.parse_disclose(answer))

    async def _reconcile(self, connection: Connection, listed: Sequence[str]) -> None:
        """Make the key list what the wallet says: a killed agent leaves the DIDs of its sessions there."""
        registered = {canonical(did): did for did in listed}
        ours = {
            canonical(identity.did): identity.did
            for identity in self._wallet.identities
            if identity.document.services  # an account has none: nobody but its mediator writes to it
        }
        changes: list[tuple[str, Action]] = [
            *((ours[did], "add") for did in ours.keys() - registered.keys()),
            *((registered[did], "remove") for did in registered.keys() - ours.keys()),
        ]
        if changes:
            log.info("putting the key list right: %d changes", len(changes))
        for batch in _batches(changes, KEYLIST_BATCH):
            update = mediation.keylist_update(self._claims(batch))
            answer = await connection.ask(update, CONNECT_WITHIN)
            for outcome in mediation.parse_keylist_update_response(answer):
                if outcome.result not in ("success", "no_change"):
                    log.warning("the mediator did not %s one of our DIDs", outcome.action)

    async def _registered(self, connection: Connection) -> list[str]:
        found: list[str] = []
        while True:
            page = mediation.Page(limit=KEYLIST_PAGE, offset=len(found))
            answer = await connection.ask(mediation.keylist_query(page), CONNECT_WITHIN)
            keylist = mediation.parse_keylist(answer)
            found.extend(keylist.recipient_dids)
            if not keylist.remaining or not keylist.recipient_dids:
                return found

    async def _update_keylist(self, changes: Sequence[tuple[str, Action]]) -> None:
        answer = await self._ask(mediation.keylist_update(self._claims(changes)), ASK_WITHIN)
        for outcome in mediation.parse_keylist_update_response(answer):
            if outcome.result not in ("success", "no_change"):
                raise DidmpcError(
                    f"The mediator {self.host} does not take in mail for a new DID of ours.",
                    why=f"It answered {outcome.result}.",
                    fix="Restart the agent; if it stays so, ask whoever runs the mediator.",
                )

    def _claims(self, changes: Sequence[tuple[str, Action]]) -> list[Update]:
        """The changes, with a proof of each new DID that it is ours, for a mediator that looks at them."""
        prove = self.supports(binding_proof.PROTOCOL)
        return [
            Update(did, action, self._proof(did) if prove and action == "add" else None)
            for did, action in changes
        ]

    def _proof(self, did: str) -> str:
        identity = self._wallet.identity(did)
        return binding_proof.create(identity, self._account.did, self.routing_did, time.time())

    # --- what arrives

    def on(self, type_prefix: str, handler: Handler) -> None:
        """Hand messages whose type starts so to `handler`: of all that fit, those of the longest prefix."""
        self._handlers.append((type_prefix, handler))

    def observe(self, observer: Handler) -> None:
        """See every message before its handler does."""
        self._observers.append(observer)

    def on_rotation(self, handler: OnRotation) -> None:
        """Be told of a peer's proven new DID: old, new (long form)."""
        self._on_rotation.append(handler)

    async def _fetch(self, connection: Connection) -> None:
        """Everything that waited. Live delivery is on already, so nothing falls in between."""
        await self._inbox.flush()
        before: set[str] = set()
        while True:
            answer = await connection.ask(pickup.delivery_request(FETCH), CONNECT_WITHIN * 3)
            names = {attachment.id for attachment in answer.attachments}
            if answer.type != pickup.DELIVERY or names <= before:
                return  # nothing more; or a mediator that does not delete what we acknowledge
            before = names
            self._pushed(answer)
            await self._inbox.idle(FETCH_PATIENCE)

    def _pushed(self, message: Message) -> None:
        if message.type != pickup.DELIVERY:
            return  # a status nobody waits for
        try:
            delivery = pickup.parse_delivery(message)
        except MessageError as problem:
            log.warning("a delivery of the mediator is malformed: %s", problem)
            return
        for name, envelope in delivery.messages:
            self._inbox.take(name, envelope)

    def _pushed_envelope(self, envelope: bytes) -> None:
        self._inbox.take(None, envelope)

    async def _acknowledge(self, names: list[str]) -> None:
        connection = self._connection
        if connection is None:
            raise ConnectionResetError
        try:
            await connection.tell(pickup.messages_received(names))
        except aiohttp.ClientError as problem:
            raise ConnectionResetError from problem

    def _open(self, envelope: bytes) -> Unpacked:
        with self._meter:
            unpacked = unpack(envelope, self._wallet.identities, self.resolve)
        self._meter.envelopes += 1
        if unpacked.sender is not None:
            self.remember(unpacked.sender)
        return unpacked

    def expect_packets(self, sid: bytes, take: Callable[[bytes], None]) -> None:
        """Hand on packets in the JSON form that name this session. Nothing about them is proven yet."""
        self._packets[sid] = take

    def forget_packets(self, sid: bytes) -> None:
        self._packets.pop(sid, None)

    def _take_packet(self, envelope: bytes) -> bool:
        """Whether it is a packet of a session, known or not: those are no messages."""
        if not self._packets or len(envelope) > MAX_PACKET_BYTES:
            return False
        try:
            value = decode_json(envelope, MAX_PACKET_BYTES)
        except MessageError:
            return False
        sid = packet_json.sid_of(value) if isinstance(value, dict) else None
        if sid is None:
            return False
        take = self._packets.get(sid)
        if take is not None:
            take(envelope)
        return True

    async def _handle(self, unpacked: Unpacked) -> None:
        try:
            await self._dispatch(unpacked)
        except RemoteViolation as violation:
            log.warning("a message of the type %.120s was refused: %s", unpacked.message.type, violation)
            # Never about a report, or two agents would never end.
            if not unpacked.message.type.startswith(problem_report.PROTOCOL):
                self.answer(unpacked, problem_report.report_on(unpacked.message, violation))

    def _may_burst(self, unpacked: Unpacked) -> bool:
        return unpacked.message.type.startswith(BURSTS) or self.standing(unpacked) is Standing.CONTACT

    async def _dispatch(self, unpacked: Unpacked) -> None:
        message = unpacked.message
        if message.from_prior is not None and unpacked.sender is not None:
            old = from_prior.verify(message.from_prior, unpacked.sender, self.resolve)
            for changed in self._on_rotation:
                await changed(old, self.long_form(unpacked.sender))
        for observer in self._observers:
            await observer(unpacked)
        matching = [
            (prefix, handler) for prefix, handler in self._handlers if message.type.startswith(prefix)
        ]
        if not matching:
            raise MessageError("This agent does not know messages of this type.", code="e.p.msg.unsupported")
        longest = max(len(prefix) for prefix, _ in matching)
        for prefix, handler in matching:
            if len(prefix) == longest:
                await handler(unpacked)

    # --- what goes out

    def answer(self, unpacked: Unpacked, answer: Message) -> None:
        """A courtesy to someone we know, on the side.

        A stranger gets none: where it would go to is wholly the stranger's choice.
        """
        standing = self.standing(unpacked)
        if standing is Standing.STRANGER or unpacked.sender is None or unpacked.recipient_kid is None:
            return
        own = self._wallet.identities.identity(did_of(unpacked.recipient_kid))
        if own is not None:
            self.aside(self.send(answer, own, unpacked.sender, timeout=ASIDE_WITHIN), standing)

    def aside(self, sending: Coroutine[Any, Any, None], to: Standing) -> None:
        """Send what may get lost while other mail goes on; with too much under way it is dropped."""
        if len(self._asides) >= (ASIDE if to is Standing.CONTACT else ASIDE // 2):
            sending.close()
            log.warning("too many answers are under way: one was dropped")
            return
        task = asyncio.create_task(_aside(sending))
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def send(self, message: Message, sender: Identity, to: str, *, timeout: float = 60.0) -> None:
        """Encrypt a message to a DID and hand it to where that takes mail. Raises `DidmpcError`."""
        recipient = self.resolve(to)
        addressed = replace(message, from_=sender.did, to=(recipient.did,))
        with self._meter:
            outbound = route(pack_authcrypt(addressed, sender, recipient), recipient, self.resolve)
        self._meter.envelopes += 1
        await self._transport.post(outbound.uri, outbound.envelope, timeout=timeout)

    async def send_packet(self, packet: bytes, to: str, *, expires: int, timeout: float) -> None:
        """Hand a packet in the JSON form to where a DID takes mail. Raises `DidmpcError`."""
        with self._meter:
            outbound = route(packet, self.resolve(to), self.resolve, expires_time=expires)
        await self._transport.post(outbound.uri, outbound.envelope, timeout=timeout)

    async def send_to_contact(
        self, contact: Correspondent, message: Message, *, timeout: float = 60.0
    ) -> None:
        """Write to a contact from the DID that it knows, or is to learn (`from_prior`)."""
        mine = self._wallet.identity(contact.my_did)
        await self.send(replace(message, from_prior=contact.from_prior), mine, contact.did, timeout=timeout)

    async def invitation(self, pasted: str) -> Invitation:
        """The invitation in what a person pasted; a short link is fetched. Raises `DidmpcError`."""
        return await self._transport.invitation(pasted)

    def resolve(self, did: str) -> DIDDocument:
        """The document of a DID; short forms of DIDs that were seen before too."""
        return dids.resolve(did, self._known)

    def long_form(self, did: str) -> str:
        """A did:peer:4 with its document in it; any other DID as it is."""
        did = did_of(did)
        return self._known(did) or did

    def remember(self, did: str) -> None:
        """Keep the long form of a DID, so that its short form can be resolved later."""
        did = did_of(did)
        short = canonical(did)
        if short == did:
            return
        self._long_forms[short] = did
        self._long_forms.move_to_end(short)
        if len(self._long_forms) > REMEMBERED_DIDS:
            self._long_forms.popitem(last=False)

    def _known(self, short: str) -> str | None:
        return (
            self._wallet.identities.known(short) or self._long_forms.get(short) or self._known_contact(short)
        )

    def _known_contact(self, short: str) -> str | None:
        for contact in self._wallet.contacts:
            did = str(contact["did"])
            if canonical(did) == short:
                return did
        return None


async def _aside(sending: Coroutine[Any, Any, None]) -> None:
    try:
        await sending
    except DidmpcError as problem:
        log.info("an answer did not arrive: %s", problem)
    except Exception:
        log.exception("sending an answer failed")


def check_mediator(did: str) -> DIDDocument:
    """A DID that someone named as a mediator. Raises `DidmpcError` when it cannot be one."""
    try:
        return dids.resolve(did)
    except DidError as problem:
        raise DidmpcError(
            "This is not the DID of a mediator.",
            why=str(problem),
            fix="Copy what `didmpc mediator did` or `didmpc mediator invite` prints.",
        ) from problem


def _batches(changes: Sequence[tuple[str, Action]], size: int) -> Iterable[Sequence[tuple[str, Action]]]:
    for start in range(0, len(changes), size):
        yield changes[start : start + size]
