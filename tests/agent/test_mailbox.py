"""The mailbox: connected again after every break, nothing lost, nothing handled twice."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from agent_parts import PATIENCE, Agent, Silent, Start, eventually
from awkward_mediator import AwkwardMediator

from didmpc.agent.contacts import contact_exchange
from didmpc.agent.mailbox import inbox, mailbox
from didmpc.protocols import from_prior
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import Service, canonical
from didmpc.protocols.envelope import Unpacked, pack_anoncrypt, pack_authcrypt
from didmpc.protocols.errors import DidmpcError, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message, new_id
from didmpc.protocols.messages import discover_features, mediation, trust_ping
from didmpc.protocols.messages.pickup import MESSAGES_RECEIVED
from didmpc.protocols.messages.problem_report import PROBLEM_REPORT
from didmpc.protocols.mpc import messages as mpc

NOTE = "https://example.org/note/1.0/note"


class Notes:
    """A handler that keeps what it got."""

    def __init__(self, agent: Agent) -> None:
        self.texts: list[str] = []
        self.before: Callable[[str], Awaitable[None]] | None = None
        agent.mailbox.on(NOTE, self._on_note)

    async def _on_note(self, unpacked: Unpacked) -> None:
        text = unpacked.message.body["text"]
        if self.before is not None:
            await self.before(text)
        self.texts.append(text)


def note(text: str, **headers: object) -> Message:
    return Message(type=NOTE, body={"text": text}, **headers)


async def test_what_waited_while_offline_arrives_in_order(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    theirs = await alice.mailbox.new_identity(keep=True)
    mine = await bob.mailbox.new_identity(keep=True)
    await alice.mailbox.close()
    for number in range(25):
        await bob.mailbox.send(note(str(number)), mine, theirs.did)
    again = await start("Alice", connect=0)
    notes = Notes(again)
    await eventually(lambda: len(notes.texts) == 25)
    assert notes.texts == [str(number) for number in range(25)]


async def test_it_connects_again_and_fetches_what_live_delivery_missed(
    start: Start, mediator: AwkwardMediator
) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    notes = Notes(alice)
    theirs = await alice.mailbox.new_identity(keep=False)
    mine = await bob.mailbox.new_identity(keep=False)
    mediator.live = False
    await bob.mailbox.send(note("queued"), mine, theirs.did)
    await mediator.hang_up()
    await eventually(lambda: notes.texts == ["queued"])
    mediator.live = True
    await alice.mailbox._wait_connected(PATIENCE)
    await bob.mailbox.send(note("live"), mine, theirs.did)
    await eventually(lambda: notes.texts == ["queued", "live"])


async def test_a_message_is_acknowledged_only_after_its_handler_returned(
    start: Start, mediator: AwkwardMediator
) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    notes = Notes(alice)
    gate = asyncio.Event()

    async def wait(text: str) -> None:
        await gate.wait()

    notes.before = wait
    theirs = await alice.mailbox.new_identity(keep=False)
    await bob.mailbox.send(note("slow"), await bob.mailbox.new_identity(keep=False), theirs.did)
    await asyncio.sleep(0.2)
    assert mediator.acknowledged == []
    gate.set()
    await eventually(lambda: len(mediator.acknowledged) == 1)


async def test_a_killed_agent_gets_again_what_it_did_not_finish(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    notes = Notes(alice)

    async def never(text: str) -> None:
        await asyncio.Event().wait()

    notes.before = never
    theirs = await alice.mailbox.new_identity(keep=True)
    await bob.mailbox.send(note("once"), await bob.mailbox.new_identity(keep=False), theirs.did)
    await asyncio.sleep(0.2)
    await alice.mailbox.close()
    assert notes.texts == []
    again = Notes(await start("Alice", connect=0))
    await eventually(lambda: again.texts == ["once"])


async def test_a_repeated_message_is_handled_once_and_acknowledged_each_time(
    start: Start, mediator: AwkwardMediator
) -> None:
    alice = await start("Alice")
    notes = Notes(alice)
    theirs, stranger = await alice.mailbox.new_identity(keep=False), Identity.peer4()
    message = note("same", from_=stranger.did, to=(theirs.did,))
    for _ in range(3):
        await mediator.deliver(pack_authcrypt(message, stranger, theirs.document), theirs.did)
    await eventually(lambda: len(mediator.acknowledged) == 3)
    assert notes.texts == ["same"]


async def test_the_same_id_from_another_sender_is_another_message(
    start: Start, mediator: AwkwardMediator
) -> None:
    alice = await start("Alice")
    notes = Notes(alice)
    theirs = await alice.mailbox.new_identity(keep=False)
    for text in ("one", "two"):
        sender = Identity.peer4()
        message = note(text, id="0" * 32, from_=sender.did, to=(theirs.did,))
        await mediator.deliver(pack_authcrypt(message, sender, theirs.document), theirs.did)
    await eventually(lambda: sorted(notes.texts) == ["one", "two"])


async def test_garbage_in_a_batch_is_skipped_and_acknowledged(
    start: Start, mediator: AwkwardMediator
) -> None:
    alice = await start("Alice")
    theirs, stranger = await alice.mailbox.new_identity(keep=True), Identity.peer4()
    await alice.mailbox.close()
    good = pack_authcrypt(note("good", from_=stranger.did, to=(theirs.did,)), stranger, theirs.document)
    for envelope in (
        b"",
        b"{}",
        b"\xff" * 9,
        good[:-20],
        pack_anoncrypt(note("x"), Identity.peer4().document),
    ):
        await mediator.deliver(envelope, theirs.did)
    await mediator.deliver(good, theirs.did)
    notes = Notes(await start("Alice", connect=0))
    await eventually(lambda: notes.texts == ["good"])
    await eventually(lambda: len(mediator.acknowledged) == 6)


async def test_a_handler_that_fails_stops_nothing(
    start: Start, mediator: AwkwardMediator, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    notes = Notes(alice)

    async def fail(text: str) -> None:
        if text == "bad":
            raise ZeroDivisionError

    notes.before = fail
    theirs, mine = (
        await alice.mailbox.new_identity(keep=False),
        await bob.mailbox.new_identity(keep=False),
    )
    with caplog.at_level(logging.ERROR):
        for text in ("bad", "good"):
            await bob.mailbox.send(note(text), mine, theirs.did)
        await eventually(lambda: notes.texts == ["good"])
    await eventually(lambda: len(mediator.acknowledged) == 2)


async def test_a_violation_is_reported_to_a_contact(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    reports: list[Message] = []

    async def refuse(unpacked: Unpacked) -> None:
        raise MessageError("I do not like it.", code="e.p.msg.dislike")

    async def on_report(unpacked: Unpacked) -> None:
        reports.append(unpacked.message)

    alice.mailbox.on(NOTE, refuse)
    bob.mailbox.on(PROBLEM_REPORT, on_report)
    contact = await bob.accept((await alice.invitations.create())["url"])
    message = note("x")
    await bob.mailbox.send_to_contact(contact, message)
    await eventually(lambda: len(reports) == 1)
    assert reports[0].body["code"] == "e.p.msg.dislike" and reports[0].pthid == message.id


async def test_reports_are_not_answered_by_reports(start: Start, mediator: AwkwardMediator) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    contact = await bob.accept((await alice.invitations.create())["url"])
    await eventually(lambda: alice.contacts.all()[0].rotation is None)  # the exchange is over
    posts = mediator.posts
    await bob.mailbox.send_to_contact(contact, Message(type=PROBLEM_REPORT, body={"no": "code"}))
    await asyncio.sleep(0.3)
    assert mediator.posts == posts + 1


async def test_a_slow_answer_to_one_sender_holds_up_nobody_else(start: Start) -> None:
    alice, bob, carol = await start("Alice"), await start("Bob"), await start("Carol")
    notes = Notes(alice)

    async def dawdle(text: str) -> None:
        if text == "slow":
            await asyncio.Event().wait()

    notes.before = dawdle
    theirs = await alice.mailbox.new_identity(keep=False)
    await bob.mailbox.send(note("slow"), await bob.mailbox.new_identity(keep=False), theirs.did)
    await carol.mailbox.send(note("quick"), await carol.mailbox.new_identity(keep=False), theirs.did)
    await eventually(lambda: notes.texts == ["quick"])


async def test_messages_of_one_sender_are_handled_in_order(start: Start, mediator: AwkwardMediator) -> None:
    alice = await start("Alice")
    notes = Notes(alice)

    async def uneven(text: str) -> None:
        await asyncio.sleep(0.02 if int(text) % 2 == 0 else 0)

    notes.before = uneven
    theirs, stranger = await alice.mailbox.new_identity(keep=False), Identity.peer4()
    for number in range(10):
        message = note(str(number), from_=stranger.did, to=(theirs.did,))
        await mediator.deliver(pack_authcrypt(message, stranger, theirs.document), theirs.did)
    await eventually(lambda: len(notes.texts) == 10)
    assert notes.texts == [str(number) for number in range(10)]


async def test_a_flood_stays_with_the_mediator_and_arrives_later(
    start: Start, mediator: AwkwardMediator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "IN_FLIGHT", 8)
    monkeypatch.setattr(mailbox, "LOOK_EVERY", (0.2, 0.2))
    alice = await start("Alice")
    notes = Notes(alice)
    gate = asyncio.Event()

    async def wait(text: str) -> None:
        await gate.wait()

    notes.before = wait
    theirs, stranger = await alice.mailbox.new_identity(keep=False), Identity.peer4()
    for number in range(40):
        message = note(str(number), from_=stranger.did, to=(theirs.did,))
        await mediator.deliver(pack_authcrypt(message, stranger, theirs.document), theirs.did)
    await eventually(lambda: alice.mailbox._inbox._queued >= 8)
    await asyncio.sleep(0.1)
    assert alice.mailbox._inbox._queued == 8
    gate.set()
    await eventually(lambda: len(notes.texts) == 40)


async def test_an_expired_message_is_dropped(start: Start, mediator: AwkwardMediator) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    notes = Notes(alice)
    theirs, mine = (
        await alice.mailbox.new_identity(keep=False),
        await bob.mailbox.new_identity(keep=False),
    )
    await bob.mailbox.send(note("old", expires_time=int(time.time()) - 3600), mine, theirs.did)
    await bob.mailbox.send(note("new", expires_time=int(time.time()) + 60), mine, theirs.did)
    await eventually(lambda: len(mediator.acknowledged) == 2)
    assert notes.texts == ["new"]


async def test_the_key_list_is_put_right_after_a_kill(start: Start, mediator: AwkwardMediator) -> None:
    alice = await start("Alice")
    kept = await alice.mailbox.new_identity(keep=True)
    for _ in range(3):
        await alice.mailbox.new_identity(keep=False)
    lost = await alice.mailbox.new_identity(keep=True)
    await alice.mailbox.close()
    for box in mediator.boxes.values():
        box.dids.pop(canonical(lost.did), None)
    await start("Alice")
    assert mediator.registered() == {canonical(kept.did), canonical(lost.did)}


async def test_a_dropped_identity_is_gone_on_both_sides(start: Start, mediator: AwkwardMediator) -> None:
    alice = await start("Alice")
    identity = await alice.mailbox.new_identity(keep=True)
    await alice.mailbox.drop_identity(identity.did)
    assert mediator.registered() == set()
    assert alice.wallet.identities.identity(identity.did) is None


async def test_an_identity_that_cannot_be_registered_leaves_nothing(
    start: Start, mediator: AwkwardMediator, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await start("Alice")
    before = len(alice.wallet.identities)
    monkeypatch.setattr(mailbox, "ASK_WITHIN", 0.2)
    mediator.ignore = lambda message: message.type == mediation.KEYLIST_UPDATE
    with pytest.raises(DidmpcError, match="did not answer in time"):
        await alice.mailbox.new_identity(keep=True)
    assert len(alice.wallet.identities) == before


async def test_a_request_survives_a_broken_connection(start: Start, mediator: AwkwardMediator) -> None:
    alice = await start("Alice")
    swallowed: list[str] = []

    def swallow_once(message: Message) -> bool:
        if message.type == mediation.KEYLIST_UPDATE and not swallowed:
            swallowed.append(message.id)
            asyncio.get_running_loop().create_task(mediator.hang_up())
            return True
        return False

    mediator.ignore = swallow_once
    identity = await alice.mailbox.new_identity(keep=False)
    assert swallowed and canonical(identity.did) in mediator.registered()


async def test_a_busy_mediator_is_tried_again(start: Start, mediator: AwkwardMediator) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    notes = Notes(alice)
    theirs = await alice.mailbox.new_identity(keep=False)
    mine = await bob.mailbox.new_identity(keep=False)
    mediator.refuse_posts = [503, 429, 500]
    await bob.mailbox.send(note("at last"), mine, theirs.did)
    await eventually(lambda: notes.texts == ["at last"])


@pytest.mark.parametrize("status", [400, 404, 413, 302])
async def test_a_refusal_is_final(start: Start, mediator: AwkwardMediator, status: int) -> None:
    bob = await start("Bob")
    theirs, mine = (
        await bob.mailbox.new_identity(keep=False),
        await bob.mailbox.new_identity(keep=False),
    )
    mediator.refuse_posts = [status]
    with pytest.raises(DidmpcError, match="refused"):
        await bob.mailbox.send(note("x"), mine, theirs.did)


async def test_a_mediator_that_is_down_is_named(start: Start, mediator: AwkwardMediator) -> None:
    bob = await start("Bob")
    mine = await bob.mailbox.new_identity(keep=False)
    await mediator.close()
    with pytest.raises(DidmpcError, match=r"127\.0\.0\.1.* cannot be reached"):
        await bob.mailbox.send(note("x"), mine, mine.did, timeout=0.5)
    with pytest.raises(DidmpcError, match="cannot be reached"):
        await bob.mailbox.ask_mediator(mediation.KEYLIST_QUERY, {}, timeout=0.3)


async def test_a_contact_that_proves_a_new_did_is_followed(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    await bob.accept((await alice.invitations.create())["url"])
    contact = bob.contacts.find("Alice")
    old = bob.wallet.identity(contact.my_did)
    new = await bob.mailbox.new_identity(keep=True)
    proof = from_prior.create(old, new.did, time.time())
    notes = Notes(alice)
    await bob.mailbox.send(note("moved", from_prior=proof), new, contact.did)
    await eventually(lambda: notes.texts == ["moved"])
    assert alice.contacts.find("Bob").did == new.did


async def test_nobody_else_can_take_a_contacts_place(start: Start) -> None:
    alice, bob, mallory = await start("Alice"), await start("Bob"), await start("Mallory")
    await bob.accept((await alice.invitations.create())["url"])
    known = alice.contacts.find("Bob")
    theirs = await mallory.mailbox.new_identity(keep=False)
    forged = from_prior.create(theirs, theirs.did, time.time())
    await mallory.mailbox.send(note("I am Bob", from_prior=forged), theirs, known.my_did)
    await asyncio.sleep(0.3)
    assert alice.contacts.find("Bob").did == known.did and alice.contacts.by_did(theirs.did) is None


async def test_a_ping_goes_there_and_back(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    contact = await bob.accept((await alice.invitations.create())["url"])
    stream = Silent()
    result = await bob.pinger.ping(contact, 3, PATIENCE, stream)
    assert (result["sent"], result["received"]) == (3, 3)
    assert 0 < result["min"] <= result["avg"] <= result["max"]
    assert [event["n"] for event in stream.events] == [1, 2, 3]


async def test_a_contact_that_is_offline_is_named(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    contact = await bob.accept((await alice.invitations.create())["url"])
    await alice.mailbox.close()
    stream = Silent()
    with pytest.raises(DidmpcError, match="Alice did not answer"):
        await bob.pinger.ping(contact, 1, 0.3, stream)
    assert stream.events == [{"event": "lost", "n": 1}]


async def test_a_mediator_that_never_deletes_does_not_keep_us_busy(
    start: Start, mediator: AwkwardMediator
) -> None:
    alice, stranger = await start("Alice"), Identity.peer4()
    theirs = await alice.mailbox.new_identity(keep=True)
    await alice.mailbox.close()
    message = note("x", from_=stranger.did, to=(theirs.did,))
    await mediator.deliver(pack_authcrypt(message, stranger, theirs.document), theirs.did)
    asked: list[Message] = []

    def forgetful(message: Message) -> bool:
        asked.append(message)
        return message.type == MESSAGES_RECEIVED

    mediator.ignore = forgetful
    await start("Alice")
    await asyncio.sleep(0.3)
    assert len(asked) < 20


class Tarpit:
    """Takes connections and never says a word."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Tarpit":
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.resident = Identity.peer4((Service(f"http://127.0.0.1:{port}/"),))
        return self

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)

    async def __aexit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.close()
        self._server.close()


