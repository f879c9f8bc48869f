"""What only a real server does, with one server: it recovers without standbys, and it is promoted."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster_parts.servers import Servers
from postgres import Binaries

from didmpc.mediator.cluster.tables import Tables
from didmpc.mediator.limits import Limits
from didmpc.mediator.store import StoreFailed, StoreUnsure
from didmpc.mediator.store.postgres import PostgresStore, connection
from didmpc.mediator.store.postgres.connection import Postgres
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.mediation import Update

LEASE = 60.0
ENDED = "UPDATE node SET lease_until = clock_timestamp() - interval '1 h'"


@pytest.fixture
async def servers(programs: Binaries, workplace: Path) -> AsyncIterator[Servers]:
    """One, which waits for nobody."""
    async with Servers(programs, workplace / "servers", count=1) as started:
        yield started


async def test_what_a_server_shows_after_it_recovered_alone_is_read_once_a_standby_has_it(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, now = servers.primary, time.time()
    store = await PostgresStore.open(servers.dsn_with_password, tmp_path, Limits())
    alice = Identity.peer4().did
    await store.enrol(alice, now)
    await store.update_keylist(alice, [Update(alice, "add")], b"envelope", now)

    async def waiting() -> int:
        return len((await store.oldest(alice, None, now, messages=9, bytes=1000)).mail)

    monkeypatch.setattr(connection, "PATIENCE", 1.0)
    await servers.configure(server, synchronous_standby_names="away")
    with pytest.raises(StoreUnsure):
        await store.enqueue(alice, [b"promised to nobody"], now + 1000, now)
    assert await waiting() == 0

    servers.kill(server)
    await servers.start(server)
    assert await servers.ask(server, "SELECT count(*) FROM msg") == 1
    with pytest.raises(StoreFailed):
        await waiting()
    tables = Tables(Postgres(servers.dsn_with_password))
    assert not (await tables.beat(1, LEASE, {})).is_held, "a heartbeat waits for no standby"

    await servers.configure(server, synchronous_standby_names="")
    monkeypatch.setattr(connection, "PATIENCE", 60.0)
    assert await waiting() == 1
    await tables.close()
    await store.close()


async def test_under_a_primary_that_was_just_promoted_every_node_is_there(
    servers: Servers, programs: Binaries, tmp_path: Path
) -> None:
    server = servers.primary
    store = await PostgresStore.open(servers.dsn_with_password, tmp_path, Limits())
    await store.close()
    tables = Tables(Postgres(servers.dsn_with_password))
    first, second = [await tables.register(f"127.0.0.1:{n}", f"key {n}", "1.0", LEASE) for n in (1, 2)]
    await tables.claim(first, {"an account": True})
    before = await tables.beat(second, LEASE, {})
    # As far as a standby knows that did not hear of the last beats:
    await servers.ask(server, f"{ENDED} WHERE id = {first}")
    assert [node.is_there for node in await tables.nodes()] == [False, True]

    servers.stop_hard(server)
    standby = server.data / "standby.signal"
    standby.touch()
    programs.own(standby)
    await servers.start(server)
    assert await servers.ask(server, "SELECT pg_promote()")

    assert [node.is_there for node in await tables.nodes()] == [True, True]
    assert (await tables.claim(second, {"an account": False}))["an account"].node == first
    beat = await tables.beat(second, LEASE, {})
    assert beat.is_held and beat.term != before.term
    assert [node.is_there for node in beat.nodes] == [True, True]
    assert (await tables.beat(first, LEASE, {})).is_held
    # From there on leases are worth what they say.
    await servers.ask(server, f"{ENDED} WHERE id = {first}")
    assert [node.is_there for node in await tables.nodes()] == [False, True]
    assert (await tables.claim(second, {"an account": False}))["an account"].node == second
    await tables.close()
