"""Several nodes on one PostgreSQL: what each of them does at the same time comes out as if it were one."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from postgres import Database, Server
from store_parts import InPostgres, counters

from didmpc.mediator.host.home import Home, Settings
from didmpc.mediator.limits import Limits
from didmpc.mediator.operator.methods import Operator
from didmpc.mediator.refusals import (
    AccountExists,
    DiskFull,
    MailboxFull,
    Refusal,
    Replayed,
    SessionsFull,
    TooMany,
    TooMuchOutgoing,
)
from didmpc.mediator.store import EXPIRY_BATCH, Parcel, StoreFailed
from didmpc.mediator.store.opening import open_store
from didmpc.mediator.store.postgres import PostgresStore
from didmpc.mediator.store.postgres import connection as connections
from didmpc.mediator.store.postgres.schema import STEPS
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.mediation import Update

NOW, LATER = 1_000_000.0, 2_000_000.0
LIMITS = replace(
    Limits(),
    mailbox_messages=20,
    mailbox_bytes=100_000,
    account_bytes=150_000,
    session_messages=10,
    channels_per_account=5,
    links_per_account=3,
    keys_per_account=8,
    outgoing_messages_per_host=10,
    accounts=50,
)
DIDS = [Identity.peer4().did for _ in range(4)]
ALICE, BOB, *_ = DIDS


@pytest.fixture
async def nodes(database: Database, tmp_path: Path) -> AsyncIterator[list[PostgresStore]]:
    # All at once, so that they meet while the tables are made.
    nodes = await asyncio.gather(*(PostgresStore.open(database.dsn, tmp_path, LIMITS) for _ in range(3)))
    for did in DIDS:
        await nodes[0].enrol(did, NOW)
    yield nodes
    await asyncio.gather(*(node.close() for node in nodes))


async def sums(database: Database, tmp_path: Path) -> tuple[int, int]:
    return await counters(InPostgres(database, tmp_path))


async def outcomes(*calls: Awaitable[Any]) -> list[Any]:
    """Each result, or the refusal that came instead of it."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Refusal):
            raise result
    return results


def done(results: list[Any]) -> list[Any]:
    return [result for result in results if not isinstance(result, Refusal)]


async def box(node: PostgresStore, account: str = ALICE, did: str | None = None) -> str:
    did = did or Identity.peer4().did
    await node.update_keylist(account, [Update(did, "add")], random.randbytes(16), NOW)
    return did


async def ids(node: PostgresStore, account: str = ALICE) -> list[int]:
    return [item.seq for item in (await node.oldest(account, None, NOW, messages=999, bytes=10**9)).mail]


async def test_the_same_envelope_at_every_node_is_one_message(nodes: list[PostgresStore]) -> None:
    did = await box(nodes[0])
    kept = await asyncio.gather(*(nodes[n % 3].enqueue(did, [b"one", b"two"], LATER, NOW) for n in range(12)))
    assert sorted(len(each.mail) for each in kept) == [0] * 11 + [2]
    assert len(await ids(nodes[1])) == 2


async def test_a_mailbox_takes_as_many_as_it_may_from_all_nodes_together(
    nodes: list[PostgresStore], database: Database, tmp_path: Path
) -> None:
    did = await box(nodes[0])
    mail = [nodes[n % 3].enqueue(did, [b"%d" % n, b"+%d" % n], LATER, NOW) for n in range(30)]
    packets = [nodes[n % 3].enqueue(did, [b"p%d" % n], LATER, NOW, packets=True) for n in range(15)]
    results = await outcomes(*mail, *packets)
    assert len(done(results[:30])) == 10  # of two each
    assert len(done(results[30:])) == 10
    assert {type(each) for each in results if isinstance(each, Refusal)} == {MailboxFull, SessionsFull}
    assert (await sums(database, tmp_path))[0] == 30


