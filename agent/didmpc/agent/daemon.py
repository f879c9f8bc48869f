"""The agent: everything that runs in one home, put together in one place.

control socket -> methods below -> contacts, invitations, sessions ... -> mailbox -> mediator
"""

import asyncio
import contextlib
import fcntl
import getpass
import logging
import logging.handlers
import math
import os
import platform
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from didmpc.agent.channel.witness import close_to_others
from didmpc.agent.contacts.contact_exchange import ANSWER_WITHIN, ContactExchange
from didmpc.agent.contacts.contacts import Contacts, clean_name
from didmpc.agent.contacts.invitations import EXPIRES, GOAL_CODE, Invitations
from didmpc.agent.contacts.ping import Pinger
from didmpc.agent.control.server import ControlServer, Handler, Stream
from didmpc.agent.doctor import Doctor
from didmpc.agent.embedded import EmbeddedMediator
from didmpc.agent.links import ContactLinks
from didmpc.agent.mailbox.courtesies import Courtesies
from didmpc.agent.mailbox.mailbox import Mailbox, NotAdmitted, check_mediator
from didmpc.agent.mailbox.transport import Transport
from didmpc.agent.sessions import Sessions
from didmpc.agent.sessions.visit import check as check_link
from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.keystore import KEY_FILE_WARNING
from didmpc.agent.wallet.wallet import Wallet, leftovers
from didmpc.local import unix_socket
from didmpc.local.private_files import PRIVATE_FILE
from didmpc.protocols import did as dids
from didmpc.protocols.did import same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.messages import out_of_band
from didmpc.protocols.mpc.lobby import GOAL_CODE as LOBBY
from didmpc.protocols.one_line import OneLine

FIRST_CONNECTION = 8.0  # seconds for a mediator that was named, or that we never reached
KNOWN_MEDIATOR = 3.0  # for one that may be down for a while: then we start without it
LOCK_WITHIN = 2.0  # for an agent that is just stopping
PRUNE_EVERY = 3600.0
LOG_SIZE = 4 * 1024 * 1024
LOGS = 3

EMBEDDED_NOTICE = (
    "This agent runs a mediator of its own, which only agents on this machine can reach. To work with"
    " others, name a public one: didmpc agent start --mediator INVITATION"
)

log = logging.getLogger(__name__)

