"""Several nodes of one mediator, in one process, on one PostgreSQL: real sockets between them."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from mediator_parts import PATIENCE, SMALL, Client, Leg, Line, code_of
from postgres import Database

from didmpc.mediator.app import Running, running
from didmpc.mediator.cluster import cluster, lease, presence
from didmpc.mediator.cluster.links import Links
from didmpc.mediator.cluster.presence import Presence
from didmpc.mediator.cluster.tables import Tables
from didmpc.mediator.host.home import Home
from didmpc.mediator.operator.control import call
from didmpc.mediator.store import StoreFailed
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import relay_control
from didmpc.protocols.messages.pickup import STATUS, status_request
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import UnboundReason
from didmpc.protocols.session.handshake import ACCEPT, OPEN, Initiation, Party

PUBLIC = "http://mediator.example"
PROMOTED = """
CREATE OR REPLACE FUNCTION timeline() RETURNS text LANGUAGE sql AS $$ SELECT '00000002' $$
"""
"""What leaves a database as a standby that was promoted has it, as far as nodes can see."""


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


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"SECONDS": 3.0, "BEAT": 0.2, "MARGIN": 1.0}.items():
        monkeypatch.setattr(lease, name, seconds)


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


async def test_a_sender_fills_no_more_than_its_share_through_all_nodes_together(start: Start) -> None:
    a, b = [await start(limits=replace(SMALL, pair_messages=4)) for _ in range(2)]
    await a.shows("links", [2])
    alice = await a.client().enrol()
    did = await alice.new_did()
    bob = Identity.peer4()
    taken = [
        await node.client(bob).send(did, b'{"%d":%d}' % (number, n))
        for n, node in enumerate((a, b))
        for number in range(3)
    ]
    assert taken == [202, 202, 429] * 2
    await b.stop()
    await a.shows("links", [])
    # Alone again, it grants the whole share, less what it has taken in itself.
    assert [await a.client(bob).send(did, b'{"more":%d}' % n) for n in range(3)] == [202, 202, 429]


# --- the operator


@pytest.mark.parametrize("linked", [True, False])
async def test_who_is_shut_out_at_one_node_loses_sockets_and_channels_at_another(
    start: Start, short_leases: None, monkeypatch: pytest.MonkeyPatch, *, linked: bool
) -> None:
    if not linked:
        part(monkeypatch)
    a, b = await start(), await start()
    if linked:
        await a.shows("links", [2])
    evicted, denied, other = [await a.client().enrol() for _ in range(3)]
    lines = [await b.line(client) for client in (evicted, denied, other)]
    (channel,) = await evicted.channels()
    leg = await b.leg()
    await leg.bind(1, channel.near)
    await leg.synchronise()
    await asyncio.to_thread(call, a.home.root, "evict", {"did": evicted.identity.did})
    await asyncio.to_thread(call, a.home.root, "rule", {"did": denied.identity.did, "rule": "deny"})
    for line in lines[:2]:
        closed = await line.ws.receive(timeout=PATIENCE)
        assert (closed.data, closed.extra) == (1008, "The operator has closed your account.")
    assert await leg.hear() == hop.Unbound(1, UnboundReason.REVOKED)
    assert code_of(await b.client(evicted.identity).ask(status_request())) == "e.p.req.not_enroll"
    await asyncio.to_thread(call, a.home.root, "rule", {"did": denied.identity.did, "rule": "none"})
    async with asyncio.timeout(PATIENCE):
        while (await b.client(denied.identity).ask(status_request())).type != STATUS:
            await asyncio.sleep(0.05)
    assert await lines[2].stays_silent()
    assert not lines[2].ws.closed


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


async def test_a_node_of_another_version_of_links_is_refused_in_words(
    start: Start, database: Database
) -> None:
    await start()
    await change(database, "UPDATE node SET protocol = 99, version = '9.9'")
    with pytest.raises(LocalMisuse, match="cannot work together with the node at") as refused:
        await start()
    assert "didmpc 9.9 and speaks version 99 of links" in refused.value.why
    assert "same version of didmpc on all nodes" in refused.value.fix


async def test_nodes_that_died_are_in_nobodys_way(start: Start, database: Database) -> None:
    a = await start()
    await a.stop()
    died = "'127.0.0.1:1', 'key', '9.9', 99, now() - interval '1 h'"
    await change(database, f"INSERT INTO node(url, key, version, protocol, lease_until) VALUES ({died})")
    b = await start(public_url="http://elsewhere.example")
    assert [node["there"] for node in await b.nodes()] == [False, True]


# --- what goes wrong


async def change(database: Database, statement: str) -> None:
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(statement)
    await connection.close()


def cut_off(monkeypatch: pytest.MonkeyPatch, node: int) -> Callable[[], None]:
    """From now on a node does not reach the tables of nodes, until what is returned is called."""
    is_cut = True

    def cut(name: str) -> None:
        real = getattr(Tables, name)

        async def method(self: Tables, me: object, *arguments: object) -> object:
            if is_cut and me == node:
                raise StoreFailed("It is cut off, for this test.")
            return await real(self, me, *arguments)

        monkeypatch.setattr(Tables, name, method)

    for name in ("beat", "return_", "claim", "asked_to_yield", "give_up", "news", "settle"):
        cut(name)

    def mend() -> None:
        nonlocal is_cut
        is_cut = False

    return mend


def part(monkeypatch: pytest.MonkeyPatch) -> None:
    """No link is made any more."""

    async def refuse(self: Links, peer: object) -> None:
        raise ConnectionRefusedError("It is cut, for this test.")

    monkeypatch.setattr(Links, "_dial", refuse)


@pytest.mark.parametrize("fails_over", [False, True])
async def test_a_node_without_a_lease_pushes_nothing_and_another_takes_over_after_it(
    start: Start, short_leases: None, database: Database, monkeypatch: pytest.MonkeyPatch, *, fails_over: bool
) -> None:
    part(monkeypatch)
    a, b = await start(), await start()
    alice = await a.client().enrol()
    did = await alice.new_did()
    first = await a.line(alice)
    await a.shows("delivers", 1)
    mend = cut_off(monkeypatch, 1)
    second = await b.line(alice)  # it waits for the end of the other's lease
    await b.shows("delivers", 1)
    await a.client().send(did, b'{"n":1}')
    [(_, body)] = await second.pushed()
    assert body == b'{"n":1}'
    if fails_over:  # to a primary that takes everybody for there
        await change(database, PROMOTED)
    mend()
    await a.shows("delivers", 0)
    await b.client().send(did, b'{"n":2}')
    [(_, body)] = await second.pushed()
    assert body == b'{"n":2}'
    assert await first.stays_silent()


async def test_what_a_promoted_standby_does_not_know_of_leases_makes_nobody_gone(
    start: Start, short_leases: None, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    part(monkeypatch)
    a, b = await start(), await start()
    alice = await a.client().enrol()
    did = await alice.new_did()
    first = await a.line(alice)
    await b.client().send(did, b"{}")
    await first.pushed()
    gone: list[int] = []
    monkeypatch.setattr(Presence, "node_gone", lambda self, node: gone.append(node))
    await change(database, f"{PROMOTED}; UPDATE node SET lease_until = now() - interval '1 h'")
    second = await b.line(alice)
    await b.shows("delivers", 1)
    assert await second.stays_silent()  # the first socket has it
    assert [node["there"] for node in await b.nodes()] == [True, True]
    assert not gone


async def test_while_no_node_reaches_the_database_none_becomes_another_ones_heir(
    start: Start, short_leases: None, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await start(), await start()
    await b.shows("links", [1])
    alice = await a.client().enrol()
    did = await alice.new_did()
    passive = await a.line(alice)
    await a.shows("delivers", 1)
    active = await b.line(alice)
    await b.shows("delivers", 1)
    await a.client().send(did, b'{"n":1}')
    await active.pushed()
    mend = [cut_off(monkeypatch, node) for node in (1, 2)]
    leases = await asyncpg.connect(database.dsn)
    async with asyncio.timeout(PATIENCE):
        while await leases.fetchval("SELECT count(*) FROM node WHERE lease_until > clock_timestamp()"):
            await asyncio.sleep(0.05)
    await leases.close()
    for back in mend:
        back()
        assert await passive.stays_silent()  # the other socket has it, and is open
    await b.shows("delivers", 1)
    await a.client().send(did, b'{"n":2}')
    [(_, body)] = await active.pushed()
    assert body == b'{"n":2}'
    assert await passive.stays_silent()


async def test_accounts_that_cannot_be_given_up_at_once_are_given_up_later(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "RETRY_SECONDS", 0.05)
    vacate, failures = Tables.vacate, iter(range(3))

    async def fail_at_first(self: Tables, *arguments: Any) -> None:
        if next(failures, None) is not None:
            raise StoreFailed("It is away, for this test.")
        await vacate(self, *arguments)

    monkeypatch.setattr(Tables, "vacate", fail_at_first)
    a, b = await start(), await start()
    await b.shows("links", [1])
    alice = await a.client().enrol()
    did = await alice.new_did()
    waiting = await b.line(alice)
    await b.shows("delivers", 1)
    other = await a.line(alice)
    await a.shows("delivers", 1)
    await other.ws.close()
    await b.shows("delivers", 1)
    assert next(failures, None) is None
    await a.client().send(did, b"{}")
    await waiting.pushed()


async def test_where_no_link_is_a_takeover_goes_through_the_database(
    start: Start, short_leases: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    part(monkeypatch)
    a, b = await start(), await start()
    alice = await a.client().enrol()
    did = await alice.new_did()
    first = await a.line(alice)
    await a.client().send(did, b'{"n":1}')
    await first.pushed()
    second = await b.line(alice)
    await b.shows("delivers", 1)
    await a.shows("delivers", 0)
    assert await b.client(alice.identity).fetch() == []  # the first socket has it
    await a.client().send(did, b'{"n":2}')  # nobody can ring, so it is found
    [(_, body)] = await second.pushed()
    assert body == b'{"n":2}'
    assert await first.stays_silent()


async def test_live_sockets_of_a_node_that_is_cut_off_are_sent_to_the_others(
    start: Start, short_leases: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PART_AFTER", 0.3)
    a, b = await start(), await start()
    await b.shows("links", [1])
    alice = await a.client().enrol()
    line = await a.line(alice)
    await a.shows("delivers", 1)
    mend = cut_off(monkeypatch, 1)
    assert (await line.ws.receive(timeout=PATIENCE)).type == aiohttp.WSMsgType.CLOSE
    assert line.ws.close_code == aiohttp.WSCloseCode.SERVICE_RESTART
    mend()
    line = await a.line(alice)
    await a.shows("delivers", 1)


async def test_a_channel_over_a_link_that_is_cut_goes_on_when_it_is_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Links] = []
    begin = Links.start

    async def start_and_keep(self: Links, listener: object) -> None:
        made.append(self)
        await begin(self, listener)  # type: ignore[arg-type]

    monkeypatch.setattr(Links, "start", start_and_keep)
    a, b = await start(), await start()
    await b.shows("links", [1])
    alice = await a.client().enrol()
    [channel] = await alice.channels()
    near, far = await a.leg(), await b.leg()
    await near.bind(1, channel.near)
    await far.bind(1, channel.far)
    assert isinstance(await near.hear(), hop.Bound) and isinstance(await far.hear(), hop.Bound)
    made[0].up[2].abort("is cut off, for this test")
    for leg in (near, far):
        assert await leg.hear() == hop.Unbound(1, UnboundReason.LEFT)
        assert isinstance(await leg.hear(), hop.Bound)
    await near.data(1, b"again")
    assert await far.hear() == hop.Data(1, b"again")


async def test_a_hop_session_that_is_played_again_at_another_node_binds_nothing(start: Start) -> None:
    a, b = await start(), await start(limits=replace(SMALL, leg_unbound_seconds=0.2))
    me = Identity.key()
    mediator = a.client().mediator
    request = Message(type=OPEN, from_=me.did, to=(mediator.did,), return_route="all")
    request.body.update(Initiation(Party.of(me), Party.of(mediator), request.id, link={}).body)
    envelope = pack_authcrypt(request, me, mediator).decode()
    answers = []
    for node, times in ((a, 1), (b, 1), (b, 2)):
        client = node.client()
        async with client.http.ws_connect(client.ws_url, compress=0) as ws:
            for _ in range(times):
                await ws.send_str(envelope)
                answers.append(await ws.receive_str(timeout=PATIENCE))
            if (node, times) == (b, 1):
                async with asyncio.timeout(PATIENCE):
                    while (await ws.receive()).type != aiohttp.WSMsgType.CLOSED:
                        pass
    accepts = [unpack(answer.encode(), Identities(me)).message.type for answer in answers]
    assert accepts[:2] == [ACCEPT, ACCEPT] and answers[0] != answers[1]
    assert ACCEPT not in accepts[2:]  # the second node remembers it now
