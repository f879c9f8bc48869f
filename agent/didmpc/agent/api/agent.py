"""The agent of this user, as a program sees it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from didmpc.agent.api.carrier import Carrier
from didmpc.agent.api.computing import Computation, Consent
from didmpc.agent.api.errors import SessionLost, SessionRefused
from didmpc.agent.api.flow import LIMIT
from didmpc.agent.api.limits import SessionLimits
from didmpc.agent.api.session import Session
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.traffic import Traffic
from didmpc.agent.control import async_client as control_async
from didmpc.agent.control.async_client import Conversation
from didmpc.agent.program import repository, shipped
from didmpc.agent.wallet.home import Home
from didmpc.protocols.errors import RemoteViolation

CONFIRMED_WITHIN = 20.0
_REFUSED = "e.p.session.refused."

Wire = Literal["auto", "binary", "json"]


@dataclass(frozen=True, slots=True)
class Contact:
    """Someone whom the agent has exchanged keys with."""

    name: str
    did: str
    """The DID that it uses towards this agent alone."""
    label: str
    """How it calls itself; nothing proves that."""
    verified: bool
    """Whether the two people have compared words."""


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation to send to somebody over a channel on which nobody else can take it."""

    url: str
    long_url: str
    """The same without a short link: nobody has to look it up."""
    id: str
    expires: int
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Past:
    """A computation that this agent took part in, or does now."""

    attempt: str
    state: str
    parties: tuple[str, ...]
    cause: str
    facts: dict[str, Any]


