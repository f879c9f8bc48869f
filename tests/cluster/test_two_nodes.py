"""Two nodes of one mediator: mail and packets cross from one to the other, and one that dies is no loss."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cluster_parts.nodes import Node, Nodes, Place
from mediator_parts import Client, Leg
from postgres import Database

from didmpc.protocols.messages import pickup
from didmpc.protocols.relay import hop


@pytest.fixture
async def nodes(tmp_path: Path, database: Database, workplace: Path) -> AsyncIterator[Nodes]:
    """They start side by side."""
    passwords = database.passwords_in(workplace)
    made = Nodes(tmp_path, (), store=database.url, passwords=passwords, places=(Place(), Place()))
    try:
        await asyncio.to_thread(made.start_mediators)
        yield made
        assert made.tracebacks() == [], made.said()
    finally:
        await asyncio.to_thread(made.stop)


def at(node: Node, client: Client) -> Client:
    """The same client, as if the load balancer had sent it to this node."""
    client.url, client.ws_url = f"http://{node.address}/", f"ws://{node.address}/ws"
    return client


async def test_mail_and_packets_cross_from_node_to_node_and_outlive_either(nodes: Nodes) -> None:
    first, second = nodes.nodes
    async with aiohttp.ClientSession() as http:
        alice = at(first, await Client(http, nodes.did).enrol())
        bob = at(first, Client(http, nodes.did))
        box = await alice.new_did()
        (channel,) = await alice.channels()

        at(second, alice)
        async with alice.line() as line, alice.line() as far_line, at(first, bob).line() as near_line:
            await line.go_live()
            assert await bob.send(box, b'{"n":1}') == 202
            ((name, body),) = await line.pushed()
            assert body == b'{"n":1}'

            near, far = await Leg(near_line.ws).open(nodes.did), await Leg(far_line.ws).open(nodes.did)
            await near.bind(1, channel.near)
            await far.bind(2, channel.far)
            assert [type(await leg.hear()) for leg in (near, far)] == [hop.Bound, hop.Bound]
            await near.data(1, b"across")
            assert await far.hear() == hop.Data(2, b"across")

            await asyncio.to_thread(nodes.kill, second)

            async with at(first, alice).line() as other, alice.line() as other_far:
                await other.go_live()
                waits = await other.ask(pickup.delivery_request(10))
                assert list(pickup.parse_delivery(waits).messages) == [(name, body)], (
                    "it was not acknowledged"
                )
                again = await Leg(other_far.ws).open(nodes.did)
                again.rebind_key = far.rebind_key
                await again.bind(3, channel.far)
                while not isinstance(await again.hear(), hop.Bound):
                    pass
                await again.data(3, b"back")
                while (heard := await near.hear()) != hop.Data(1, b"back"):
                    assert not isinstance(heard, hop.Data)
                await other.acknowledge(name)
                await other.hear()
                assert await alice.waiting() == 0
