"""Packets of sessions in mailboxes: limits of their own, beside those of mail."""

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import SMALL, Client

from didmpc.mediator.app import running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import KIB
from didmpc.mediator.refusals import MailboxFull
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import canonical
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.mediation import Update
from didmpc.protocols.messages.routing import forward
from didmpc.protocols.session.packet_json import JsonSealer, is_packet

LIMITS = replace(
    SMALL,
    session_messages=5,
    session_bytes=20 * KIB,
    pair_messages=8,
    awaiting_messages=2,
    awaiting_bytes=KIB,
)
SESSION_QUOTA = "e.p.me.res.storage.session_quota"


class Sealing:
    """Packets of one session, each another."""

    def __init__(self) -> None:
        self._sealer = JsonSealer(bytes(32), bytes(8))

    def packets(self, count: int, size: int = 40) -> list[bytes]:
        return [self._sealer.seal(bytes(size)) for _ in range(count)]


@pytest.fixture
def sealing() -> Sealing:
    return Sealing()


@pytest.fixture
async def people(tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[tuple[Client, Client]]:
    """Alice and Bob at a mediator with small limits."""
    async with running(Home(tmp_path / "small"), port=0, limits=LIMITS) as mediator:
        yield await Client(http, mediator.did).enrol(), await Client(http, mediator.did).enrol()


async def refusal(client: Client, to: str, *envelopes: bytes) -> str:
    status, body = await client.post(client.forward(to, *envelopes))
    assert status == 429
    return str(json.loads(body)["code"])


async def test_sessions_fill_their_own_room_and_none_of_the_mails(
    people: tuple[Client, Client], sealing: Sealing
) -> None:
    alice, bob = people
    did = await alice.new_did()
    for packet in sealing.packets(5):
        assert await bob.send(did, packet) == 202
    assert await refusal(bob, did, *sealing.packets(1)) == SESSION_QUOTA
    for n in range(8):  # a sender's whole share
        assert await bob.send(did, b'{"mail":%d}' % n) == 202
    assert await alice.waiting() == 13
    assert len(await alice.fetch(3)) == 3


async def test_mail_takes_no_room_from_sessions(people: tuple[Client, Client], sealing: Sealing) -> None:
    alice, bob = people
    did = await alice.new_did()
    for n in range(8):
        assert await bob.send(did, b'{"mail":%d}' % n) == 202
    assert await refusal(bob, did, b'{"mail":8}') == "e.p.me.res.storage.sender_quota"
    assert await bob.send(did, *sealing.packets(5)) == 202
    assert await refusal(bob, did, *sealing.packets(1)) == SESSION_QUOTA


async def test_one_sender_has_a_share_of_that_room(
    tmp_path: Path, http: aiohttp.ClientSession, sealing: Sealing
) -> None:
    limits = replace(LIMITS, pair_messages=3)
    async with running(Home(tmp_path / "shares"), port=0, limits=limits) as mediator:
        alice, bob, carol = [await Client(http, mediator.did).enrol() for _ in range(3)]
        did = await alice.new_did()

        async def put(sender: Client, count: int) -> tuple[int, bytes]:
            message = forward(did, sealing.packets(count), mediator.did)
            return await sender.post(sender.pack(message))

        assert (await put(bob, 3))[0] == 202
        status, body = await put(bob, 1)
        assert (status, json.loads(body)["code"]) == (429, SESSION_QUOTA)
        assert (await put(carol, 2))[0] == 202
        assert await alice.waiting() == 5


async def test_their_bytes_count_too(people: tuple[Client, Client], sealing: Sealing) -> None:
    alice, bob = people
    did = await alice.new_did()
    assert await bob.send(did, *sealing.packets(2, 6 * KIB)) == 202
    assert await refusal(bob, did, *sealing.packets(1, 6 * KIB)) == SESSION_QUOTA
    assert await bob.send(did, *sealing.packets(1)) == 202


@pytest.mark.parametrize("bound", ["mailbox_bytes", "account_bytes"])
async def test_and_take_no_bytes_from_mail(tmp_path: Path, sealing: Sealing, bound: str) -> None:
    store = SqliteStore(tmp_path, replace(LIMITS, ballast_bytes=0, **{bound: 12 * KIB}))
    alice, box, now = Identity.peer4().did, Identity.peer4().did, time.time()
    await store.enrol(alice, now)
    await store.update_keylist(alice, [Update(box, "add")], b"1", now)
    await store.enqueue(box, sealing.packets(2, 6 * KIB), now + 60, now, packets=True)
    await store.enqueue(box, [b"x" * 10 * KIB], now + 60, now)
    with pytest.raises(MailboxFull):
        await store.enqueue(box, [b"y" * 4 * KIB], now + 60, now)
    await store.close()


async def test_one_mailbox_that_is_full_leaves_the_others_alone(
    people: tuple[Client, Client], sealing: Sealing
) -> None:
    alice, bob = people
    full, other = await alice.new_did(), await alice.new_did()
    assert await bob.send(full, *sealing.packets(5)) == 202
    assert await refusal(bob, full, *sealing.packets(1)) == SESSION_QUOTA
    assert await bob.send(other, *sealing.packets(5)) == 202


async def test_there_is_room_again_for_what_was_fetched_and_acknowledged(
    people: tuple[Client, Client], sealing: Sealing
) -> None:
    alice, bob = people
    did = await alice.new_did()
    packets = sealing.packets(8)
    assert await bob.send(did, *packets[:5]) == 202
    mail = await alice.fetch(3)
    assert [body for _, body in mail] == packets[:3]
    # Handed out it is the recipient's affair: as much more is taken in, up to what LIMITS says.
    assert await bob.send(did, packets[5]) == 202
    await alice.acknowledge(*(name for name, _ in mail))
    assert await bob.send(did, *packets[6:]) == 202
    assert await alice.waiting() == 5
    assert [body for _, body in await alice.fetch(9)] == packets[3:6]


async def test_what_carries_both_keeps_the_mail_where_there_is_no_room_for_packets(
    people: tuple[Client, Client], sealing: Sealing
) -> None:
    alice, bob = people
    did = await alice.new_did()
    assert await bob.send(did, *sealing.packets(5)) == 202
    both = (b'{"mail":1}', *sealing.packets(1))
    for _ in range(2):  # its sender tries again
        assert await refusal(bob, did, *both) == SESSION_QUOTA
    assert await alice.waiting() == 6


async def test_packets_are_kept_for_a_quarter_of_an_hour_or_as_long_as_their_sender_says(
    tmp_path: Path, http: aiohttp.ClientSession, sealing: Sealing
) -> None:
    home = Home(tmp_path / "mediator")
    async with running(home, port=0) as mediator:
        alice, bob = [await Client(http, mediator.did).enrol() for _ in range(2)]
        did = await alice.new_did()
        now = time.time()
        assert await bob.send(did, *sealing.packets(1)) == 202
        assert await bob.send(did, *sealing.packets(1), expires_time=int(now + 3600)) == 202
        assert await bob.send(did, *sealing.packets(1), expires_time=int(now + 300)) == 202
        assert await bob.send(did, b'{"mail":1}', expires_time=int(now + 3600)) == 202
        assert await alice.waiting() == 4
    store = SqliteStore(home.root, LIMITS)

    async def left(seconds: float) -> int:
        return (await store.queue(alice.identity.did, None, now + seconds)).count

    assert [await left(seconds) for seconds in (240, 360, 840, 1200, 3700)] == [4, 3, 3, 1, 0]
    await store.close()


async def test_the_account_has_a_bound_and_totals_stay_exact_whatever_becomes_of_a_mailbox(
    tmp_path: Path, sealing: Sealing
) -> None:
    alice, carol = Identity.peer4().did, Identity.peer4().did
    boxes = [Identity.peer4().did for _ in range(3)]
    packets = sealing.packets(9)
    size = len(packets[0])
    limits = replace(LIMITS, account_session_bytes=6 * size, ballast_bytes=0)
    store = SqliteStore(tmp_path, limits)
    now = time.time()
    for account in (alice, carol):
        await store.enrol(account, now)
    await store.update_keylist(alice, [Update(box, "add") for box in boxes], b"1", now)

    async def put(box: int, *envelopes: bytes) -> str:
        try:
            await store.enqueue(boxes[box], envelopes, now + 60, now, packets=True)
        except Exception as problem:
            return str(getattr(problem, "code", problem))
        return "kept"

    assert await put(0, *packets[:3]) == await put(1, *packets[3:6]) == "kept"
    assert await put(2, packets[6]) == SESSION_QUOTA
    await store.enqueue(boxes[2], [b'{"mail":1}'], now + 60, now)
    # One mailbox moves to another account, one is removed: what they held no longer counts here.
    proven = {canonical(boxes[0]): 1}
    moved = await store.update_keylist(carol, [Update(boxes[0], "add")], b"2", now, None, proven)
    assert [update.result for update in moved] == ["success"]
    await store.update_keylist(alice, [Update(boxes[1], "remove")], b"3", now)
    assert await put(2, packets[6]) == "kept"
    with sqlite3.connect(tmp_path / "mediator.sqlite3") as db:
        totals = db.execute("SELECT packet_bytes FROM account ORDER BY aid").fetchall()
        assert totals == [(size,), (3 * size,)]
    db.close()
    await store.expire(now + 60)
    with sqlite3.connect(tmp_path / "mediator.sqlite3") as db:
        left = db.execute("SELECT sum(n), sum(bytes), sum(packets), sum(packet_bytes) FROM box").fetchone()
        assert left == (0, 0, 0, 0)
        assert db.execute("SELECT bytes, packet_bytes FROM account").fetchall() == [(0, 0), (0, 0)]
    db.close()
    await store.close()


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"[]",
        b"{}",
        b'{"protected": 5}',
        b'{"protected": "*"}',
        b'{"protected": "e30"}',
        b'{"protected": "%s"}' % b64url(b'{"alg":"ECDH-1PU+A256KW"}').encode(),
        b'{"protected": "%s"}' % b64url(b'{"alg":["dir"]}').encode(),
        b'{"protected": "%s"}' % (b"e" * 100_000),
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_what_is_no_packet_counts_as_mail(envelope: bytes) -> None:
    assert not is_packet(envelope)


def test_a_packet_is_known_by_its_algorithm_however_it_is_written(sealing: Sealing) -> None:
    (packet,) = sealing.packets(1)
    assert is_packet(packet)
    assert is_packet(json.dumps(json.loads(packet), indent=2, sort_keys=True).encode())
    header = b64url(b'{"typ": "application/didcomm-encrypted+json", "alg": "dir"}')
    assert is_packet(json.dumps({"ciphertext": "AA", "protected": header}).encode())
