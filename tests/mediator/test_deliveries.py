"""Mail in motion, with a real store and sockets that are lists: leases, delays, and what waits for whom."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mediator_parts import PATIENCE, SHORT_WHILE

from didmpc.mediator.limits import KIB, Limits
from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.mail.intake import Intake
from didmpc.mediator.mail.quotas import Quotas
from didmpc.mediator.refusals import MailboxFull, SenderQuota
from didmpc.mediator.store import Listing, Mail
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.mediation import Update

ALICE, CAROL = Identity.peer4().did, Identity.peer4().did
LIMITS = Limits(
    live_messages=4,
    mailbox_messages=10,
    mailbox_bytes=20 * KIB,
    awaiting_messages=5,
    awaiting_bytes=10 * KIB,
    pair_messages=6,
    pair_bytes=12 * KIB,
    ballast_bytes=0,
)


class Held(SqliteStore):
    """A store whose next listing can be held up between reading and answering."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        super().__init__(folder, limits)
        self.gate: asyncio.Event | None = None
        self.held_limit: int | None = None
        self.is_reading = asyncio.Event()

    async def oldest(self, *arguments: Any, **options: Any) -> Listing:
        found = await super().oldest(*arguments, **options)
        if (gate := self.gate) is not None and self.held_limit in (None, options["messages"]):
            self.gate = None
            self.is_reading.set()
            await gate.wait()
        return found


class Socket:
    """What was pushed, one body after the other."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.names: list[int] = []
        self._came = asyncio.Condition()

    async def push(self, mail: Sequence[Mail]) -> None:
        self.got += [item.body for item in mail]
        self.names += [item.seq for item in mail]
        async with self._came:
            self._came.notify_all()

    async def has(self, *bodies: bytes) -> None:
        """Wait for exactly these, in this order."""
        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(lambda: len(self.got) >= len(bodies))
        assert tuple(self.got) == bodies


class Post:
    """One mediator's mail, without its transports."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.limits = limits
        self.store = Held(folder, limits)
        self.quotas = Quotas(limits)
        self.deliveries = Deliveries(self.store, self.quotas, limits)
        self.intake = Intake(self.store, self.deliveries, self.quotas, limits)

    async def box(self, account: str = ALICE) -> str:
        did = Identity.peer4().did
        await self.store.enrol(account, time.time())
        await self.store.update_keylist(account, [Update(did, "add")], did.encode(), time.time(), None)
        return did

    async def put(self, to: str, *bodies: bytes, sender: str = "address 192.0.2.1", delay: int = 0) -> None:
        now = time.time()
        await self.intake.put(sender, to, bodies, expires=now + 100, now=now, delay_milli=delay)

    def live(self, account: str = ALICE, after: int = 0) -> Socket:
        socket = Socket()
        self.deliveries.subscribe(account, socket, socket.push, after=after)
        return socket

    async def fetch(self, socket: Socket | None = None, limit: int = 50) -> list[bytes]:
        return [item.body for item in await self.deliveries.fetch(ALICE, socket, None, limit)]

    async def acknowledge(self, *seqs: int) -> None:
        await self.deliveries.acknowledge(ALICE, seqs)


Open = Callable[[Limits], Post]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    posts: list[Post] = []

    def make(limits: Limits) -> Post:
        posts.append(Post(tmp_path, limits))
        return posts[-1]

    yield make
    for post in posts:
        post.deliveries.drop(ALICE)
        await post.store.close()


@pytest.fixture
async def post(opened: Open) -> Post:
    return opened(LIMITS)


# --- leases


async def test_a_request_that_waits_for_a_push_does_not_get_what_is_pushed(post: Post) -> None:
    """The request came first to ask, but the leases it must respect are those of when its turn comes."""
    did = await post.box()
    await post.put(did, b"one")
    post.store.gate = asyncio.Event()
    gate = post.store.gate
    socket = post.live()
    await asyncio.wait_for(post.store.is_reading.wait(), PATIENCE)  # the push has read, and not yet leased
    request = asyncio.create_task(post.fetch())
    await asyncio.sleep(0)  # it asked, and waits for its turn
    gate.set()
    await socket.has(b"one")
    assert await request == []