async def test_all_mailboxes_of_an_account_are_bounded_together(
    nodes: list[PostgresStore], database: Database, tmp_path: Path
) -> None:
    boxes = [await box(nodes[0]) for _ in range(3)]
    bodies = [random.randbytes(30_000) for _ in range(9)]
    results = await outcomes(
        *(nodes[n % 3].enqueue(boxes[n // 3], [body], LATER, NOW) for n, body in enumerate(bodies))
    )
    assert len(done(results)) == 5
    assert (await sums(database, tmp_path))[1] == 150_000


async def test_what_is_acknowledged_at_two_nodes_is_subtracted_once_and_stays_away(
    nodes: list[PostgresStore], database: Database, tmp_path: Path
) -> None:
    did = await box(nodes[0])
    bodies = [b"%d" % n for n in range(20)]
    await asyncio.gather(*(nodes[0].enqueue(did, [body], LATER, NOW) for body in bodies))
    seqs = await ids(nodes[1])
    await asyncio.gather(
        *(node.acknowledge(ALICE, random.sample(seqs, 20), NOW) for node in nodes),
        *(nodes[2].acknowledge(BOB, [seq], NOW) for seq in seqs),
        *(nodes[1].expire(NOW) for _ in range(3)),
    )
    puts = (nodes[n % 3].enqueue(did, [body], LATER, NOW) for n, body in enumerate(bodies))
    again = await asyncio.gather(*puts)
    assert all(not kept.mail for kept in again)
    assert await sums(database, tmp_path) == (0, 0)


async def test_ids_are_in_the_order_of_commits_in_all_mailboxes_of_an_account(
    nodes: list[PostgresStore],
) -> None:
    boxes = [await box(nodes[0]) for _ in range(4)]
    sent: list[int] = []
    got: list[int] = []

    async def send(number: int) -> None:
        for turn in range(5):
            kept = await nodes[number % 3].enqueue(boxes[number], [b"%d %d" % (number, turn)], LATER, NOW)
            sent.extend(seq for seq, _ in kept.mail)

    async def watch() -> None:
        while len(got) < 20:  # whoever asks for what came after the last one misses none
            after = max(got, default=0)
            listing = await nodes[0].oldest(ALICE, None, NOW, messages=999, bytes=10**9, after=after)
            got.extend(item.seq for item in listing.mail)

    async with asyncio.timeout(120):
        await asyncio.gather(watch(), *(send(number) for number in range(4)))
    assert got == sorted(sent)
    assert await nodes[1].newest(ALICE) == got[-1]


async def test_expiry_and_everything_else_at_once_keep_the_counts_exact(
    nodes: list[PostgresStore], database: Database, tmp_path: Path
) -> None:
    """Random calls at three nodes, on the same mailboxes: nobody waits for ever, and all adds up."""
    chance = random.Random(7)
    shared = [await box(nodes[0], account) for account in DIDS for _ in range(2)]
    clock = NOW

    async def one(node: PostgresStore) -> None:
        nonlocal clock
        clock += 0.01
        account, did = chance.choice(DIDS), chance.choice(shared)
        match chance.randrange(9):
            case 0 | 1 | 2 | 3:
                sizes = [chance.randrange(1, 5_000) for _ in range(chance.randrange(1, 4))]
                bodies = [chance.randbytes(size) for size in sizes]
                await node.enqueue(
                    did, bodies, clock + chance.choice([0.05, 100]), clock, packets=chance.random() < 0.3
                )
            case 4 | 5:
                await node.acknowledge(account, await ids(node, account), clock)
            case 6:
                await node.expire(clock)
            case 7:
                action: Any = chance.choice(["add", "remove"])
                proven = {did: int(clock)} if chance.random() < 0.5 else {}
                envelope, created = chance.randbytes(8), int(clock) - chance.choice([0, 10**7])
                await node.update_keylist(account, [Update(did, action)], envelope, clock, created, proven)
            case 8:
                await node.evict(account)
                await node.enrol(account, clock)

    async def work(node: PostgresStore) -> None:
        for _ in range(40):
            await outcomes(one(node))

    async with asyncio.timeout(300):
        await asyncio.gather(*(work(node) for node in nodes for _ in range(3)))
    await sums(database, tmp_path)
    assert [await node.queued() for node in nodes] == [(await sums(database, tmp_path))[0]] * 3


async def test_mail_is_swept_by_one_node_at_a_time(nodes: list[PostgresStore]) -> None:
    roomy = [await box(nodes[0], account) for account in DIDS]
    for did in roomy:
        await asyncio.gather(*(nodes[0].enqueue(did, [b"%d" % n], NOW + 1, NOW) for n in range(20)))
    assert sum(await asyncio.gather(*(node.expire(NOW + 1) for node in nodes))) == 80 < EXPIRY_BATCH


async def test_an_account_is_opened_once_and_no_more_than_there_may_be(nodes: list[PostgresStore]) -> None:
    did = Identity.peer4().did
    opened = await outcomes(*(node.enrol(did, NOW, envelope=b"request") for node in nodes))
    assert done(opened) == [True] * 3
    others = [f"did:example:{n}" for n in range(60)]
    results = await outcomes(*(nodes[n % 3].enrol(other, NOW) for n, other in enumerate(others)))
    assert len(done(results)) == 50 - len(DIDS) - 1
    assert (await nodes[0].totals()).accounts == 50


async def test_a_ticket_is_used_as_often_as_it_says_at_all_nodes_together(nodes: list[PostgresStore]) -> None:
    ticket = await nodes[0].issue_ticket(3, LATER)
    dids = [f"did:example:{n}" for n in range(9)]
    results = await asyncio.gather(
        *(nodes[n % 3].enrol(did, NOW, "invitation", ticket) for n, did in enumerate(dids))
    )
    assert results.count(True) == 3


async def test_what_acts_once_acts_at_one_node(nodes: list[PostgresStore]) -> None:
    results = await outcomes(*(nodes[n % 3].act_once(ALICE, b"envelope", NOW) for n in range(6)))
    assert len(done(results)) == 1
    assert sum(isinstance(result, Replayed) for result in results) == 5


async def test_a_key_goes_to_one_account_and_to_whoever_has_proven_it_last(
    nodes: list[PostgresStore], database: Database, tmp_path: Path
) -> None:
    did = Identity.peer4().did
    keys = [nodes[n % 3].update_keylist(DIDS[n % 4], [Update(did, "add")], b"%d" % n, NOW) for n in range(4)]
    results = [updated[0].result for updated in await asyncio.gather(*keys)]
    assert sorted(results) == ["client_error"] * 3 + ["success"]
    canonical_did = did.rsplit(":", 1)[0]
    await nodes[0].enqueue(did, [b"waits"], LATER, NOW)
    claims = [
        nodes[n % 3].update_keylist(
            DIDS[n], [Update(did, "add")], b"claim %d" % n, NOW, proven={canonical_did: 10 + n}
        )
        for n in range(4)
    ]
    await asyncio.gather(*claims)
    assert len(await ids(nodes[0], DIDS[3])) == 1
    assert await sums(database, tmp_path) == (1, 5)


async def test_keys_channels_and_links_are_counted_over_all_nodes(nodes: list[PostgresStore]) -> None:
    keys = await asyncio.gather(
        *(
            nodes[n % 3].update_keylist(ALICE, [Update(Identity.peer4().did, "add")], b"key %d" % n, NOW)
            for n in range(12)
        )
    )
    assert [updated[0].result for updated in keys].count("success") == 8
    channels = await outcomes(
        *(
            nodes[n % 3].create_channels(ALICE, [(f"c{n}", b"n%d" % n, b"f%d" % n)], LATER, b"c%d" % n, NOW)
            for n in range(9)
        )
    )
    links = await outcomes(
        *(nodes[n % 3].keep_link(ALICE, f"l{n}", "oob", LATER, b"l%d" % n, NOW) for n in range(9))
    )
    assert (len(done(channels)), len(done(links))) == (5, 3)
    assert {type(each) for each in channels + links if isinstance(each, Refusal)} == {TooMany}


async def test_a_capability_is_bound_to_one_of_two_keys(nodes: list[PostgresStore]) -> None:
    await nodes[0].create_channels(ALICE, [("c", b"near", b"far")], LATER, b"envelope", NOW)
    ends = await asyncio.gather(*(nodes[n % 3].bind(b"near", b"key %d" % n) for n in range(6)))
    assert len({end.rebind_key for end in ends if end is not None}) == 1
    revoked = await asyncio.gather(*(node.revoke_channels(ALICE, ["c"]) for node in nodes))
    assert sorted(len(each) for each in revoked) == [0, 0, 1]


async def test_an_account_moves_once(nodes: list[PostgresStore]) -> None:
    new = Identity.peer4().did
    moves = [nodes[n].move_account(DIDS[n], new, b"statement %d" % n, NOW, None) for n in range(3)]
    results = await outcomes(*moves, nodes[0].enrol(new, NOW))
    assert results[:3].count(True) <= 1
    assert all(isinstance(each, bool | AccountExists) for each in results)
    same = [node.move_account(DIDS[3], f"did:example:{n}", b"s", NOW, None) for n, node in enumerate(nodes)]
    results = await outcomes(*same)
    assert results.count(True) == 1


async def test_a_parcel_is_given_to_one_node_until_it_is_given_back(nodes: list[PostgresStore]) -> None:
    parcels = [Parcel("https://there", "there", b"%d" % n, b"h%d" % n) for n in range(12)]
    results = await outcomes(
        *(
            nodes[n % 3].put_outgoing([each], due=NOW, expires=LATER, now=NOW)
            for n, each in enumerate(parcels)
        )
    )
    assert len(done(results)) == 10
    assert {type(each) for each in results if isinstance(each, Refusal)} == {TooMuchOutgoing}
    given = await asyncio.gather(*(node.due_outgoing(NOW, 4) for node in nodes))
    all_ids = [parcel.id for each in given for parcel in each]
    assert len(all_ids) == len(set(all_ids)) == 10
    assert await nodes[0].due_outgoing(NOW, 99) == []
    await nodes[1].give_back_outgoing(all_ids[:2])
    await nodes[1].postpone_outgoing(all_ids[2], NOW + 5)
    await nodes[1].end_outgoing(all_ids[3])
    assert {parcel.id for parcel in await nodes[2].due_outgoing(NOW, 99)} == set(all_ids[:2])
    assert [parcel.tries for parcel in await nodes[2].due_outgoing(NOW + 5, 99)] == [1]
    assert await nodes[0].outgoing() == 9


async def test_parcels_of_a_node_that_is_no_more_are_sent_by_another(
    nodes: list[PostgresStore], database: Database
) -> None:
    await nodes[0].put_outgoing([Parcel("u", "h", b"b", b"d")], due=NOW, expires=LATER, now=NOW)
    assert len(await nodes[0].due_outgoing(NOW, 9)) == 1
    db = await asyncpg.connect(database.dsn)
    await db.execute("UPDATE outgoing SET lease_until = extract(epoch FROM clock_timestamp()) - 1")
    await db.close()
    assert len(await nodes[1].due_outgoing(NOW, 9)) == 1


async def test_a_rule_is_heard_of_at_other_nodes(
    nodes: list[PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await nodes[1].is_denied(ALICE)
    await nodes[0].set_rule(ALICE, False)
    async with asyncio.timeout(120):
        while not await nodes[1].is_denied(ALICE):
            await asyncio.sleep(0.1)


async def test_text_that_postgresql_cannot_keep_is_kept_as_far_as_it_goes(nodes: list[PostgresStore]) -> None:
    await nodes[0].keep_operator_message(ALICE, "a\0b", NOW)
    assert [message.text for message in await nodes[1].operator_messages()] == ["a\N{REPLACEMENT CHARACTER}b"]


async def test_what_cannot_be_kept_fails_alone(nodes: list[PostgresStore], database: Database) -> None:
    did = await box(nodes[0])
    db = await asyncpg.connect(database.dsn)
    await db.execute("ALTER TABLE msg ADD CHECK (size <> 3)")
    await db.close()
    bodies = [b"xxx" if n == 4 else b"%d" % n for n in range(10)]
    calls = [nodes[0].enqueue(did, [body], LATER, NOW) for body in bodies]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, StoreFailed) for result in results] == [n == 4 for n in range(10)]
    seqs = await ids(nodes[0])
    assert len(seqs) == 9
    await nodes[0].acknowledge(ALICE, [*seqs, -1, 0, 1 << 63, 1 << 90], NOW)
    assert await ids(nodes[0]) == []


async def test_a_disk_of_postgresql_that_is_full_is_said_in_the_words_of_a_full_disk(
    nodes: list[PostgresStore], database: Database
) -> None:
    did = await box(nodes[0])
    db = await asyncpg.connect(database.dsn)
    await db.execute(
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;"
        "CREATE TRIGGER no_space BEFORE INSERT ON msg EXECUTE FUNCTION no_space()"
    )
    with pytest.raises(DiskFull):
        await nodes[0].enqueue(did, [b"x"], LATER, NOW)
    await db.execute("DROP TRIGGER no_space ON msg")
    await db.close()
    await nodes[0].enqueue(did, [b"x"], LATER, NOW)


async def test_who_lost_the_server_in_a_commit_puts_it_once_and_learns_its_id(
    nodes: list[PostgresStore], database: Database, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    did = await box(nodes[0])
    stop = asyncio.Event()

    async def cut() -> None:
        """Tear all connections of the nodes, again and again, and ever less often, so that it ends."""
        pause = 0.05
        while not stop.is_set():
            await postgres_server.admin(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{database.name}' AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(pause)
            pause *= 1.1

    cutting = asyncio.create_task(cut())
    kept: dict[bytes, int] = {}

    async def put(number: int) -> None:
        body = b"%d" % number
        for _ in range(50):
            try:
                found = await nodes[number % 3].enqueue(did, [body], LATER, NOW)
            except StoreFailed:
                continue  # as its sender would
            if found.mail:
                kept[body] = found.mail[0][0]
            return
        raise AssertionError("it was never taken in")

    await asyncio.gather(*(put(number) for number in range(20)))
    stop.set()
    await cutting
    listing = await nodes[0].oldest(ALICE, None, NOW, messages=99, bytes=10**6)
    assert {item.body: item.seq for item in listing.mail}.items() >= kept.items()
    assert len(listing.mail) == 20


async def test_probing_tells_whether_postgresql_can_be_written_to(
    nodes: list[PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    await nodes[0].probe()

    async def lost(url: str) -> None:
        raise OSError("gone")

    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    monkeypatch.setattr(connections, "_connect", lost)
    for link in nodes[0].postgres._idle:
        link.connection.terminate()
    with pytest.raises(StoreFailed, match="cannot be reached"):
        await nodes[0].probe()


async def test_the_operator_is_told_where_mail_is_and_how_to_back_it_up(
    nodes: list[PostgresStore], database: Database, tmp_path: Path
) -> None:
    settings = Settings.new().listening("127.0.0.1", 1, None)
    methods = Operator(Home(tmp_path), settings, nodes[0]).methods()
    status = await methods["status"]({})
    assert (status["store"]["url"], status["store"]["standbys"]) == (database.url, "")
    assert [warning.split(":")[0] for warning in status["store"]["warnings"]] == [
        "PostgreSQL runs with fsync = off",  # as the server of these tests does
        "PostgreSQL runs with full_page_writes = off",
    ]
    with pytest.raises(LocalMisuse, match="PostgreSQL, which has backups of its own") as error:
        await methods["backup"]({"file": str(tmp_path / "backup.tar")})
    assert f"pg_dump --format=custom --file=FILE '{database.url}'" in error.value.fix


async def test_tables_of_a_newer_version_are_left_alone(
    nodes: list[PostgresStore], database: Database
) -> None:
    db = await asyncpg.connect(database.dsn)
    assert await db.fetchval("SELECT version FROM store_version") == len(STEPS)
    await db.execute("UPDATE store_version SET version = 99")
    await db.close()
    with pytest.raises(LocalMisuse, match="another version"):
        await open_store(Home(Path("/nowhere")), LIMITS, database.dsn)


@pytest.mark.parametrize(
    "broken, said",
    [
        (lambda dsn: dsn.replace("didmpc:", "nobody:"), "does not let the mediator in"),
        (lambda dsn: f"{dsn}_not", "There is no database"),
        (lambda dsn: f"{dsn}?sslmode=verify-full&sslrootcert=/nowhere", "cannot be (used|reached)"),
        (lambda dsn: dsn.replace("127.0.0.1:", "127.0.0.1:1,127.0.0.2:"), "cannot be reached"),
    ],
    ids=["user", "database", "certificate", "address"],
)
async def test_why_it_cannot_be_opened_is_said_in_words_without_the_password(
    database: Database, tmp_path: Path, broken: Any, said: str
) -> None:
    with pytest.raises(LocalMisuse, match=said) as error:
        await open_store(Home(tmp_path), LIMITS, broken(database.dsn))
    assert error.value.fix
    assert database.server.password not in str(error.value)
