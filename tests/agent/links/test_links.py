"""What the daemon does for programs with sessions: two agents on a mediator in memory that relays nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from didmpc.agent.links import ContactLinks, unknown
from didmpc.agent.links.unknown import Ended, Graveyard
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.messages import discover_features, problem_report
from didmpc.protocols.session import handshake
from didmpc.protocols.session.handshake import Established, Initiation, Party
from didmpc.protocols.session.link import Link, Ready

NOTES = "https://example.org/notes/1.0"
PATIENCE = 60.0


class Program:
    """A program at the control socket."""

    unread = 0

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def event(self, event: Any) -> None:
        self.events.put_nowait(dict(event))

    async def answer(self) -> dict[str, Any]:
        return await self.answers.get()

    async def next(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while (event := await self.events.get())["event"] != kind:
                pass
            return event


class Side:
    """An agent with its links, and the tasks of its programs."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.links = ContactLinks(wallet=agent.wallet, mailbox=agent.mailbox, contacts=agent.contacts)
        agent.courtesies._takes_sessions = self.links.takes_sessions
        self.sent: list[Message] = []
        send = agent.mailbox.send

        async def noted(message: Message, *arguments: Any, **options: Any) -> None:
            self.sent.append(message)
            await send(message, *arguments, **options)

        agent.mailbox.send = noted
        self._tasks: list[asyncio.Task[Any]] = []

    def run(self, method: Callable[..., Any], **params: Any) -> tuple[Program, "asyncio.Task[Any]"]:
        program = Program()
        task = asyncio.create_task(method({"protocol": NOTES, "timeout": PATIENCE, **params}, program))
        self._tasks.append(task)
        return program, task

    async def listen(self) -> "asyncio.Task[Any]":
        program, task = self.run(self.links.listen)
        await program.next("listening")
        return task

    def sent_of(self, kind: str) -> list[Message]:
        return [message for message in self.sent if message.type == kind]

    async def close(self) -> None:
        await self.links.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def sides(start):
    alice, bob = await start("alice"), await start("bob")
    invited = await alice.invitations.create(expires=600, uses=1)
    await bob.accept(invited["url"], "alice")
    await until(lambda: len(alice.contacts))
    pair = Side(alice), Side(bob)
    yield pair
    for side in pair:
        await side.close()


async def linked(alice: Side, bob: Side) -> tuple[Program, Program, "asyncio.Task[Any]", "asyncio.Task[Any]"]:
    await bob.listen()
    here, opening = alice.run(alice.links.open, contact="bob")
    there, accepting = bob.run(bob.links.accept)
    return here, there, opening, accepting


def link_of(event: dict[str, Any]) -> Link:
    return Link(Established.from_json(event["session"]), now=0.0)


async def test_two_programs_get_the_two_ends_of_a_session(sides):
    here, there, opening, _ = await linked(*sides)
    ours, theirs = await here.next("linked"), await there.next("linked")
    assert (ours["contact"], theirs["contact"]) == ("bob", "alice")
    assert ours["path"] == theirs["path"] == {"mailbox": True}
    assert ours["link"] == theirs["link"]
    a, b = link_of(ours), link_of(theirs)
    a.path_up(0.0, "json", stored=True)
    b.path_up(0.0, "json", stored=True)
    for packet in a.packets(0.0):
        here.answers.put_nowait({"packet": b64url(packet)})
    came = await there.next("packet")
    assert Ready() in b.receive(unb64url(came["data"]), 0.0)
    here.answers.put_nowait({"end": True})
    assert await opening == {}


async def test_who_listens_for_nothing_is_not_asked(sides):
    alice, _ = sides
    _, opening = alice.run(alice.links.open, contact="bob")
    with pytest.raises(RemoteViolation, match="takes no sessions") as refused:
        await opening
    assert refused.value.code == "e.p.session.refused.unavailable"
    assert not alice.sent_of(handshake.OPEN)


async def test_a_protocol_that_nobody_listens_for_is_declined(sides):
    alice, bob = sides
    await bob.listen()
    _, opening = alice.run(alice.links.open, contact="bob", protocol="https://example.org/other/1.0")
    with pytest.raises(RemoteViolation, match="declined") as refused:
        await opening
    assert refused.value.code == "e.p.session.refused.policy"


async def test_when_the_last_listener_goes_what_waits_is_declined(sides):
    alice, bob = sides
    listening = await bob.listen()
    _, opening = alice.run(alice.links.open, contact="bob")
    await until(lambda: alice.sent_of(handshake.OPEN))
    await until(lambda: any(bob.links._handshakes._waiting.values()))
    listening.cancel()
    with pytest.raises(RemoteViolation, match="declined"):
        await opening


async def test_a_listener_that_never_accepts_is_named_as_silent(sides):
    alice, bob = sides
    await bob.listen()
    _, opening = alice.run(alice.links.open, contact="bob", timeout=3.0)
    with pytest.raises(RemoteViolation, match="bob did not answer") as refused:
        await opening
    assert refused.value.code == "e.p.session.refused.silent"
    assert not bob.sent_of(handshake.ACCEPT)


async def test_an_open_that_comes_again_gets_the_same_accept(sides):
    alice, bob = sides
    here, *_ = await linked(alice, bob)
    await here.next("linked")
    bob_as_contact = alice.agent.contacts.find("bob")
    await alice.agent.mailbox.send_to_contact(bob_as_contact, alice.sent_of(handshake.OPEN)[0])
    await until(lambda: len(bob.sent_of(handshake.ACCEPT)) == 2)
    first, second = bob.sent_of(handshake.ACCEPT)
    assert first.body == second.body