def from_(sender: Identity, recipient: Identity, message: Message) -> bytes:
    addressed = replace(message, from_=sender.did, to=(recipient.did,))
    return pack_authcrypt(addressed, sender, recipient.document)


async def test_a_stranger_is_neither_answered_nor_told_what_is_wrong(
    start: Start, mediator: AwkwardMediator
) -> None:
    alice = await start("Alice")
    made = await alice.invitations.create()
    theirs = alice.wallet.identity((await alice.mailbox.invitation(made["url"])).from_)
    async with Tarpit() as tarpit:
        stranger = tarpit.resident
        unwanted = [
            trust_ping.ping(stranger.did, theirs.did),
            discover_features.queries([discover_features.Query("protocol")]),
            Message(type="https://example.org/unheard/1.0/of", body={}),
            Message(type=contact_exchange.REQUEST, body={}, pthid="guess"),
        ]
        for message in unwanted * 30:
            await mediator.deliver(from_(stranger, theirs, replace(message, id=new_id())), theirs.did)
        await eventually(lambda: len(mediator.acknowledged) == 120)
        assert tarpit.connections == [] and not alice.mailbox._asides


async def test_answers_that_hang_are_few_and_hold_up_no_mail(start: Start, mediator: AwkwardMediator) -> None:
    """Whoever has an invitation gets an answer, but nothing waits for it, nor do contacts."""
    alice, bob = await start("Alice"), await start("Bob")
    contact = await bob.accept((await alice.invitations.create())["url"])
    made = await alice.invitations.create(uses=2)
    theirs = alice.wallet.identity((await alice.mailbox.invitation(made["url"])).from_)
    before = len(mediator.acknowledged)
    async with Tarpit() as tarpit:
        request = Message(
            type=contact_exchange.REQUEST,
            body={"label": "Mallory", "secret": b64url(bytes(32))},
            pthid=made["id"],
        )
        for number in range(40):
            sender = Identity.peer4(tarpit.resident.document.services)
            again = replace(request, id=f"{number}")
            await mediator.deliver(from_(sender, theirs, again), theirs.did)
        await eventually(lambda: len(mediator.acknowledged) >= before + 40)
        assert len(alice.mailbox._asides) == mailbox.ASIDE // 2
        assert (await bob.pinger.ping(contact, 1, PATIENCE, Silent()))["received"] == 1
        assert len(tarpit.connections) <= mailbox.ASIDE // 2