Facts = dict[str, Any]
OnReady = Callable[[Facts], None]
OnNotice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How an agent is started. What is None is taken from the home, or from the platform."""

    home: Path | None = None
    label: str | None = None
    mediator: str | None = None  # a DID, or an invitation as URL or text
    passphrase: str | None = field(default=None, repr=False)
    link: str | None = None  # to a lobby: whose mediator serves an agent that has none


def run(options: StartOptions, *, on_ready: OnReady, on_notice: OnNotice) -> signal.Signals | None:
    """Be an agent until told to stop; returns the signal that ended it, None for `didmpc agent stop`."""
    close_to_others()
    try:
        import uvloop  # noqa: PLC0415  (not on every platform)
    except ImportError:
        return asyncio.run(serve(options, on_ready=on_ready, on_notice=on_notice))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(options, on_ready=on_ready, on_notice=on_notice))


async def serve(options: StartOptions, *, on_ready: OnReady, on_notice: OnNotice) -> signal.Signals | None:
    """Start, say that it is ready, serve until told to stop, stop orderly."""
    started = time.monotonic()
    os.umask(0o077)
    home = Home.locate(options.home)
    home.prepare()
    async with _locked(home):
        with _logging(home):
            return await _serve_locked(home, options, on_ready, on_notice, started)


async def _serve_locked(
    home: Home, options: StartOptions, on_ready: OnReady, on_notice: OnNotice, started: float
) -> signal.Signals | None:
    leftovers(home)
    wallet = await asyncio.to_thread(Wallet.open, home, options.passphrase)
    if wallet.only_key_file:
        on_notice(KEY_FILE_WARNING)
    async with contextlib.AsyncExitStack() as stack:
        agent = await _assemble(stack, home, wallet, options, on_notice)
        stopping = _Stopping()
        control = ControlServer(home.socket, agent.methods(stopping))
        await control.start()
        stack.push_async_callback(agent.sessions.close)
        stack.push_async_callback(agent.links.close)
        cleaner = asyncio.create_task(agent.housekeeping(), name="housekeeping")
        stack.callback(cleaner.cancel)
        try:
            with stopping.on_signals():
                on_ready({**agent.facts(), "connect_seconds": round(time.monotonic() - started, 3)})
                log.info("ready in %.2f s", time.monotonic() - started)
                await stopping.requested.wait()
        finally:
            # Those who asked for the stop are answered when everything else has ended.
            await stack.aclose()
            stopping.done.set()
            await control.close()
    log.info("stopped")
    return stopping.signal


async def _assemble(
    stack: contextlib.AsyncExitStack, home: Home, wallet: Wallet, options: StartOptions, on_notice: OnNotice
) -> "Agent":
    """All parts, in the order in which they need each other; `stack` ends them in reverse."""
    wallet.forget_orphans()
    if options.label is not None:
        wallet.settings.label = clean_name(options.label)
    if not wallet.settings.label:
        wallet.settings.label = _default_label()
    choice = await _choose_mediator(stack, home, wallet, options)
    http = await stack.enter_async_context(_http())
    mailbox = Mailbox(wallet, choice.did, http, invitation=choice.invitation)
    contacts = Contacts(wallet)
    invitations = Invitations(wallet, mailbox)
    exchange = ContactExchange(wallet, mailbox, contacts, invitations)
    links = ContactLinks(wallet=wallet, mailbox=mailbox, contacts=contacts)
    Courtesies(mailbox, takes_sessions=links.takes_sessions)
    sessions = Sessions(
        wallet=wallet, mailbox=mailbox, contacts=contacts, invitations=invitations, home=home.root
    )
    await sessions.start()
    stack.push_async_callback(mailbox.close)
    if not await _connect(mailbox, wallet, choice, on_notice):
        invitations.reload()
        exchange.reload()
    return Agent(
        home=home,
        wallet=wallet,
        mailbox=mailbox,
        contacts=contacts,
        invitations=invitations,
        exchange=exchange,
        pinger=Pinger(mailbox),
        sessions=sessions,
        links=links,
        doctor=Doctor(home, wallet, mailbox, http),
        embedded=choice.embedded,
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """The mediator of this run."""

    did: str
    embedded: bool
    named: bool  # by whoever started the agent, just now
    invitation: str | None = None  # the id of the invitation that named it


async def _choose_mediator(
    stack: contextlib.AsyncExitStack, home: Home, wallet: Wallet, options: StartOptions
) -> _Choice:
    """The mediator that was named, else the one used last, else that of a link, else one of our own."""
    settings, named = wallet.settings, options.mediator
    if named is None and not settings.mediator and options.link is not None:
        named = await _mediator_of_link(options.link)
    did, invitation = (None, None) if named is None else _named_mediator(named)
    embedded = settings.embedded or not settings.mediator
    if did is not None and not same_party(did, settings.mediator or "did:none:none"):
        _check_movable(wallet)
        return _Choice(did, embedded=False, named=True, invitation=invitation)
    if not embedded:
        return _Choice(settings.mediator, embedded=False, named=named is not None, invitation=invitation)
    mediator = EmbeddedMediator(home)
    ready = await mediator.start(first_time=not settings.mediator)
    stack.push_async_callback(mediator.close)
    if settings.mediator and not same_party(ready.did, settings.mediator):
        _check_movable(wallet)
    return _Choice(ready.did, embedded=True, named=named is not None)


def _named_mediator(named: str) -> tuple[str, str | None]:
    """Its DID, and the id of the invitation where it was named by one."""
    if named.strip().startswith("did:"):
        return check_mediator(named.strip()).did, None
    invitation = out_of_band.from_text(named)
    if invitation.goal_code == GOAL_CODE:
        raise LocalMisuse(
            "This is the invitation of a person, not of a mediator.",
            fix="Start your agent without it, and then: didmpc accept INVITATION",
        )
    if invitation.goal_code == LOBBY:
        raise LocalMisuse(
            "This link leads to a computation, it is not of a mediator.", fix="Take part:  didmpc join LINK"
        )
    if invitation.expired(time.time()):
        raise LocalMisuse("This invitation has expired.", fix="Ask its host for a new one.")
    return check_mediator(invitation.from_).did, invitation.id


async def _mediator_of_link(link: str) -> str | None:
    """The DID of the mediator through which the host of a lobby is reached; None where it names none."""
    transport = Transport(near=link)
    try:
        invitation = check_link(await transport.invitation(link))
    finally:
        await transport.close()
    through = dids.resolve(invitation.from_).services
    return through[0].uri if through and through[0].uri.startswith("did:") else None


def _check_movable(wallet: Wallet) -> None:
    """Contacts write to DIDs that name the mediator of before: it cannot be left without losing them."""
    count = len(wallet.contacts) + len(wallet.requests)
    if count:
        host = Mailbox.host_named(wallet.settings.mediator)
        raise LocalMisuse(
            f"This agent cannot change its mediator: {count} contacts reach it through {host}.",
            why="What they send would be lost.",
            fix="Start without --mediator, or make a second agent with --home DIR and --mediator.",
        )


async def _connect(mailbox: Mailbox, wallet: Wallet, choice: _Choice, on_notice: OnNotice) -> bool:
    """Reach the mediator; returns whether it is the one of before.

    One that was known to work may be down for now; a new one must answer.
    """
    settings = wallet.settings
    known = bool(settings.did) and same_party(settings.mediator, choice.did)
    if not await mailbox.start(KNOWN_MEDIATOR if known and not choice.named else FIRST_CONNECTION):
        if not known or choice.named:
            raise mailbox.unreachable()
        problem = mailbox.unreachable()
        if isinstance(problem, NotAdmitted):
            on_notice(f"{problem.what} {problem.fix}")
        else:
            on_notice(f"The mediator {mailbox.host} cannot be reached now; this agent keeps trying.")
    if not known:
        wallet.forget_mail()
        identity = await mailbox.new_identity(keep=True)
        settings.did, settings.mediator = identity.did, mailbox.mediator_did
        settings.embedded = choice.embedded
        if choice.embedded:
            on_notice(EMBEDDED_NOTICE)
    await wallet.save()
    return known


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The running parts, and the methods that commands call."""

    home: Home
    wallet: Wallet
    mailbox: Mailbox
    contacts: Contacts
    invitations: Invitations
    exchange: ContactExchange
    pinger: Pinger
    sessions: Sessions
    links: ContactLinks
    doctor: Doctor
    embedded: bool
    started: float = field(default_factory=time.monotonic)

    def facts(self) -> Facts:
        """What is shown when the agent is ready."""
        rtt = self.mailbox.rtt
        return {
            "did": self.wallet.settings.did,
            "label": self.wallet.settings.label,
            "mediator": self.mailbox.mediator_did,
            "host": self.mailbox.host,
            "home": str(self.home.root),
            "encryption": self.wallet.encryption,
            "embedded": self.embedded,
            "connected": self.mailbox.connected.is_set(),
            "rtt_ms": None if rtt is None else round(rtt * 1000, 1),
        }

    def methods(self, stopping: "_Stopping") -> dict[str, Handler]:
        """By the names that commands use."""
        return {
            "status": self._status,
            "stop": stopping.stop,
            "did": self._did,
            "invite": self._invite,
            "invitations": self._invitations,
            "revoke": self._revoke,
            "accept": self._accept,
            "contacts": self._contacts,
            "ping": self._ping,
            "sessions": self._sessions,
            "session-show": self.sessions.show,
            "trust": self.sessions.trust,
            "trusted": self.sessions.trusted,
            "forget-trust": self.sessions.forget,
            "session-words": self.sessions.words,
            "session-compared": self.sessions.compared,
            "session-receipt": self.sessions.receipt,
            "run": self.sessions.run,
            "join": self.sessions.join,
            "link-open": self.links.open,
            "link-listen": self.links.listen,
            "link-accept": self.links.accept,
            "doctor": self._doctor,
        }

    async def housekeeping(self) -> None:
        """Now and then, for as long as the agent runs."""
        while True:
            try:
                await self.invitations.prune()
            except DidmpcError as problem:
                log.warning("housekeeping: %s", problem)
            await asyncio.sleep(PRUNE_EVERY)

    async def _status(self, params: Facts, stream: Stream) -> Facts:
        facts = self.facts()
        return {
            "did": facts["did"],
            "label": facts["label"],
            "mediator": {
                "did": facts["mediator"],
                "host": facts["host"],
                "connected": facts["connected"],
                "admitted": facts["connected"] or not isinstance(self.mailbox.unreachable(), NotAdmitted),
                "rtt_ms": facts["rtt_ms"],
                "embedded": facts["embedded"],
            },
            "home": facts["home"],
            "encryption": facts["encryption"],
            "contacts": len(self.contacts),
            "uptime": round(time.monotonic() - self.started, 1),
            "pid": os.getpid(),
        }

    async def _did(self, params: Facts, stream: Stream) -> Facts:
        return {"did": self.wallet.settings.did}

    async def _invite(self, params: Facts, stream: Stream) -> Facts:
        uses = _number(params, "uses", 1)
        return await self.invitations.create(expires=_number(params, "expires", EXPIRES), uses=int(uses))

    async def _invitations(self, params: Facts, stream: Stream) -> Facts:
        return {"invitations": self.invitations.list()}

    async def _revoke(self, params: Facts, stream: Stream) -> Facts:
        issued = self.invitations.named(str(params.get("invitation", "")))
        if issued.open(time.time()):
            issued = await self.invitations.end(issued, "revoked")
        return issued.public(time.time())

    async def _accept(self, params: Facts, stream: Stream) -> Facts:
        pasted, name = params.get("invitation"), params.get("name")
        if not isinstance(pasted, str) or not isinstance(name, str | None):
            raise LocalMisuse("accept needs an invitation as text.")
        timeout = _number(params, "timeout", ANSWER_WITHIN)
        contact = await self.exchange.accept(pasted, name, stream, timeout=timeout)
        return {"name": contact.name, "did": contact.did}

    async def _contacts(self, params: Facts, stream: Stream) -> Facts:
        return {"contacts": [contact.public() for contact in self.contacts.all()]}

    async def _ping(self, params: Facts, stream: Stream) -> Facts:
        contact = self.contacts.find(str(params.get("contact", "")))
        count = int(_number(params, "count", 3))
        return await self.pinger.ping(contact, count, _number(params, "timeout", 10.0), stream)

    async def _sessions(self, params: Facts, stream: Stream) -> Facts:
        return {"sessions": self.sessions.list()}

    async def _doctor(self, params: Facts, stream: Stream) -> Facts:
        return {"checks": await self.doctor.examine()}


