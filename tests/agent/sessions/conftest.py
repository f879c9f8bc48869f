"""Agents whose mail is passed on in memory; their channel processes are real."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from didmpc.agent.contacts.contacts import Contact
from didmpc.agent.contacts.invitations import Invitations
from didmpc.agent.mailbox.mailbox import Standing
from didmpc.agent.sessions import Sessions
from didmpc.agent.sessions.parties import LinkPeer
from didmpc.protocols.did import Service, canonical
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError, RemoteViolation
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import out_of_band, problem_report, shorten_url
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.mpc import messages

PATIENCE = 90.0
"""Seconds; nothing that works takes so long, on a slow and busy machine either."""
PROGRAM = '"""Three: everyone learns three."""\nprint(3)\n'


class PostOffice:
    """Takes a message from its sender's mailbox to its recipient's, as it is."""

    def __init__(self) -> None:
        self.owners: dict[str, Mail] = {}
        self.refused: list[RemoteViolation] = []
        self.closed: set[str] = set()
        self.offline: set[str] = set()  # they send nothing, and their mail waits
        self.waiting: list[tuple[Message, Identity, str]] = []
        self.seen: set[str] = set()

    async def deliver(self, message: Message, sender: Identity, to: str) -> None:
        owner = self.owners.get(canonical(to))
        speaker = self.owners.get(canonical(sender.did))
        if owner is None or owner.name in self.closed or (speaker and speaker.name in self.offline):
            raise DidmpcError("Their mediator cannot be reached.")
        if owner.name in self.offline:
            self.waiting.append((message, sender, to))
            return
        self.seen.add(message.type)
        addressed = replace(message, from_=sender.did, to=(to,))
        unpacked = Unpacked(addressed, sender.did, f"{sender.did}#0", f"{to}#0", None, "A256CBC-HS512")
        for prefix, handler in owner.handlers:
            if message.type.startswith(prefix):
                try:
                    await handler(unpacked)
                except RemoteViolation as violation:
                    self.refused.append(violation)
                    if message.type == messages.KNOCK:
                        report = problem_report.report_on(addressed, violation)
                        await self.deliver(report, owner.identities[canonical(to)], sender.did)

    async def back(self, name: str) -> None:
        """Somebody is online again, and gets what waited."""
        self.offline.discard(name)
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            await self.deliver(*each)


class Mail:
    """What sessions use of a mailbox."""

    mediator_did = "did:example:mediator"
    http_uri = "https://mediator.example/"
    host = "mediator.example"
    envelopes = 0
    crypto_seconds = 0.0

    def __init__(self, name: str, office: PostOffice) -> None:
        self.name = name
        self.office = office
        self.handlers: list[tuple[str, Callable[[Unpacked], Awaitable[None]]]] = []
        self.identities: dict[str, Identity] = {}
        self.connected = asyncio.Event()
        self.connected.set()
        self.asides: set[asyncio.Task[None]] = set()

    def supports(self, protocol: str) -> bool:
        return protocol != shorten_url.PROTOCOL

    def identity(self, did: str) -> Identity | None:
        return self.identities.get(canonical(did))

    def long_form(self, did: str) -> str:
        return did

    def host_of(self, did: str) -> str:
        return self.host

    async def invitation(self, pasted: str) -> Invitation:
        return out_of_band.from_text(pasted)

    def aside(self, sending: Coroutine[Any, Any, None], to: Standing) -> None:
        self.asides.add(asyncio.create_task(sending))

    def on(self, prefix: str, handler: Callable[[Unpacked], Awaitable[None]]) -> None:
        self.handlers.append((prefix, handler))

    async def new_identity(self, *, keep: bool) -> Identity:
        identity = Identity.peer4((Service("http://127.0.0.1:9"),))
        self.identities[canonical(identity.did)] = identity
        self.office.owners[canonical(identity.did)] = self
        return identity

    async def drop_identity(self, did: str) -> None:
        self.identities.pop(canonical(did))
        del self.office.owners[canonical(did)]

    async def send(self, message: Message, sender: Identity, to: str, *, timeout: float = 60) -> None:
        await self.office.deliver(message, sender, to)

    async def send_to_contact(
        self, contact: Contact | LinkPeer, message: Message, *, timeout: float = 60
    ) -> None:
        await self.send(message, self.identities[canonical(contact.my_did)], contact.did)


class People:
    """The contacts of one agent."""

    def __init__(self) -> None:
        self._contacts: dict[str, Contact] = {}

    def add(self, name: str, theirs: str, mine: str) -> None:
        self._contacts[name] = Contact(name, theirs, mine, name, b"s" * 32, 0, "invitation")

    def find(self, name: str) -> Contact:
        if name not in self._contacts:
            raise DidmpcError(f"There is no contact called '{name}'.")
        return self._contacts[name]

    def by_did(self, did: str) -> Contact | None:
        return next((c for c in self._contacts.values() if canonical(c.did) == canonical(did)), None)

    def all(self) -> list[Contact]:
        return list(self._contacts.values())

    async def verified(self, contact: Contact, at: int) -> None:
        self._contacts[contact.name] = replace(contact, verified_at=at)


class Keys:
    """What sessions use of a wallet."""

    def __init__(self, mail: Mail) -> None:
        self.settings = SimpleNamespace(label=mail.name)
        self.identities = mail
        self.invitations: list[dict[str, Any]] = []
        self.visits: list[dict[str, Any]] = []

    async def save(self) -> None:
        """Kept in memory."""


class Terminal:
    """A person who watches the events and answers each question alike."""

    def __init__(self, *, consent: bool | None = True) -> None:
        """`consent`: what is answered to each question; None: nothing, until the test does."""
        self._answers: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.consent = consent
        self.events: list[Mapping[str, Any]] = []
        self._news = asyncio.Condition()

    async def event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "proposal" and self.consent is not None:
            self.says(consent=self.consent)
        async with self._news:
            self.events.append(event)
            self._news.notify_all()

    async def answer(self) -> Mapping[str, Any]:
        return await self._answers.get()

    def says(self, **content: Any) -> None:
        self._answers.put_nowait(content)

    async def sees_picture(self, fits: Callable[[Any], bool]) -> Mapping[str, Any]:
        """Wait for a picture of the lobby whose parties fit."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self._picture(fits) is not None)
        picture = self._picture(fits)
        assert picture is not None
        return picture

    def _picture(self, fits: Callable[[Any], bool]) -> Mapping[str, Any] | None:
        pictures = (event for event in self.events if event["event"] == "gathering")
        return next((event for event in pictures if fits(event["parties"])), None)

    async def sees(self, **facts: Any) -> Mapping[str, Any]:
        """Wait for an event with these facts."""

        def found() -> Mapping[str, Any] | None:
            return next((e for e in self.events if facts.items() <= e.items()), None)

        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: found() is not None)
        event = found()
        assert event is not None
        return event