class Agent:
    """Made by `Agent.connect`. Its sessions run in this process, in the event loop that is running."""

    def __init__(self, home: Home, status: dict[str, Any]) -> None:
        self._home = home
        self._carriers: dict[int, Carrier] = {}
        self._sessions: set[Session] = set()
        self._listeners: set[Listener] = set()
        self._numbers = count(1)
        self._traffic = Traffic(Limits(), on_read=self._moved, on_beat=self._beat)
        self._beating = asyncio.create_task(self._traffic.beat_for_ever(), name="didmpc sessions")
        self.did = str(status["did"])
        self.label = str(status["label"])

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, home: Path | str | None = None) -> AsyncIterator["Agent"]:
        """The agent that runs in a home: the one given, else as the `didmpc` command finds it.

        Raises `LocalMisuse` when none runs there. Sessions that are still open at the end are aborted.
        """
        found = Home.locate(None if home is None else Path(os.fspath(home)))
        agent = cls(found, await control_async.call(found, "status"))
        try:
            yield agent
        finally:
            await agent._close()

    async def contacts(self) -> list[Contact]:
        """Everyone whom sessions are possible with."""
        result = await control_async.call(self._home, "contacts")
        return [
            Contact(each["name"], each["did"], each["label"], each["verified"]) for each in result["contacts"]
        ]

    # --- people

    async def invite(self, *, expires: float | None = None, uses: int = 1) -> Invited:
        """A link by which somebody, or up to `uses` people, become contacts; `expires` in seconds."""
        params: dict[str, Any] = {"uses": uses}
        if expires is not None:
            params["expires"] = expires
        made = await control_async.call(self._home, "invite", params)
        return Invited(str(made["url"]), str(made["long_url"]), str(made["id"]), int(made["expires"]))

    async def accept_invitation(
        self, link: str, *, name: str | None = None, timeout: float | None = None
    ) -> Contact:
        """Become a contact of whoever made the link; `name` is what we call them."""
        params: dict[str, Any] = {"invitation": link, "name": name}
        if timeout is not None:
            params["timeout"] = timeout
        made = await control_async.call(self._home, "accept", params)
        found = [each for each in await self.contacts() if each.name == made["name"]]
        return found[0] if found else Contact(str(made["name"]), str(made["did"]), "", False)

    # --- computing together

    def run(
        self,
        program: Path | str,
        *,
        with_: Sequence[str | Contact] | None = None,
        arguments: Sequence[str] = (),
        input: Path | str | None = None,
        stdin: bytes = b"",
        output: Path | str | None = None,
        threshold: int | None = None,
        consent: Consent = True,
        wait: float = 600.0,
        **options: Any,
    ) -> Computation:
        """Propose a program to contacts and run it with them: `didmpc run`.

        `input` is a file that the program reads on its standard input, `stdin` the bytes where there is
        none; `output` a folder for what it writes. `options` are those of the command, in its words: `mode`,
        `wire`, `resume_limit`, `free_threshold`, `no_sandbox`, `no_privacy`, `no_prss`, `memory` (bytes),
        `time_limit` (seconds), `parties`, ...
        """
        params = {
            "program": _program(program),
            "with": None if with_ is None else [_name(each) for each in with_],
            "arguments": list(arguments),
            "threshold": threshold,
            "stdin": "pipe" if stdin else "none",
            "cwd": os.getcwd(),
            **_common(input, output, wait),
            **options,
        }
        return Computation(self._home, "run", params, consent=consent, stdin=stdin)

    def join(
        self,
        from_: str | Contact | None = None,
        *,
        consent: Consent,
        program: Path | str | None = None,
        input: Path | str | None = None,
        stdin: bytes = b"",
        output: Path | str | None = None,
        wait: float = 600.0,
        **options: Any,
    ) -> Computation:
        """Wait for a proposal, of `from_` or of anybody, and take part: `didmpc join`.

        `consent` decides, given a `Proposed`; `True` agrees to whatever comes. With `program` it is only
        to that program.
        """
        params = {
            "from": None if from_ is None else _name(from_),
            "stdin": "pipe" if stdin else "none",
            "program": None if program is None else _program(program),
            **_common(input, output, wait),
            **options,
        }
        return Computation(self._home, "join", params, consent=consent, stdin=stdin)

    async def computations(self) -> list[Past]:
        """Computations of this agent, running and past, the newest first: `didmpc sessions`."""
        found = await control_async.call(self._home, "sessions")
        return [
            Past(
                str(each.get("attempt")),
                str(each.get("state")),
                tuple(str(p.get("name", p) if isinstance(p, dict) else p) for p in each.get("parties") or []),
                str(each.get("cause") or ""),
                each,
            )
            for each in found.get("sessions") or []
        ]

    # --- sessions of one's own

    @contextlib.asynccontextmanager
    async def session(
        self,
        contact: str | Contact,
        *,
        protocol: str,
        wire: Wire = "auto",
        timeout: float = 30.0,
        limits: SessionLimits | None = None,
    ) -> AsyncIterator[Session]:
        """A session as a context: `open`, and `close` (or, after an exception, `abort`) at its end."""
        session = await self.open(contact, protocol=protocol, wire=wire, timeout=timeout, limits=limits)
        async with session:
            yield session

    async def open(
        self,
        contact: str | Contact,
        *,
        protocol: str,
        wire: Wire = "auto",
        timeout: float = 30.0,
        limits: SessionLimits | None = None,
    ) -> Session:
        """Open a session with a contact, whose program must listen for the same protocol, or open one to us.

        `protocol` is the URI of what runs in the session. `wire` is the form of its packets: `json` goes
        through the mailboxes of any mediator, `binary` through a relay at the peer's mediator, `auto` prefers
        the latter. Raises `SessionRefused`, `SessionLost`, `LocalMisuse`.
        """
        limits = limits or SessionLimits()
        params = {
            "contact": contact.name if isinstance(contact, Contact) else contact,
            "protocol": protocol,
            "wire": wire,
            "timeout": timeout,
            "limits": {LIMIT: limits.unread},
        }
        session = await self._link("link-open", params, limits, timeout)
        if session is None:
            raise SessionRefused(
                f"{params['contact']}'s agent answered, but its program did not.",
                why="The program may hang, or the mediator's relay cannot be reached from here.",
                fix="Try again, or with wire='json'.",
                code="silent",
            )
        return session

    async def accept(self, protocol: str, *, limits: SessionLimits | None = None) -> Session:
        """Wait for one session of this protocol, from any contact. See `sessions` for more than one."""
        async with self.sessions(protocol, limits=limits) as listener:
            return await anext(listener)

    def sessions(self, protocol: str, *, limits: SessionLimits | None = None) -> "Listener":
        """All sessions of this protocol that contacts open: `async for session in agent.sessions(...)`.

        It listens from the first step (or from `async with`) until it is closed. Sessions that nobody has
        taken yet wait, a few of them, unanswered.
        """
        return Listener(self, self._home, protocol, limits or SessionLimits())

    # --- within

    async def _link(
        self, method: str, params: dict[str, Any], limits: SessionLimits, timeout: float | None
    ) -> Session | None:
        """Have the daemon make a link, and the peer heard on it; None where the latter does not happen."""
        number = next(self._numbers)
        carrier = Carrier(self._traffic, number, limits.link, limits.unreachable)
        linked = asyncio.Event()
        session: Session | None = None

        def on_event(event: dict[str, Any]) -> None:
            nonlocal session
            carrier.event(event)
            if event.get("event") == "linked":
                session = Session(carrier, limits)
                linked.set()

        conversation = await Conversation.start(self._home, method, params, on_event=on_event)
        carrier.converse(conversation)
        conversation.on_over(linked.set)
        self._carriers[number] = carrier
        kept = False
        try:
            await linked.wait()
            if session is None:
                await _raise_outcome(conversation)
                return None
            try:
                async with asyncio.timeout(CONFIRMED_WITHIN if timeout is None else timeout):
                    await asyncio.shield(carrier.ready)
            except TimeoutError:
                return None
            kept = True
        finally:
            if not kept:
                del self._carriers[number]
                await asyncio.shield(asyncio.ensure_future(carrier.finish(orderly=False)))
        self._keep(number, session)
        return session

    def _keep(self, number: int, session: Session) -> None:
        self._sessions.add(session)

        def over() -> None:
            self._sessions.discard(session)
            self._carriers.pop(number, None)

        session.on_over(over)

    def _moved(self) -> None:
        for carrier in tuple(self._carriers.values()):
            carrier.moved()

    def _beat(self, at: float, late: bool) -> None:
        for carrier in tuple(self._carriers.values()):
            carrier.beat(at, self._traffic.wakefulness)

    async def _close(self) -> None:
        try:
            for listener in tuple(self._listeners):
                await listener.aclose()
            await asyncio.gather(
                *(session.abort("The program ended.") for session in self._sessions), return_exceptions=True
            )
        finally:
            self._beating.cancel()


