"""From an invitation to a contact on both sides."""

import asyncio
import time
from dataclasses import replace

import pytest
from agent_parts import PATIENCE, Silent, Start, eventually
from awkward_mediator import AwkwardMediator

from didmpc.agent.contacts import contact_exchange
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages.out_of_band import Invitation, from_text

LONG_ENOUGH_TO_ASK = 2.0


async def test_both_sides_have_the_contact_when_accept_returns(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    invitation = await alice.invitations.create()
    contact = await bob.accept(invitation["url"])
    assert contact.name == "Alice"
    (known,) = alice.contacts.all()
    assert known.name == "Bob"
    assert same_party(known.did, contact.my_did) and same_party(known.my_did, contact.did)
    assert known.pair_secret == contact.pair_secret and len(known.pair_secret) == 32


async def test_a_contact_gets_a_did_that_the_invitation_does_not_show(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    invitation = await alice.invitations.create()
    contact = await bob.accept(invitation["url"])
    assert not same_party(contact.did, from_text(invitation["url"]).from_)


async def test_the_inviter_proves_its_new_did_until_the_peer_uses_it(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    await bob.accept((await alice.invitations.create())["url"])
    await eventually(lambda: alice.contacts.all()[0].rotation is None)


async def test_contacts_outlive_a_restart(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    await bob.accept((await alice.invitations.create())["url"], "Friend")
    await bob.mailbox.close()
    again = await start("Bob")
    contact = again.contacts.find("friend")
    result = await again.pinger.ping(contact, 2, PATIENCE, Silent())
    assert result["received"] == 2


async def test_labels_that_are_alike_become_different_names(start: Start) -> None:
    alice = await start("Alice")
    bob, other = await start("Bob"), await start("other")
    other.wallet.settings.label = "Bob"
    url = (await alice.invitations.create(uses=2))["url"]
    await bob.accept(url)
    await other.accept(url)
    assert [contact.name for contact in alice.contacts.all()] == ["Bob", "Bob-2"]


async def test_a_label_cannot_bring_control_characters_or_commas_onto_a_screen(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    bob.wallet.settings.label = "Bob\x1b[31m,\nCarol\u202e" + "x" * 500
    await bob.accept((await alice.invitations.create())["url"])
    name = alice.contacts.all()[0].name
    assert name.isprintable() and "," not in name and len(name) <= 64


async def test_an_invitation_works_once(start: Start) -> None:
    alice, bob, carol = await start("Alice"), await start("Bob"), await start("Carol")
    url = (await alice.invitations.create())["url"]
    await bob.accept(url)
    with pytest.raises(LocalMisuse, match="used already"):
        await carol.accept(url)
    assert len(alice.contacts) == 1 and len(carol.contacts) == 0


async def test_two_who_accept_at_the_same_moment_do_not_both_get_in(start: Start) -> None:
    alice, bob, carol = await start("Alice"), await start("Bob"), await start("Carol")
    url = (await alice.invitations.create())["url"]
    results = await asyncio.gather(bob.accept(url), carol.accept(url), return_exceptions=True)
    assert sum(isinstance(result, LocalMisuse) for result in results) == 1
    assert len(alice.contacts) == 1


async def test_an_expired_invitation_is_refused_before_anything_is_sent(
    start: Start, mediator: AwkwardMediator, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    url = (await alice.invitations.create(expires=60))["url"]
    posts, now = mediator.posts, time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    with pytest.raises(LocalMisuse, match="expired"):
        await bob.accept(url)
    assert mediator.posts == posts


async def test_the_inviter_refuses_an_expired_invitation_too(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    made = await alice.invitations.create()
    issued = alice.invitations._issued[made["id"]]
    alice.invitations._issued[made["id"]] = replace(issued, expires=int(time.time()) - 1)
    with pytest.raises(LocalMisuse, match="expired"):
        await bob.accept(made["url"])
    assert len(alice.contacts) == 0


async def test_an_invitation_of_ones_own_is_refused(start: Start) -> None:
    alice = await start("Alice")
    with pytest.raises(LocalMisuse, match="of your own"):
        await alice.accept((await alice.invitations.create())["url"])


async def test_an_invitation_accepted_before_says_who_it_was(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    url = (await alice.invitations.create())["url"]
    await bob.accept(url)
    with pytest.raises(LocalMisuse, match="Alice is a contact"):
        await bob.accept(url)


async def test_a_mediators_invitation_is_told_apart(start: Start, mediator: AwkwardMediator) -> None:
    bob = await start("Bob")
    with pytest.raises(LocalMisuse, match="of a mediator") as caught:
        await bob.accept(mediator.invitation())
    assert "--mediator" in caught.value.fix


async def test_an_invitation_for_something_else_is_told_apart(start: Start) -> None:
    bob = await start("Bob")
    foreign = Invitation(from_=Identity.peer4().did, goal_code="issue-vc").to_url("https://example.org/")
    with pytest.raises(LocalMisuse, match="not from a didmpc agent"):
        await bob.accept(foreign)


@pytest.mark.parametrize("pasted", ["", "hello", "https://example.org/", "https://example.org/?_oob=eyJ0e"])
async def test_what_is_no_invitation_is_refused(start: Start, pasted: str) -> None:
    bob = await start("Bob")
    with pytest.raises(DidmpcError) as caught:
        await bob.accept(pasted)
    assert caught.value.fix


async def test_a_name_that_is_taken_is_refused_before_the_invitation_is_used(start: Start) -> None:
    alice, bob, carol = await start("Alice"), await start("Bob"), await start("Carol")
    await carol.accept((await alice.invitations.create())["url"], "Friend")
    with pytest.raises(LocalMisuse, match="already have a contact"):
        await carol.accept((await bob.invitations.create())["url"], "friend")
    assert len(bob.contacts) == 0


async def test_an_unreachable_mediator_of_the_inviter_is_named(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_exchange, "SEND_WITHIN", 0.5)
    elsewhere = AwkwardMediator()
    await elsewhere.start()
    alice, bob = await start("Alice", elsewhere), await start("Bob")
    url = (await alice.invitations.create())["url"]
    await alice.mailbox.close()
    await elsewhere.close()
    with pytest.raises(DidmpcError, match="mediator of Alice cannot be reached"):
        await bob.accept(url)


async def test_an_inviter_who_is_offline_answers_later(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    url = (await alice.invitations.create())["url"]
    await alice.mailbox.close()
    with pytest.raises(DidmpcError, match="not answered yet"):
        await bob.accept(url, timeout=LONG_ENOUGH_TO_ASK)
    await start("Alice")
    await eventually(lambda: len(bob.contacts) == 1)


async def test_a_response_that_arrives_after_a_restart_still_makes_the_contact(start: Start) -> None:
    alice, bob = await start("Alice"), await start("Bob")
    url = (await alice.invitations.create())["url"]
    await alice.mailbox.close()
    with pytest.raises(DidmpcError):
        await bob.accept(url, "Friend", timeout=LONG_ENOUGH_TO_ASK)
    await bob.mailbox.close()
    alice, bob = await start("Alice"), await start("Bob")
    await eventually(lambda: len(bob.contacts) == 1)
    assert bob.contacts.find("Friend").pair_secret == alice.contacts.find("Bob").pair_secret


async def test_a_lost_response_is_made_up_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_exchange, "ASK_AGAIN", 0.3)
    alice, bob = await start("Alice"), await start("Bob")
    lost = []

    async def lose(contact: object, rotation: object) -> None:
        lost.append(contact)
        monkeypatch.undo()

    monkeypatch.setattr(alice.exchange, "_respond", lose)
    monkeypatch.setattr(contact_exchange, "ASK_AGAIN", 0.3)
    contact = await bob.accept((await alice.invitations.create())["url"])
    assert len(lost) == 1
    assert [known.pair_secret for known in alice.contacts] == [contact.pair_secret]


async def test_a_response_that_nobody_signed_for_is_refused(start: Start) -> None:
    """Mallory, who saw the request pass, cannot answer in the inviter's place."""
    alice, bob, mallory = await start("Alice"), await start("Bob"), await start("Mallory")
    url = (await alice.invitations.create())["url"]
    await alice.mailbox.close()
    accepting = asyncio.create_task(bob.accept(url, timeout=LONG_ENOUGH_TO_ASK))
    await eventually(lambda: bool(bob.exchange._requests))
    (request,) = bob.exchange._requests.values()
    mine = await mallory.mailbox.new_identity(keep=False)
    body = {"label": "Alice", "secret": b64url(bytes(32))}
    forged = Message(type=contact_exchange.RESPONSE, thid=request.thread, body=body)
    await mallory.mailbox.send(forged, mine, request.my_did)
    with pytest.raises(DidmpcError, match="not answered yet"):
        await accepting
    assert len(bob.contacts) == 0


async def test_a_stranger_without_an_invitation_becomes_no_contact(start: Start) -> None:
    alice, mallory = await start("Alice"), await start("Mallory")
    theirs = await alice.mailbox.new_identity(keep=False)
    mine = await mallory.mailbox.new_identity(keep=False)
    body = {"label": "Bob", "secret": b64url(bytes(32))}
    await mallory.mailbox.send(
        Message(type=contact_exchange.REQUEST, pthid="guess", body=body), mine, theirs.did
    )
    await asyncio.sleep(0.2)
    assert len(alice.contacts) == 0