async def test_mail_acknowledged_while_it_is_being_listed_is_not_handed_out_again(post: Post) -> None:
    did = await post.box()
    socket = post.live()
    await post.put(did, b"one")
    await socket.has(b"one")
    post.store.gate = asyncio.Event()
    post.store.held_limit = 2  # the request's listing, and none of the push's
    gate = post.store.gate
    request = asyncio.create_task(post.fetch(socket, limit=2))
    await asyncio.wait_for(post.store.is_reading.wait(), PATIENCE)
    await post.acknowledge(*socket.names)
    gate.set()
    assert await request == []


async def test_a_lease_that_lapses_frees_the_mail_for_another_socket_and_for_requests(opened: Open) -> None:
    post = opened(replace(LIMITS, lease_seconds=SHORT_WHILE))
    did = await post.box()
    deaf, other = post.live(), post.live(after=1_000)  # for the other one it is not new
    await post.put(did, b"one")
    await deaf.has(b"one")
    await other.has(b"one")
    assert deaf.got == [b"one"]  # never twice down the same socket
    async with asyncio.timeout(PATIENCE):
        while await post.fetch() != [b"one"]:
            await asyncio.sleep(0.01)
    await post.acknowledge(*other.names)
    await post.put(did, b"two")
    async with asyncio.timeout(PATIENCE):
        while b"two" not in deaf.got + other.got:
            await asyncio.sleep(0.01)
    assert b"one" in deaf.got and b"one" in other.got
    assert all(len(set(socket.got)) == len(socket.got) for socket in (deaf, other))


async def test_what_a_closed_socket_had_goes_to_one_that_came_after_the_mail(post: Post) -> None:
    did = await post.box()
    first = post.live()
    await post.put(did, b"one", b"two")
    await first.has(b"one", b"two")
    await post.acknowledge(first.names[0])
    second = post.live(after=await post.store.newest(ALICE))
    assert await post.fetch(second) == []
    post.deliveries.close(first)
    await second.has(b"two")


async def test_an_account_that_is_dropped_gets_nothing_pushed_and_its_sockets_may_close(post: Post) -> None:
    did = await post.box()
    socket = post.live()
    await post.put(did, b"one")
    await socket.has(b"one")
    post.deliveries.drop(ALICE)
    await post.put(did, b"two")
    post.deliveries.close(socket)
    assert await post.fetch() == [b"one", b"two"]
    assert socket.got == [b"one"]


# --- delay


async def test_delayed_mail_is_neither_counted_nor_listed_nor_pushed(post: Post) -> None:
    did = await post.box()
    socket = post.live()
    await post.put(did, b"late", delay=3_600_000)
    await post.put(did, b"soon")
    await socket.has(b"soon")
    queue = await post.store.queue(ALICE, None, time.time())
    assert (queue.count, queue.bytes, await post.fetch(socket)) == (1, 4, [b"soon"])
    await post.acknowledge(*socket.names)
    assert (await post.store.queue(ALICE, None, time.time())).oldest is None
    assert (await post.store.queue(ALICE, None, time.time() + 3_601)).count == 0  # it has expired by then


async def test_delayed_mail_is_pushed_when_it_is_due_and_not_before(post: Post) -> None:
    did = await post.box()
    socket = post.live()
    began = time.time()
    await post.put(did, b"late", delay=300)
    await socket.has(b"late")  # nobody rings: it wakes by itself
    assert time.time() >= began + 0.3


async def test_delayed_mail_from_before_the_connection_is_pushed_when_it_is_due(post: Post) -> None:
    did = await post.box()
    await post.put(did, b"waits already")
    await post.put(did, b"late", delay=1000)
    socket = post.live(after=await post.store.newest(ALICE))
    await socket.has(b"late")


async def test_a_negative_delay_is_a_random_time_up_to_that(post: Post) -> None:
    boxes = [await post.box(f"did:example:{n}") for n in range(5)]
    for did in boxes:
        await post.put(did, b"x", delay=-3_600_000)
    now = time.time()
    due = [await post.store.next_due(f"did:example:{n}", now - 3_600) for n in range(5)]
    assert len(set(due)) == 5
    assert all(time < now + 3_600 for time in due)


# --- once at rest


async def test_the_same_envelope_again_is_one_entry_waiting_leased_and_acknowledged(opened: Open) -> None:
    post = opened(replace(LIMITS, acknowledged_seconds=1000.0))
    did, other = await post.box(), await post.box()
    await post.put(did, b"one", b"one")
    await post.put(did, b"one", sender="did:example:another")
    socket = post.live()
    await socket.has(b"one")
    await post.put(did, b"one")  # leased
    assert await post.store.queued() == 1
    await post.acknowledge(*socket.names)
    await post.put(did, b"one")  # its sender had lost our first answer
    assert await post.store.queued() == 0
    await post.put(other, b"one")  # for somebody else it is another message
    assert await post.store.queued() == 1
    later = time.time() + 1001
    await post.store.expire(later)
    await post.store.enqueue(did, [b"one"], later + 10, later)
    assert await post.store.queued() == 1


