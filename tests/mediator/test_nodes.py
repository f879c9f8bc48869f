"""Several nodes of one mediator, in one process, on one PostgreSQL: real sockets between them."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import PATIENCE, SMALL, Client, Leg, Line
from postgres import Database

from didmpc.mediator.app import Running, running
from didmpc.mediator.home import Home
from didmpc.mediator.operator.control import call
from didmpc.protocols import relay_control
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.identity import Identity
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import UnboundReason

PUBLIC = "http://mediator.example"


class Node:
    """One node, and those who use it at its own port."""

    def __init__(
        self, home: Home, mediator: Running, http: aiohttp.ClientSession, sockets: AsyncExitStack
    ) -> None:
        self.home = home
        self.mediator = mediator
        self._sockets = sockets
        self._http = http
        self._url = f"http://127.0.0.1:{mediator.settings.port}"

    def client(self, identity: Identity | None = None) -> Client:
        client = Client(self._http, self.mediator.did, identity)
        client.url, client.ws_url = self._url, f"{self._url.replace('http', 'ws')}/ws"
        return client

    async def line(self, client: Client) -> Line:
        """A WebSocket of an account to this node, in live mode."""
        line = await self._sockets.enter_async_context(self.client(client.identity).line())
        await line.go_live()
        return line

    async def leg(self) -> Leg:
        url = f"{self._url.replace('http', 'ws')}/ws"
        ws = await self._sockets.enter_async_context(self._http.ws_connect(url, compress=0, max_msg_size=0))
        return await Leg(ws).open(self.mediator.did)

    async def stop(self) -> None:
        """As SIGTERM does."""

    async def nodes(self) -> list[dict[str, object]]:
        """As `didmpc mediator nodes` lists them."""
        found = await asyncio.to_thread(call, self.home.root, "nodes")
        return found["nodes"] if found else []

    async def shows(self, figure: str, value: object) -> None:
        """Wait until it says this of itself."""
        async with asyncio.timeout(PATIENCE):
            while next(node for node in await self.nodes() if node["this"])[figure] != value:
                await asyncio.sleep(0.02)


Start = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start(tmp_path: Path, database: Database, http: aiohttp.ClientSession) -> AsyncIterator[Start]:
    """Start one more node; all have the keys of the first one."""
    async with AsyncExitStack() as everything:
        count = 0

        async def start(**options: object) -> Node:
            nonlocal count
            home = Home(tmp_path / str(count))
            if count:
                home.prepare()
                shutil.copy(tmp_path / "0" / "mediator.json", home.root)
            count += 1
            process = await everything.enter_async_context(AsyncExitStack())
            given = {"port": 0, "public_url": PUBLIC, "limits": SMALL, "store_url": database.dsn, **options}
            sockets = await everything.enter_async_context(AsyncExitStack())
            node = Node(home, await process.enter_async_context(running(home, **given)), http, sockets)
            node.stop = process.aclose  # type: ignore[method-assign]
            return node

        yield start


# --- live delivery


async def test_mail_that_comes_to_one_node_reaches_the_socket_at_another(start: Start) -> None:
    a, b = await start(), await start()
    alice = await a.client().enrol()
    did = await alice.new_did()
    line = await b.line(alice)
    await a.client().send(did, b"{}")
    [(_, body)] = await line.pushed()
    assert body == b"{}"


async def test_the_node_that_an_account_came_to_last_delivers_and_the_one_before_goes_on_after_it(
    start: Start,
) -> None:
    a, b = await start(), await start()
    alice = await a.client().enrol()
    did = await alice.new_did()
    first = await a.line(alice)
    await a.client().send(did, b'{"n":1}')
    [(held, _)] = await first.pushed()
    second = await b.line(alice)
    await b.shows("delivers", 1)
    for node in (a, b):
        await node.client().send(did, b'{"n":2}' if node is a else b'{"n":3}')
        await second.pushed()
    assert await first.stays_silent()
    # What the first socket holds is handed out nowhere else, whoever asks.
    assert await b.client(alice.identity).fetch() == [] == await a.client(alice.identity).fetch()
    await second.ws.close()
    again: dict[str, bytes] = {}
    while len(again) < 2:
        again |= dict(await first.pushed())
    assert sorted(again.values()) == [b'{"n":2}', b'{"n":3}']
    assert held not in again


async def test_what_a_socket_held_is_free_for_the_others_when_it_ends_at_another_node(start: Start) -> None:
    a, b = await start(), await start()
    alice = await a.client().enrol()
    did = await alice.new_did()
    first = await a.line(alice)
    await b.client().send(did, b'{"n":1}')
    await first.pushed()
    second = await b.line(alice)
    await b.shows("delivers", 1)
    assert await second.stays_silent()
    await first.ws.close()
    [(_, body)] = await second.pushed()
    assert body == b'{"n":1}'


async def test_mail_deleted_by_a_request_to_another_node_makes_room_for_more(start: Start) -> None:
    a, b = await start(), await start()
    alice = await a.client().enrol()
    did = await alice.new_did()
    line = await a.line(alice)
    asking = b.client(alice.identity)
    for number in range(2 * SMALL.live_messages):
        await b.client().send(did, b'{"n":%d}' % number)
        [(name, body)] = await line.pushed()
        assert body == b'{"n":%d}' % number
        await asking.acknowledge(name)


# --- channels


async def test_a_channel_between_two_nodes_carries_packets_and_gives_credit_back(start: Start) -> None:
    a, b = await start(), await start()
    await b.shows("links", [1])
    alice = await a.client().enrol()
    [channel] = await alice.channels()
    near, far = await a.leg(), await b.leg()
    await near.bind(1, channel.near)
    await far.bind(9, channel.far)
    credits = {}
    for leg, number in ((near, 1), (far, 9)):
        bound = await leg.hear()
        assert isinstance(bound, hop.Bound) and bound.channel == number
        credits[leg] = bound.credit
    packet = bytes(16 * 1024)
    for sender, number, receiver in ((near, 1, far), (far, 9, near)):
        credit = credits[sender]
        for _ in range(50):  # far more than the credit at the beginning
            while credit < len(packet):
                given = await sender.hear()
                assert isinstance(given, hop.Credit)
                credit += given.bytes
            await sender.data(number, packet)
            credit -= len(packet)
            got = await receiver.hear()
            while isinstance(got, hop.Credit):
                got = await receiver.hear()
            assert isinstance(got, hop.Data) and len(got.packet) == len(packet)


async def test_an_end_that_moves_to_another_node_meets_the_one_that_stayed(start: Start) -> None:
    a, b, c = await start(), await start(), await start()
    await c.shows("links", [1, 2])
    alice = await a.client().enrol()
    [channel] = await alice.channels()
    near, far = await a.leg(), await b.leg()
    await near.bind(1, channel.near)
    await far.bind(1, channel.far)
    assert isinstance(await near.hear(), hop.Bound) and isinstance(await far.hear(), hop.Bound)
    moved = await c.leg()
    moved.rebind_key = far.rebind_key
    await moved.bind(5, channel.far)
    assert isinstance(await moved.hear(), hop.Bound)
    assert await far.hear() in (
        hop.Unbound(1, UnboundReason.DISPLACED),
        hop.Unbound(1, UnboundReason.LEFT),
    )
    assert await near.hear() == hop.Unbound(1, UnboundReason.LEFT)
    assert isinstance(await near.hear(), hop.Bound)
    await near.data(1, b"to where it is now")
    assert await moved.hear() == hop.Data(5, b"to where it is now")
    await alice.ask(relay_control.channel_revoke([channel.id]))
    for leg, number in ((near, 1), (moved, 5)):
        while await leg.hear() != hop.Unbound(number, UnboundReason.REVOKED):
            pass


async def test_a_node_that_stops_gives_back_what_it_has(start: Start) -> None:
    a, b = await start(), await start()
    await b.shows("links", [1])
    alice = await a.client().enrol()
    did = await alice.new_did()
    [channel] = await alice.channels()
    line = await a.line(alice)
    near, far = await a.leg(), await b.leg()
    await near.bind(1, channel.near)
    await far.bind(1, channel.far)
    assert isinstance(await near.hear(), hop.Bound) and isinstance(await far.hear(), hop.Bound)
    stopping = asyncio.create_task(a.stop())
    assert (await line.ws.receive(timeout=PATIENCE)).type == aiohttp.WSMsgType.CLOSE
    assert line.ws.close_code == aiohttp.WSCloseCode.SERVICE_RESTART
    await stopping
    assert await far.hear() == hop.Unbound(1, UnboundReason.LEFT)
    again, back = await b.line(alice), await b.leg()
    await b.client().send(did, b"{}")
    await again.pushed()
    back.rebind_key = near.rebind_key
    await back.bind(1, channel.near)
    assert isinstance(await back.hear(), hop.Bound) and isinstance(await far.hear(), hop.Bound)
    assert [node["this"] for node in await b.nodes()] == [True]


# --- who is a node


async def test_a_node_with_other_keys_or_another_url_is_refused_in_words(
    start: Start, tmp_path: Path, database: Database
) -> None:
    await start()
    with pytest.raises(LocalMisuse, match="another public URL"):
        await start(public_url="http://elsewhere.example")
    home = Home(tmp_path / "stranger")
    with pytest.raises(LocalMisuse, match="other keys"):
        async with running(home, port=0, public_url=PUBLIC, store_url=database.dsn):
            pass