async def flood(alice: Agent, mediator: AwkwardMediator, sender: Identity, to: Identity, kind: str) -> int:
    """Send more than a lane takes while its first message is being handled; returns how many arrive."""
    gate, handled = asyncio.Event(), []

    async def wait(unpacked: Unpacked) -> None:
        await gate.wait()
        handled.append(unpacked.message.id)

    alice.mailbox.on(kind, wait)
    before = len(mediator.acknowledged)
    many = inbox.LANE + 20
    for _ in range(many):
        await mediator.deliver(from_(sender, to, Message(type=kind, body={})), to.did)
    here = alice.mailbox._inbox  # what is not waiting was dropped, and is acknowledged
    await eventually(lambda: here._queued + len(mediator.acknowledged) - before >= many)
    gate.set()
    await eventually(lambda: len(mediator.acknowledged) >= before + many)
    return len(handled)


async def test_a_stranger_fills_a_lane_only_so_far(start: Start, mediator: AwkwardMediator) -> None:
    alice = await start("Alice")
    theirs = await alice.mailbox.new_identity(keep=False)
    handled = await flood(alice, mediator, Identity.peer4(), theirs, NOTE)
    assert handled in {inbox.LANE, inbox.LANE + 1}  # the first one may be out of the lane by then


async def test_frames_of_a_computation_are_never_dropped(start: Start, mediator: AwkwardMediator) -> None:
    alice = await start("Alice")
    theirs = await alice.mailbox.new_identity(keep=False)
    assert await flood(alice, mediator, Identity.peer4(), theirs, mpc.FRAME) == inbox.LANE + 20