@dataclass
class Agent:
    name: str
    mail: Mail
    people: People
    sessions: Sessions
    home: Path
    invitations: Invitations
    keys: "Keys"
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def run(self, program: Path, terminal: Terminal, *guests: str, **params: Any) -> "asyncio.Task[Any]":
        full = {"program": str(program), "with": list(guests) or None, "wait": PATIENCE, "arguments": []}
        full |= {"no_privacy": True, **params}
        return self._start(self.sessions.run(full, terminal))

    def join(self, terminal: Terminal, **params: Any) -> "asyncio.Task[Any]":
        return self._start(self.sessions.join({"wait": PATIENCE, "no_privacy": True, **params}, terminal))

    async def restart(self) -> None:
        """Stop the agent's sessions, with their commands, and start anew from what is kept."""
        await self.sessions.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.mail.handlers.clear()
        self.sessions = Sessions(
            wallet=self.keys,  # type: ignore[arg-type]
            mailbox=self.mail,  # type: ignore[arg-type]
            contacts=self.people,  # type: ignore[arg-type]
            invitations=self.invitations,
            home=self.home,
        )
        await self.sessions.start()

    async def until_over(self) -> None:
        """Wait until no session of this agent runs."""
        async with asyncio.timeout(PATIENCE):
            while any(session["state"] == "running" for session in self.sessions.list()):
                await asyncio.sleep(0.02)

    def visit(self, url: str, terminal: Terminal, **params: Any) -> "asyncio.Task[Any]":
        return self._start(self.sessions.join({"invitation": url, "no_privacy": True, **params}, terminal))

    def _start(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(work)
        self.tasks.append(task)
        return task


async def introduce(one: Agent, other: Agent) -> tuple[Identity, Identity]:
    """Make two agents contacts of each other; the identities that they have for that."""
    ours, theirs = [await each.mail.new_identity(keep=True) for each in (one, other)]
    one.people.add(other.name, theirs.did, ours.did)
    other.people.add(one.name, ours.did, theirs.did)
    return ours, theirs


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "three.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def steps() -> Path:
    """A program that computes together, in as many steps as its argument says."""
    return Path(__file__).parents[2] / "e2e" / "programs" / "steps.py"


@pytest.fixture
def office() -> PostOffice:
    return PostOffice()


@pytest.fixture
async def agents(tmp_path: Path, office: PostOffice) -> AsyncIterator[dict[str, Agent]]:
    """Alice, whom Bob and Carol know."""
    everybody: dict[str, Agent] = {}
    for name in ("alice", "bob", "carol"):
        home = tmp_path / name
        home.mkdir(mode=0o700)
        mail, people = Mail(name, office), People()
        wallet: Any = Keys(mail)
        invitations = Invitations(wallet, mail)  # type: ignore[arg-type]
        sessions = Sessions(
            wallet=wallet,
            mailbox=mail,
            contacts=people,
            invitations=invitations,
            home=home,  # type: ignore[arg-type]
        )
        await sessions.start()
        everybody[name] = Agent(name, mail, people, sessions, home, invitations, wallet)
    for name in ("bob", "carol"):
        await introduce(everybody["alice"], everybody[name])
    yield everybody
    for agent in everybody.values():
        for task in agent.tasks:
            task.cancel()
        await asyncio.gather(*agent.tasks, return_exceptions=True)
        await agent.sessions.close()