async def test_what_has_expired_may_be_sent_again_before_it_is_swept(post: Post) -> None:
    did = await post.box()
    now = time.time()
    await post.store.enqueue(did, [b"one"], now - 1, now - 2)
    await post.put(did, b"one")
    assert await post.fetch() == [b"one"]
    assert await post.store.queued() == 1


# --- who fills whose mailbox


async def test_one_sender_fills_its_share_and_nobody_elses(post: Post) -> None:
    did, other = await post.box(), await post.box()
    for n in range(6):
        await post.put(did, b"%d" % n, sender="did:example:loud")
    with pytest.raises(SenderQuota) as refused:
        await post.put(did, b"more", sender="did:example:loud")
    assert (refused.value.status, refused.value.retry_after) == (429, 60)
    await post.put(other, b"more", sender="did:example:loud")  # not silenced towards others
    await post.put(did, b"more", sender="did:example:quiet")
    with pytest.raises(SenderQuota):
        await post.put(did, b"x" * 13 * KIB, sender="did:example:quiet")


async def test_many_at_once_cannot_pass_the_share_together(post: Post) -> None:
    did = await post.box()
    results = await asyncio.gather(*(post.put(did, b"%d" % n) for n in range(20)), return_exceptions=True)
    assert sum(result is None for result in results) == 6
    assert await post.store.queued() == 6
    await post.acknowledge(*range(1, 7))
    await post.put(did, b"again")


async def test_a_refused_message_takes_nothing_of_the_share(post: Post) -> None:
    did = await post.box()
    await post.put(did, *(b"b%d" % n for n in range(6)), sender="b")
    await post.put(did, *(b"c%d" % n for n in range(4)), sender="c")
    for n in range(10):
        with pytest.raises(MailboxFull):
            await post.put(did, b"refused %d" % n, sender="a")
    await post.acknowledge(*range(1, 11))
    await post.put(did, *(b"a%d" % n for n in range(6)), sender="a")


async def test_delivered_mail_counts_neither_for_its_sender_nor_for_the_mailbox(post: Post) -> None:
    did = await post.box()
    for n in range(6):
        await post.put(did, b"a%d" % n, sender="a")
    for n in range(4):
        await post.put(did, b"b%d" % n, sender="b")
    with pytest.raises(MailboxFull):
        await post.put(did, b"c", sender="c")
    assert len(await post.fetch(limit=3)) == 3  # handed out by a request, and not acknowledged
    for n in range(3):
        await post.put(did, b"more%d" % n, sender="a")
    with pytest.raises(MailboxFull):
        await post.put(did, b"c", sender="c")
    # What is handed out may not make the mailbox grow for ever either.
    await post.fetch(limit=50)
    for n in range(2):
        await post.put(did, b"again%d" % n, sender="c")
    with pytest.raises(MailboxFull):
        await post.put(did, b"c", sender="c")
    assert await post.store.queued() == LIMITS.mailbox_messages + LIMITS.awaiting_messages


async def test_shares_of_expired_mail_are_given_back(opened: Open) -> None:
    post = opened(replace(LIMITS, pair_messages=1))
    did = await post.box()
    now = time.time()
    await post.intake.put("a", did, [b"one"], expires=now + 60, now=now)
    with pytest.raises(SenderQuota):
        await post.put(did, b"two", sender="a")
    await post.intake.put("a", did, [b"two"], expires=now + 90, now=now + 61)


def test_what_is_remembered_of_senders_is_bounded_and_says_nothing_of_them() -> None:
    quotas = Quotas(replace(LIMITS, tracked_messages=3))
    pair = quotas.pair("did:example:sender", "did:example:recipient")
    assert b"example" not in pair
    assert pair != Quotas(LIMITS).pair("did:example:sender", "did:example:recipient")
    for seq in range(100):
        quotas.put(pair, [(seq, 1)], expires=10)
    quotas.reserve(pair, [1, 1, 1], now=1)  # no more than three are known: six may wait
    with pytest.raises(SenderQuota):
        quotas.reserve(pair, [1], now=1)