async def test_nothing_of_a_contact_is_dropped(start: Start, mediator: AwkwardMediator) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    contact = await bob.accept((await alice.invitations.create())["url"])
    mine = bob.wallet.identity(contact.my_did)
    theirs = alice.wallet.identity(alice.contacts.find("Bob").my_did)
    assert await flood(alice, mediator, mine, theirs, NOTE) == inbox.LANE + 20


async def test_fetching_does_not_wait_for_a_slow_sender(
    start: Start, mediator: AwkwardMediator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "FETCH_PATIENCE", 0.1)
    monkeypatch.setattr(mailbox, "LOOK_EVERY", (0.1, 0.1))
    alice, bob = await start("Alice"), await start("Bob")
    notes = Notes(alice)

    async def dawdle(text: str) -> None:
        if text == "slow":
            await asyncio.Event().wait()

    notes.before = dawdle
    theirs = await alice.mailbox.new_identity(keep=False)
    mediator.live = False
    for text in ("slow", "quick"):
        await bob.mailbox.send(note(text), await bob.mailbox.new_identity(keep=False), theirs.did)
        await asyncio.sleep(0.3)
    await eventually(lambda: notes.texts == ["quick"])


def test_an_agent_with_nothing_to_do_looks_for_mail_less_and_less_often() -> None:
    pauses = [30.0]
    for _ in range(5):
        pauses.append(mailbox.pause_after(pauses[-1], idle=True))
    assert pauses == [30, 60, 120, 240, 240, 240]
    assert mailbox.pause_after(240, idle=False) == 30


@pytest.mark.parametrize("live", [True, False])
async def test_a_mediator_that_pushes_nothing_is_asked_as_often_as_ever(
    start: Start, mediator: AwkwardMediator, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    looked: list[bool] = []

    def pause_after(pause: float, *, idle: bool) -> float:
        looked.append(idle)
        return 0.01

    monkeypatch.setattr(mailbox, "pause_after", pause_after)
    mediator.live = live
    await start("Alice")
    await eventually(lambda: len(looked) >= 4)
    assert looked[1:4] == [live] * 3