class _Stopping:
    """The wish to stop, from a signal or a command, and that all is done."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.done = asyncio.Event()
        self.signal: signal.Signals | None = None

    async def stop(self, params: Facts, stream: Stream) -> Facts:
        """For `didmpc agent stop`: answered when everything has ended."""
        self.requested.set()
        await self.done.wait()
        return {"pid": os.getpid()}

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._request, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _request(self, number: signal.Signals) -> None:
        self.signal = number
        self.requested.set()


def _http() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Each use has its own limit of time; cookies are none of our business.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _number(params: Facts, name: str, default: float) -> float:
    value = params.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LocalMisuse(f"{name} must be a number.")
    return float(value)


def _default_label() -> str:
    host = platform.node().split(".")[0] or "this machine"
    try:
        return clean_name(f"{getpass.getuser()} on {host}")
    except (OSError, KeyError):  # a user without a name, as in a container
        return clean_name(host)


@contextlib.asynccontextmanager
async def _locked(home: Home) -> AsyncIterator[None]:
    """One agent per home, for as long as this process lives."""
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        deadline = time.monotonic() + LOCK_WITHIN
        while not _try_lock(descriptor):
            if unix_socket.is_served(home.socket) or time.monotonic() > deadline:
                pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                raise LocalMisuse(
                    f"An agent already runs in {home.root}{f' (process {pid})' if pid.isdigit() else ''}.",
                    fix="See it: didmpc agent status     Stop it: didmpc agent stop     Another: --home DIR",
                )
            await asyncio.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # which unlocks it


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _logging(home: Home) -> Iterator[None]:
    """Into `agent.log`, readable by the owner only (the umask sees to it), of bounded size."""
    handler = logging.handlers.RotatingFileHandler(home.log, maxBytes=LOG_SIZE, backupCount=LOGS)
    home.log.chmod(PRIVATE_FILE)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.setLevel(logging.INFO)
    loggers = [logging.getLogger(name) for name in ("didmpc", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    before = loggers[0].level
    loggers[0].setLevel(logging.INFO)
    try:
        yield
    finally:
        loggers[0].setLevel(before)
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
        handler.close()
