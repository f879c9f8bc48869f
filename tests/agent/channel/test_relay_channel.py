"""A relay channel as a path: credit is respected, whatever the link hands over, and where it may lead."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.orders import RelayPath
from didmpc.agent.channel.paths.leg import Leg
from didmpc.agent.channel.paths.relay import Relay, RelayChannel
from didmpc.protocols.identity import Identity
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import Bound, Credit, Data, Error, ErrorCode, Unbound, UnboundReason
from didmpc.protocols.session.packet import PacketOpener, PacketSealer


class FakeRelay:
    """A relay that is its own leg and socket, and remembers the hop frames."""

    def __init__(self) -> None:
        self.leg = self.socket = self
        self.writable = True
        self.frames: list[bytes] = []

    def send(self, head: bytes, payload: bytes = b"") -> None:
        self.frames.append(head + payload)

    def flush(self) -> None:
        pass

    @property
    def data(self) -> list[bytes]:
        return [f.packet for f in map(hop.decode, self.frames) if isinstance(f, Data)]


class FakeEnd:
    """Remembers what the path says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.packets: list[bytes] = []

    def path_up(self, path: object) -> None:
        self.said.append("up")

    def path_down(self, path: object, reason: str) -> None:
        self.said.append("down")

    def path_writable(self) -> None:
        self.said.append("writable")

    def packet_received(self, packet: bytes) -> None:
        self.packets.append(packet)


@pytest.fixture
def relay() -> FakeRelay:
    return FakeRelay()


@pytest.fixture
def end() -> FakeEnd:
    return FakeEnd()


@pytest.fixture
def channel(relay: FakeRelay, end: FakeEnd) -> RelayChannel:
    return RelayChannel(relay, 1, bytes(32), end)


def test_nothing_may_be_written_before_both_ends_are_bound(channel: RelayChannel):
    assert channel.budget == 0


def test_credit_is_spent_and_comes_back(channel: RelayChannel, relay: FakeRelay, end: FakeEnd):
    channel.take(Bound(1, 100))
    assert end.said == ["up"] and channel.budget == 100
    channel.write(bytes(60))
    assert channel.budget == 40
    channel.take(Credit(1, 60))
    assert end.said == ["up", "writable"] and channel.budget == 100
    assert relay.data == [bytes(60)]


def test_what_is_over_the_credit_waits_and_keeps_its_order(channel: RelayChannel, relay: FakeRelay):
    channel.take(Bound(1, 100))
    channel.write(b"a" * 90)
    channel.write(b"b" * 20)
    channel.write(b"c" * 5)
    assert [packet[:1] for packet in relay.data] == [b"a"] and channel.budget == 0
    channel.take(Credit(1, 12))
    assert [packet[:1] for packet in relay.data] == [b"a", b"b"]
    channel.take(Credit(1, 90))
    assert [packet[:1] for packet in relay.data] == [b"a", b"b", b"c"] and channel.budget == 87


def test_a_path_that_went_down_has_no_credit_and_forgets_what_waited(
    channel: RelayChannel, relay: FakeRelay, end: FakeEnd
):
    channel.take(Bound(1, 10))
    channel.write(bytes(20))
    channel.take(Unbound(1, UnboundReason.LEFT))
    channel.take(Credit(1, 1000))  # was on its way
    assert end.said[-1] == "down" and channel.budget == 0 and relay.data == []
    channel.take(Bound(1, 50))
    assert end.said[-1] == "up" and channel.budget == 50 and relay.data == []


def test_a_full_socket_means_no_budget(channel: RelayChannel, relay: FakeRelay):
    channel.take(Bound(1, 100))
    relay.writable = False
    assert channel.budget == 0


def test_a_refused_channel_is_claimed_again_after_a_while_with_the_same_key(
    channel: RelayChannel, relay: FakeRelay, end: FakeEnd
):
    channel.bind(b"exporter of one leg")
    channel.take(Error(1, ErrorCode.OVER_CREDIT))
    assert end.said == ["down"]
    channel.beat(0.0, b"exporter")
    assert len(relay.frames) == 1
    channel.beat(1e12, b"exporter of one leg")
    channel.beat(1e12, b"exporter of one leg")
    first, second = map(hop.decode, relay.frames)
    assert first == second and isinstance(first, hop.Bind)
    hop.verify_bind(first, b"exporter of one leg")


async def test_packets_go_to_the_link_of_their_channel_and_to_no_other():
    ends = {1: FakeEnd(), 2: FakeEnd()}
    leg = Leg(ends=ends, on_frame=print, on_read=lambda _: None, on_writable=lambda: None, limits=Limits())
    leg._opener = PacketOpener(bytes(32), bytes(8))
    mediator = PacketSealer(bytes(32), bytes(8), ordered=True)
    leg._packet(mediator.seal(hop.encode_data(2, b"packet")))
    leg._packet(mediator.seal(hop.encode_data(3, b"of a channel that there is not")))
    assert [end.packets for end in ends.values()] == [[], [b"packet"]]


class Ear:
    """The end of a channel that never comes up: hears why."""

    def __init__(self) -> None:
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def path_down(self, path: object, reason: str) -> None:
        if not self.reason.done():
            self.reason.set_result(reason)


@pytest.fixture
async def dialed() -> AsyncIterator[tuple[str, list[str]]]:
    """The URL of a server on this machine that is no mediator, and what was asked of it."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_get("/ws", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/ws")).replace("http", "ws"), asked


async def why_it_is_down(url: str, *, private: bool) -> str:
    """What the end of a channel is told whose relay lies at `url`."""
    ear = Ear()
    path = RelayPath(Identity.key().did, url, bytes(32), private)
    relay = Relay(path, on_read=lambda _: None, limits=Limits())
    relay.add(path.capability, ear)
    task = asyncio.create_task(relay.keep_up())
    try:
        async with asyncio.timeout(120):
            return await ear.reason
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_a_relay_that_a_peer_names_does_not_lead_onto_our_own_machine(
    dialed: tuple[str, list[str]], host: str
):
    url, asked = dialed
    reason = await why_it_is_down(url.replace("127.0.0.1", host), private=False)
    assert "no public address" in reason and asked == []


async def test_where_that_is_allowed_it_does(dialed: tuple[str, list[str]]):
    url, asked = dialed
    assert "offers no WebSocket" in await why_it_is_down(url, private=True)
    assert asked