async def test_opens_that_cross_become_one_session(sides):
    alice, bob = sides
    # Each knows that the other one takes sessions before either has heard of the other's wish.
    (here, _), (there, _) = (
        alice.run(alice.links.open, contact="bob"),
        bob.run(bob.links.open, contact="alice"),
    )
    ours, theirs = await here.next("linked"), await there.next("linked")
    assert ours["link"] == theirs["link"]
    assert {ours["role"], theirs["role"]} == {"initiator", "responder"}


async def test_strangers_get_no_answer_at_all(sides, start):
    _, bob = sides
    mallory = await start("mallory")
    await bob.listen()
    identity = await mallory.mailbox.new_identity(keep=False)
    target = bob.agent.contacts.find("alice").my_did
    message = Message(type=handshake.OPEN, body={})
    link = {"id": b64url(bytes(16)), "protocol": NOTES}
    peer = Party.of(bob.agent.wallet.identity(target))
    message.body.update(Initiation(Party.of(identity), peer, message.id, link=link).body)
    question = discover_features.queries([discover_features.Query("protocol")])
    before = len(bob.sent)
    for asked in (message, question):
        await mallory.mailbox.send(asked, identity, target)
    # A contact's message is handled after the stranger's two.
    alice = sides[0]
    _, opening = alice.run(alice.links.open, contact="bob", protocol="https://example.org/other/1.0")
    with pytest.raises(RemoteViolation, match="declined"):
        await opening
    assert {message.type for message in bob.sent[before:]} == {discover_features.DISCLOSE, handshake.DECLINE}
    assert not any(bob.links._handshakes._waiting.values())


async def test_a_link_gets_a_new_session(sides):
    here, there, _, _ = await linked(*sides)
    ours, theirs = await here.next("linked"), await there.next("linked")
    for program in (here, there):
        program.answers.put_nowait({"confirmed": True})
    here.answers.put_nowait({"renew": True})
    new = [Established.from_json((await program.next("renewal"))["session"]) for program in (here, there)]
    assert new[0].exporter == new[1].exporter
    assert new[0].exporter not in {Established.from_json(each["session"]).exporter for each in (ours, theirs)}


async def test_a_program_that_dies_is_told_of_to_its_peer(sides):
    alice, bob = sides
    here, there, opening, _ = await linked(alice, bob)
    ours, _ = await here.next("linked"), await there.next("linked")
    here.answers.put_nowait({"confirmed": True})
    await until(lambda: next(iter(alice.links._links.values())).confirmed)
    opening.cancel()  # what a control socket that hangs up does
    await there.next("probe")
    report = alice.sent_of(problem_report.PROBLEM_REPORT)[0]
    assert report.body["args"] == [b64url(Established.from_json(ours["session"]).sid_in)]
    assert report.pthid == alice.sent_of(handshake.OPEN)[0].id


async def test_a_program_that_ends_orderly_is_told_of_to_nobody(sides):
    alice, bob = sides
    here, there, opening, accepting = await linked(alice, bob)
    await here.next("linked")
    await there.next("linked")
    for program in (here, there):
        program.answers.put_nowait({"confirmed": True})
        program.answers.put_nowait({"end": True})
    await opening
    await accepting
    assert not alice.links._links
    assert not bob.links._links
    assert not [*alice.sent_of(problem_report.PROBLEM_REPORT), *bob.sent_of(problem_report.PROBLEM_REPORT)]


async def test_a_report_of_somebody_else_or_of_another_session_says_nothing(sides):
    alice, bob = sides
    here, there, _, _ = await linked(alice, bob)
    await here.next("linked")
    theirs = Established.from_json((await there.next("linked"))["session"])
    open_id = alice.sent_of(handshake.OPEN)[0].id
    true = unknown.report(Ended(theirs.sid_out, open_id, ""))
    bob_as_contact = alice.agent.contacts.find("bob")
    for wrong in (
        replace(true, pthid="another"),
        replace(true, body={**true.body, "args": [b64url(bytes(8))]}),
        replace(true, body={**true.body, "code": "e.p.session"}),
        replace(true, body={**true.body, "args": ["!"]}),
    ):
        await alice.agent.mailbox.send_to_contact(bob_as_contact, replace(wrong, id=f"{id(wrong)}"))
    # What a contact sends is handled in order: this is declined after the wrong reports were looked at.
    _, opening = alice.run(alice.links.open, contact="bob", protocol="https://example.org/other/1.0")
    with pytest.raises(RemoteViolation, match="declined"):
        await opening
    assert there.events.empty()
    await alice.agent.mailbox.send_to_contact(bob_as_contact, true)
    await there.next("probe")


def test_a_peer_is_told_at_most_once_a_minute_and_session():
    forgotten: list[bytes] = []
    graveyard = Graveyard(forgotten.append)
    graveyard.bury(Ended(b"session1", "open", "did:example:b"))
    assert graveyard.due(b"session2", 1000.0) is None
    assert graveyard.due(b"session1", 1000.0) is not None
    assert graveyard.due(b"session1", 1059.0) is None
    assert graveyard.due(b"session1", 1060.0) is not None
    for number in range(unknown.REMEMBERED):
        graveyard.bury(Ended(b"%08d" % number, "open", "did:example:b"))
    assert forgotten == [b"session1"]
    assert graveyard.due(b"session1", 5000.0) is None
