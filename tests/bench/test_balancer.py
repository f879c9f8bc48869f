"""The load balancer of the cluster tests: every node in its turn, and none that refuses."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from didmpc.bench.balancer import Balancer


@pytest.fixture
async def nodes() -> AsyncIterator[list[int]]:
    """Three servers that say who they are."""
    async with AsyncExitStack() as stack:
        ports = []
        for number in range(3):

            async def serve(_: object, writer: asyncio.StreamWriter, name: bytes = b"%d" % number) -> None:
                writer.write(name)
                writer.close()

            server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
            ports.append(server.sockets[0].getsockname()[1])
        yield ports


async def asked(balancer: Balancer) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
    try:
        return await reader.read()
    finally:
        writer.close()


def nobody() -> int:
    """A port that refuses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_each_node_has_its_turn(nodes: list[int]) -> None:
    with Balancer() as balancer:
        balancer.nodes = tuple(("127.0.0.1", port) for port in nodes)
        assert sorted([await asked(balancer) for _ in range(6)]) == [b"0", b"0", b"1", b"1", b"2", b"2"]


async def test_one_that_refuses_is_passed_over_and_one_that_was_taken_out_is_not_asked(
    nodes: list[int],
) -> None:
    with Balancer() as balancer:
        balancer.nodes = (("127.0.0.1", nodes[0]), ("127.0.0.1", nobody()), ("127.0.0.1", nodes[1]))
        assert {await asked(balancer) for _ in range(6)} == {b"0", b"1"}
        balancer.nodes = (("127.0.0.1", nodes[2]),)
        assert {await asked(balancer) for _ in range(2)} == {b"2"}


async def test_where_no_node_is_left_connections_are_refused(nodes: list[int]) -> None:
    with Balancer() as balancer:
        for none in ((), (("127.0.0.1", nobody()),)):
            balancer.nodes = none
            with pytest.raises(ConnectionError):
                await asked(balancer)