class Listener:
    """An async iterator of sessions, and a context that ends the listening."""

    def __init__(self, agent: Agent, home: Home, protocol: str, limits: SessionLimits) -> None:
        self._agent = agent
        self._home = home
        self._protocol = protocol
        self._limits = limits
        self._listening: Conversation | None = None

    async def start(self) -> None:
        """Listen: from now on contacts are answered."""
        if self._listening is not None:
            return
        heard = asyncio.Event()
        conversation = await Conversation.start(
            self._home, "link-listen", {"protocol": self._protocol}, on_event=lambda event: heard.set()
        )
        conversation.on_over(heard.set)
        self._listening = conversation
        self._agent._listeners.add(self)
        await heard.wait()
        if conversation.over:
            await self.aclose()
            await _raise_outcome(conversation)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Session:
        """The next session whose peer was heard. Raises `DidmpcError` when the agent goes away."""
        await self.start()
        params = {"protocol": self._protocol, "limits": {LIMIT: self._limits.unread}}
        while True:
            with contextlib.suppress(SessionLost):  # it was over before its peer was heard
                session = await self._agent._link("link-accept", params, self._limits, None)
                if session is not None:
                    return session

    async def aclose(self) -> None:
        """Listen no more; sessions that were taken go on."""
        listening, self._listening = self._listening, None
        self._agent._listeners.discard(self)
        if listening is not None:
            await listening.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _raise_outcome(conversation: Conversation) -> None:
    """Raise what the daemon said in place of what was asked for."""
    try:
        await conversation.result()
    except RemoteViolation as error:
        if not error.code.startswith(_REFUSED):
            raise
        code = error.code.removeprefix(_REFUSED)
        raise SessionRefused(error.what, why=error.why, fix=error.fix, code=code) from None


def _program(program: Path | str) -> str:
    """A file's path; a demo or a repository's address as it is."""
    text = str(program)
    return text if text.startswith((repository.PREFIX, shipped.PREFIX)) else _path(program)


def _path(path: Path | str) -> str:
    return str(Path(path).expanduser().absolute())


def _name(contact: str | Contact) -> str:
    return contact.name if isinstance(contact, Contact) else contact


def _common(own_input: Path | str | None, output: Path | str | None, wait: float) -> dict[str, Any]:
    return {
        "input": None if own_input is None else _path(own_input),
        "output": None if output is None else _path(output),
        "asks": False,
        "wait": wait,
    }
