"""PostgreSQL as the cluster stands on it: what is committed outlives any one server, and none lies."""

import asyncio

import asyncpg
import pytest
from cluster_parts.servers import WITHIN, Servers
from postgres import OWNER

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
async def table(servers: Servers) -> None:
    await servers.ask(servers.primary, "CREATE TABLE kept(n int)")
    await servers.ask(servers.primary, f"GRANT ALL ON kept TO {OWNER}")


async def write(servers: Servers, n: int) -> None:
    connection = await asyncpg.connect(servers.dsn_with_password)
    try:
        await connection.execute("INSERT INTO kept VALUES ($1)", n)
    finally:
        connection.terminate()


async def kept(servers: Servers) -> set[int]:
    return set(await servers.ask(servers.primary, "SELECT array_agg(n) FROM kept"))


async def test_the_primary_is_killed_again_and_again_and_what_was_committed_stays(servers: Servers) -> None:
    for n in range(3):
        await write(servers, n)
        old = servers.primary
        servers.kill(old)
        new = await servers.promote()
        assert new is not old
        assert await kept(servers) == set(range(n + 1))
        await servers.rejoin(old)
        await servers.caught_up()


async def test_one_standby_is_enough_for_a_commit_and_none_is_not(servers: Servers) -> None:
    first, second = servers.standbys
    servers.kill(first)
    await write(servers, 1)
    servers.kill(second)
    waiting = asyncio.create_task(write(servers, 2))
    done, _ = await asyncio.wait([waiting], timeout=1)
    assert not done, "a commit that no standby has was said to be one"
    assert await kept(servers) == {1}
    await servers.start(first)
    async with asyncio.timeout(WITHIN):
        await waiting
    assert await kept(servers) == {1, 2}


async def test_a_primary_that_was_killed_starts_again_on_what_it_has(servers: Servers) -> None:
    await write(servers, 1)
    servers.kill(servers.primary)
    await servers.start(servers.primary)
    await servers.caught_up()
    assert await kept(servers) == {1}
