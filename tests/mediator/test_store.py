"""What every store must do: idempotent, bounded, with exact counters."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from store_parts import Place, counters

from didmpc.mediator.limits import Limits
from didmpc.mediator.refusals import MailboxFull, Replayed, TooMany, UnknownNext
from didmpc.mediator.store import EXPIRY_BATCH, Store
from didmpc.protocols.did import canonical
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.mediation import Update

NOW, LATER = 1_000_000.0, 2_000_000.0
ALICE, BOB = Identity.peer4().did, Identity.peer4().did


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    store = await place.open(Limits(mailbox_messages=600, mailbox_bytes=10_000))
    for did in (ALICE, BOB):
        await store.enrol(did, NOW)
    yield store
    await store.close()


async def registered(store: Store, account: str = ALICE) -> str:
    did = Identity.peer4().did
    await store.update_keylist(account, [Update(did, "add")], did.encode(), NOW)
    return did


async def all_mail(store: Store, now: float = NOW, account: str = ALICE) -> list[bytes]:
    listing = await store.oldest(account, None, now, messages=1000, bytes=10**9)
    return [item.body for item in listing.mail]


async def test_counters_stay_exact_through_everything(store: Store, place: Place) -> None:
    first, second = await registered(store), await registered(store)
    for n in range(20):
        await store.enqueue(first, [b"x" * n], LATER, NOW)
        await store.enqueue(first, [b"x" * n], LATER, NOW)
    await store.enqueue(second, [b"one", b"two", b"one"], NOW + 1, NOW)
    assert await counters(place) == (22, 196)
    mail = (await store.oldest(ALICE, first, NOW, messages=5, bytes=10**6)).mail
    await store.acknowledge(ALICE, [item.seq for item in mail] * 2, NOW)
    await store.acknowledge(BOB, [6, 7, 8], NOW)
    assert await counters(place) == (17, 186)
    assert await store.expire(NOW + 1) == 2
    await store.update_keylist(ALICE, [Update(first, "remove")], b"removal", NOW)
    assert await counters(place) == (0, 0)


async def test_a_mailbox_that_is_full_takes_none_of_several(store: Store, place: Place) -> None:
    did = await registered(store)
    with pytest.raises(MailboxFull):
        await store.enqueue(did, [b"a" * 4_000, b"b" * 4_000, b"c" * 4_000], LATER, NOW)
    assert await counters(place) == (0, 0)
    await store.enqueue(did, [b"a" * 4_000, b"b" * 4_000], LATER, NOW)


async def test_unknown_recipients_are_refused(store: Store) -> None:
    with pytest.raises(UnknownNext):
        await store.enqueue(Identity.peer4().did, [b"x"], LATER, NOW)


async def test_mail_comes_oldest_first_within_both_bounds(store: Store) -> None:
    did = await registered(store)
    for n in range(5):
        await store.enqueue(did, [bytes([n]) * 100], LATER, NOW)
    three = await store.oldest(ALICE, None, NOW, messages=3, bytes=10**6)
    two = await store.oldest(ALICE, None, NOW, messages=9, bytes=250)
    assert [(len(listing.mail), listing.is_all) for listing in (three, two)] == [(3, False), (2, False)]
    (alone,) = (await store.oldest(ALICE, None, NOW, messages=9, bytes=10)).mail
    assert alone.body == bytes([0]) * 100
    skip = frozenset({alone.seq})
    rest = await store.oldest(ALICE, None, NOW, messages=2, bytes=10**6, without=skip)
    assert ([item.body[0] for item in rest.mail], rest.is_all) == ([1, 2], False)
    after = three.mail[1].seq
    rest = await store.oldest(ALICE, None, NOW, messages=9, bytes=10**6, without=skip, after=after)
    assert ([item.body[0] for item in rest.mail], rest.is_all) == ([2, 3, 4], True)


async def test_an_id_never_comes_back_for_another_message(store: Store) -> None:
    did = await registered(store)
    await store.enqueue(did, [b"one"], LATER, NOW)
    (one,) = (await store.oldest(ALICE, None, NOW, messages=1, bytes=10**6)).mail
    await store.acknowledge(ALICE, [one.seq], NOW)
    await store.enqueue(did, [b"two"], LATER, NOW)
    await store.acknowledge(ALICE, [one.seq], NOW)
    assert await all_mail(store) == [b"two"]


async def test_expired_mail_is_hidden_at_once_and_deleted_in_batches(store: Store) -> None:
    did = await registered(store)
    bodies = [f"{n}".encode() for n in range(EXPIRY_BATCH + 10)]
    await asyncio.gather(*(store.enqueue(did, [body], NOW + 5, NOW) for body in bodies))
    assert await all_mail(store, NOW + 5) == []
    assert (await store.queue(ALICE, None, NOW + 5)).count == 0
    assert [await store.expire(NOW + 5), await store.expire(NOW + 5)] == [EXPIRY_BATCH, 10]
    assert await store.queued() == 0


async def test_acknowledged_mail_is_forgotten_in_batches_too(store: Store, place: Place) -> None:
    did = await registered(store)
    bodies = [f"{n}".encode() for n in range(EXPIRY_BATCH + 10)]
    kept = await asyncio.gather(*(store.enqueue(did, [body], LATER, NOW) for body in bodies))
    await store.acknowledge(ALICE, [seq for each in kept for seq, _ in each.mail], NOW)
    later = NOW + Limits().acknowledged_seconds
    assert [await store.expire(later - 1) for _ in range(2)] == [0, 0]
    assert [await store.expire(later) for _ in range(3)] == [EXPIRY_BATCH, 10, 0]


async def test_what_changed_an_account_once_does_not_again(store: Store) -> None:
    did = Identity.peer4().did
    await store.update_keylist(ALICE, [Update(did, "add")], b"envelope", NOW)
    with pytest.raises(Replayed):
        await store.update_keylist(ALICE, [Update(did, "remove")], b"envelope", NOW)
    await store.enqueue(did, [b"still here"], LATER, NOW)


async def test_capabilities_are_bound_to_their_first_key_and_stay_so(store: Store, place: Place) -> None:
    near, far = hashlib.sha256(b"near").digest(), hashlib.sha256(b"far").digest()
    await store.create_channels(ALICE, [("c1", near, far)], LATER, b"envelope", NOW)
    first = await store.bind(near, b"k" * 32)
    await store.close()
    again = await place.open(Limits())
    assert await again.bind(near, b"x" * 32) == first
    other = await again.bind(far, b"x" * 32)
    assert first is not None and other is not None
    assert (first.channel, first.side, other.side) == (other.channel, 0, 1)
    assert (first.rebind_key, other.rebind_key) == (b"k" * 32, b"x" * 32)
    assert await again.bind(b"?" * 32, b"x" * 32) is None
    await again.expire(LATER)
    assert await again.bind(near, b"k" * 32) is None
    await again.close()


async def test_all_mailboxes_of_an_account_are_bounded_together(place: Place, store: Store) -> None:
    await store.close()
    store = await place.open(Limits(account_bytes=10_000))
    first, second, of_bob = await registered(store), await registered(store), await registered(store, BOB)
    await store.enqueue(first, [b"a" * 6_000], LATER, NOW)
    with pytest.raises(MailboxFull):
        await store.enqueue(second, [b"b" * 3_000, b"c" * 2_000], LATER, NOW)
    await store.enqueue(of_bob, [b"d" * 6_000], LATER, NOW)  # not another's
    assert await counters(place) == (2, 12_000)
    await store.update_keylist(ALICE, [Update(first, "remove")], b"removal", NOW)
    await store.enqueue(second, [b"e" * 10_000], LATER, NOW)
    assert await counters(place) == (2, 16_000)
    await store.close()


async def test_a_long_form_that_comes_later_is_kept(store: Store) -> None:
    account, key = Identity.peer4().did, Identity.peer4().did
    for form in (canonical, str):
        await store.enrol(form(account), NOW)
        await store.update_keylist(account, [Update(form(key), "add")], form(key).encode(), NOW)
    for form in (canonical, str):
        await store.enrol(form(account), NOW)
        assert await store.long_form(canonical(account)) == account
        assert await store.long_form(canonical(key)) == key
    assert await store.keylist(account) == [key]


async def test_a_ticket_is_good_until_its_time_and_is_not_used_up_in_vain(store: Store) -> None:
    ticket = await store.issue_ticket(1, NOW + 10)
    assert not await store.enrol(Identity.peer4().did, NOW + 10, "invitation", ticket)
    assert await store.enrol(ALICE, NOW + 9, "invitation", ticket)  # is there
    assert await store.enrol(Identity.peer4().did, NOW + 9, "invitation", ticket)
    assert not await store.enrol(Identity.peer4().did, NOW + 9, "invitation", ticket)


async def test_a_rule_holds_as_soon_as_it_is_set(store: Store) -> None:
    assert not await store.is_denied(ALICE)
    await store.set_rule(ALICE, False)
    assert await store.is_denied("did:key:zOther", ALICE)
    asked = [asyncio.create_task(store.is_denied(ALICE)) for _ in range(3)]
    await store.set_rule(ALICE, True)
    assert not await store.is_denied(ALICE)
    await asyncio.gather(*asked)
    await store.set_rule(ALICE, None)
    assert not await store.is_denied(ALICE)


async def test_so_many_accounts_are_taken_and_one_that_has_gone_makes_room(place: Place) -> None:
    store = await place.open(Limits(accounts=2))
    dids = [Identity.peer4().did for _ in range(4)]
    for did in dids[:2]:
        await store.enrol(did, NOW)
    with pytest.raises(TooMany):
        await store.enrol(dids[2], NOW)
    await store.evict(dids[0])
    await store.enrol(dids[2], NOW)  # though the highest number in the table is above the limit by now
    with pytest.raises(TooMany):
        await store.enrol(dids[3], NOW)
    assert [await store.is_enrolled(did) for did in dids] == [False, True, True, False]
    await store.close()
