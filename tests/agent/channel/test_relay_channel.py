"""A relay channel as a path: credit is respected, whatever the link hands over."""

import pytest

from didmpc.agent.channel.paths.relay import RelayChannel
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import Bound, Credit, Data, Error, ErrorCode, Unbound, UnboundReason


class FakeRelay:
    """Remembers the hop frames."""

    def __init__(self) -> None:
        self.writable = True
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)

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


def test_packets_go_to_the_link(channel: RelayChannel, end: FakeEnd):
    channel.take(Data(1, b"packet"))
    assert end.packets == [b"packet"]
