"""A link between two parties over paths that come, go and lose things."""

import math

import pytest

from didmpc.protocols.errors import LocalMisuse, SessionError
from didmpc.protocols.session import frames
from didmpc.protocols.session import packet as packets_module
from didmpc.protocols.session.handshake import Initiation, respond
from didmpc.protocols.session.link import (
    Aborted,
    Closed,
    Data,
    Link,
    LinkLimits,
    LinkOverflow,
    PeerState,
    PeerViolation,
    Ready,
    SessionOver,
)
from didmpc.protocols.session.packet import PacketOpener, PacketSealer


def data_of(events):
    return b"".join(event.data for event in events if isinstance(event, Data))


# --- confirming


def test_the_initiator_sends_ready_at_once_as_packet_zero(wire_of):
    wire = wire_of()
    wire.near.path_up(wire.now)
    (first,) = wire.near.packets(wire.now)
    assert first[13:21] == bytes(8)
    assert wire.far.receive(first, wire.now)[0] == Ready()


def test_the_responder_is_silent_until_the_initiator_is_confirmed(wire_of):
    wire = wire_of()
    wire.far.path_up(wire.now)
    wire.far.send(1, b"secret")
    wire.far.close()
    for _ in range(5):
        assert wire.far.packets(wire.now) == []
        wire.now += 1
    wire.near.path_up(wire.now)
    wire.pump()
    assert wire.near_events == [Ready(), Data(1, b"secret"), Closed()]


def test_ready_comes_before_the_data_of_the_same_packet(wire_of):
    wire = wire_of()
    wire.near.send(1, b"with the first packet")
    wire.connect()
    assert wire.far_events[:2] == [Ready(), Data(1, b"with the first packet")]


def test_after_a_lost_ready_the_next_ping_confirms(wire_of):
    wire = wire_of()
    wire.near.path_up(wire.now)
    wire.far.path_up(wire.now)
    wire.drop()
    wire.wait(1.1)
    assert Ready() in wire.far_events
    assert Ready() in wire.near_events


def test_any_valid_packet_confirms(wire_of, pair):
    wire = wire_of()
    stranger = PacketSealer(pair[0].secret_send, pair[0].sid_out)
    assert wire.far.receive(stranger.seal(frames.encode_ping(0, b"{}")), wire.now) == [Ready()]


# --- records


def test_bytes_arrive_in_order_with_their_generation(wire):
    wire.near.send(1, b"one")
    wire.near.send(1, b"")
    wire.near.send(2, b"two")
    wire.pump()
    assert wire.far_events == [Data(1, b"one"), Data(1, b""), Data(2, b"two")]


def test_both_directions_are_independent(wire):
    wire.near.send(1, b"there")
    wire.far.send(1, b"back")
    wire.pump()
    assert (wire.far_events, wire.near_events) == ([Data(1, b"there")], [Data(1, b"back")])


def test_a_burst_costs_one_packet(wire):
    before = wire.near.stats.packets_sent
    for number in range(100):
        wire.near.send(1, b"%d" % number)
    packets = wire.near.packets(wire.now)
    assert len(packets) == 1
    assert len(wire.far.receive(packets[0], wire.now)) == 100
    assert wire.near.stats.packets_sent == before + 1


def test_a_large_message_is_cut_and_costs_no_padding(wire):
    message = bytes(range(256)) * 4096
    wire.near.send(1, message)
    packets = wire.near.packets(wire.now)
    assert [len(packet) - 37 for packet in packets[:4]] == [frames.MAX_RECORD] * 4
    for packet in packets:
        wire.far_events += wire.far.receive(packet, wire.now)
    assert data_of(wire.far_events) == message


def test_a_packet_never_exceeds_the_budget(wire):
    wire.far.send(1, b"to be acknowledged")
    for _ in range(3):
        for number in range(50):
            wire.near.send(1, bytes(number * 13))
        wire.near.send(1, bytes(5000))
        for budget in (0, 36, 100, 101, 200, 1000, 1061, 3000, 70_000):
            assert sum(map(len, wire.near.packets(wire.now, budget))) <= budget
        wire.wait(10.0)
        assert wire.near.unacknowledged == 0


def test_control_waits_for_budget_without_asking_to_be_called_again(wire):
    wire.near.abort({"kind": "raised", "what": "x" * 200})
    assert wire.near.deadline() == -math.inf
    assert wire.near.packets(wire.now, 100) == []
    assert wire.near.deadline() > wire.now + 60
    assert len(wire.near.packets(wire.now, 1000)) == 1


def test_control_goes_first(wire):
    wire.near.send(1, bytes(200_000))
    wire.near.abort({"kind": "raised"})
    (packet,) = wire.near.packets(wire.now)
    assert len(packet) < 300


# --- loss and acknowledgement


def test_lost_records_are_sent_again_in_new_packets(wire):
    wire.near.send(1, b"lost")
    (lost,) = wire.drop()
    wire.near.send(1, b"after")
    wire.pump()
    assert wire.far_events == []
    wire.wait(1.3)
    assert wire.far_events == [Data(1, b"lost"), Data(1, b"after")]
    assert wire.near.stats.records_sent_again == 1
    late = wire.far.receive(lost, wire.now)
    assert late == []


def test_only_what_is_missing_is_sent_again(wire):
    for number in range(10):
        wire.near.send(1, b"%d" % number)
        packets = wire.near.packets(wire.now)
        if number % 3:
            for packet in packets:
                wire.far_events += wire.far.receive(packet, wire.now)
    wire.wait(2.0)
    assert data_of(wire.far_events) == b"0123456789"
    assert wire.near.stats.records_sent_again == 4


def test_a_reset_path_brings_everything_again_exactly_once(wire):
    for number in range(20):
        wire.near.send(1, b"%02d" % number)
        packets = wire.near.packets(wire.now)
        if number >= 10:
            for packet in packets:
                wire.far_events += wire.far.receive(packet, wire.now)
    wire.near.path_down(wire.now)
    wire.near.send(1, b"20")
    assert wire.near.packets(wire.now) == []
    wire.connect()
    assert data_of(wire.far_events) == b"".join(b"%02d" % number for number in range(21))


def test_a_full_path_is_not_filled_with_copies(wire):
    """Packets that take long are not lost: an unanswered PING tells the two apart."""
    wire.near.send(1, b"slow")
    slow = wire.near.packets(wire.now)
    for _ in range(30):
        wire.now += 1
        slow += wire.near.packets(wire.now)
    assert wire.near.stats.records_sent_again <= 3
    for packet in slow:
        wire.far_events += wire.far.receive(packet, wire.now)
    assert data_of(wire.far_events) == b"slow"


def test_acknowledgements_come_after_64_records_or_100_ms(wire):
    def far_says():
        return wire.far.packets(wire.now)

    wire.near.send(1, b"x")
    for packet in wire.near.packets(wire.now):
        wire.far.receive(packet, wire.now)
    assert far_says() == []
    assert wire.far.deadline() <= wire.now + 0.1
    wire.now += 0.1
    assert len(far_says()) == 1
    for count in (63, 1):
        for _ in range(count):
            wire.near.send(1, b"x")
        for packet in wire.near.packets(wire.now):
            wire.far.receive(packet, wire.now)
        assert wire.far.has_to_answer == (count == 1)  # else there is no need to ask
        assert len(far_says()) == (count == 1)


def test_a_ping_has_to_be_answered_at_once(wire):
    wire.now = wire.near.deadline()
    for packet in wire.near.packets(wire.now):
        wire.far.receive(packet, wire.now)
    assert wire.far.has_to_answer
    wire.far.packets(wire.now)
    assert not wire.far.has_to_answer


def test_a_half_due_acknowledgement_rides_on_data_and_alone_it_waits(wire):
    for _ in range(40):
        wire.near.send(1, b"x")
    for packet in wire.near.packets(wire.now):
        wire.far.receive(packet, wire.now)
    assert wire.far.packets(wire.now) == []
    wire.far.send(1, b"reply")
    for packet in wire.far.packets(wire.now):
        wire.near.receive(packet, wire.now)
    assert wire.near.unacknowledged == 0


def test_data_packets_do_not_pretend_to_have_acknowledged(wire):
    """A packet of records alone must leave a due acknowledgement due."""
    wire.near.send(1, b"x")
    for packet in wire.near.packets(wire.now):
        wire.far.receive(packet, wire.now)
    wire.far.send(1, b"reply")
    wire.far.packets(wire.now)
    wire.now += 0.1
    for packet in wire.far.packets(wire.now):
        wire.near.receive(packet, wire.now)
    assert wire.near.unacknowledged == 0


def test_epochs_are_crossed_in_use(wire):
    for _ in range(400):
        wire.near.send(1, b"x")
        wire.far.send(1, b"y")
        wire.wait(0.1)
    assert wire.near._session.epoch > 20
    assert len(wire.far_events) == len(wire.near_events) == 400


# --- bounds


def test_the_send_queue_has_a_limit_that_is_named(wire_of):
    wire = wire_of(queue_bytes=10_000)
    wire.connect()
    with pytest.raises(LinkOverflow, match="10000") as overflow:
        for _ in range(100):
            wire.near.send(1, bytes(1000))
    assert overflow.value.fix
    held = wire.near.unacknowledged
    with pytest.raises(LinkOverflow):
        wire.near.send(1, bytes(5000))
    assert wire.near.unacknowledged == held
    wire.wait(0.5)
    wire.near.send(1, bytes(5000))


def test_unacknowledged_records_and_bytes_stay_within_the_window(wire_of):
    wire = wire_of(window_records=50, window_bytes=20_000)
    wire.connect()
    for _ in range(200):
        wire.near.send(1, b"x")
    wire.drop()
    assert wire.near.stats.records_sent == 50
    wire.wait(6.0)
    assert len(data_of(wire.far_events)) == 200
    for _ in range(100):
        wire.near.send(1, bytes(1000))
    wire.drop()
    assert wire.near.stats.records_sent <= 200 + 20
    wire.wait(6.0)
    assert len(data_of(wire.far_events)) == 100_200


def test_the_windows_a_peer_announces_are_respected(parties):
    small = LinkLimits(window_records=10)
    initiation = Initiation(*parties, "id")
    accept, _ = respond(*reversed(parties), "id", initiation.body, limits=small.announced())
    near = Link(initiation.finish(accept), now=0.0)
    near.path_up(0.0)
    for _ in range(100):
        near.send(1, b"x")
    near.packets(0.0)
    assert near.stats.records_sent == 10


class Forger:
    """A peer that has the keys and writes what it likes."""

    def __init__(self, pair, **limits):
        self.sealer = PacketSealer(pair[0].secret_send, pair[0].sid_out)
        self.link = Link(pair[1], now=0.0, limits=LinkLimits(**limits))
        self.link.path_up(0.0)

    def say(self, *frames_):
        return self.link.receive(self.sealer.seal(b"".join(frames_)), 0.0)

    @staticmethod
    def record(number, data=b"x"):
        return frames.RECORD_HEADER.pack(frames.RECORD, number, 1, len(data)) + data


def test_records_beyond_the_window_are_a_violation_and_change_nothing(pair):
    forger = Forger(pair, window_records=100)
    forger.say(forger.record(99))
    for beyond in (100, 1 << 40, (1 << 64) - 1):
        with pytest.raises(PeerViolation):
            forger.say(forger.record(0), forger.record(beyond))
    assert forger.say(forger.record(0)) == [Data(1, b"x")]


def test_a_duplicate_is_acknowledged_at_once(pair):
    """Whoever sends a record again does not know that it arrived."""
    forger = Forger(pair)
    forger.say(forger.record(0))
    forger.link.packets(0.0)
    assert forger.link.deadline() > 0.0
    forger.say(forger.record(0))
    assert forger.link.deadline() <= 0.0
    assert len(forger.link.packets(0.0)) == 1


def test_early_bytes_beyond_the_window_are_a_violation(pair):
    forger = Forger(pair, window_bytes=10_000)
    forger.say(forger.record(1, bytes(6000)))
    with pytest.raises(PeerViolation):
        forger.say(forger.record(2, bytes(6000)))
    assert len(forger.link._inbox._early) == 1


def test_an_early_record_that_comes_again_is_held_once(pair):
    forger = Forger(pair, window_bytes=10_000)
    for _ in range(5):
        assert forger.say(forger.record(1, bytes(4000))) in ([], [Ready()])
    assert forger.link._inbox._early_bytes == 4000
    assert len(forger.say(forger.record(0))) == 2
    assert forger.say(forger.record(1, bytes(4000))) == []
    assert forger.link._inbox._early_bytes == 0


@pytest.mark.parametrize(
    "ack",
    [
        frames.Ack(False, 0, 1, ()),
        frames.Ack(False, 1 << 60, 0, ()),
        frames.Ack(False, 0, 0, ((1, 1 << 50),)),
    ],
)
def test_acknowledging_what_was_never_sent_is_a_violation(pair, ack):
    forger = Forger(pair)
    forger.say(frames.encode_ready())
    forger.link.packets(0.0)
    with pytest.raises(PeerViolation):
        forger.say(frames.encode_ack(ack))


def test_a_forged_packet_is_refused_and_changes_nothing(wire):
    wire.near.send(1, b"x")
    (packet,) = wire.near.packets(wire.now)
    heard = wire.far.last_heard
    for position in range(len(packet)):
        with pytest.raises(SessionError) as refusal:
            damaged = packet[:position] + bytes([packet[position] ^ 1]) + packet[position + 1 :]
            wire.far.receive(damaged, wire.now + 1)
        assert not isinstance(refusal.value, PeerViolation)
    assert wire.far.last_heard == heard
    assert wire.far.receive(packet, wire.now) == [Data(1, b"x")]


# --- state, close, abort


def test_the_state_is_told_when_it_changes(wire):
    wire.near.set_state({"state": "computing"})
    wire.pump()
    assert wire.far_events == [PeerState({"state": "computing"})]
    wire.wait(3.0)
    wire.near.set_state({"state": "computing"})
    wire.wait(1.0)
    assert len(wire.far_events) == 1
    with pytest.raises(LocalMisuse):
        wire.near.set_state({"state": "x" * 5000})


def test_pings_measure_the_round_trip_and_prove_life(wire):
    sent = wire.near.stats.packets_sent
    for _ in range(40):
        outgoing = wire.near.packets(wire.now)
        wire.now += 0.1
        for packet in outgoing:
            wire.far.receive(packet, wire.now)
        answers = wire.far.packets(wire.now)
        wire.now += 0.1
        for packet in answers:
            wire.near.receive(packet, wire.now)
    assert wire.near.rtt == pytest.approx(0.2, abs=0.1)
    assert wire.now - wire.far.last_heard < 1.1
    assert 8 <= wire.near.stats.packets_sent - sent <= 30


def test_close_is_no_truncation(wire):
    """The peer hears of the close first and of the lost records later: it is closed when it has all."""
    wire.near.send(1, b"lost ")
    wire.drop()
    wire.near.send(1, b"last")
    wire.near.close()
    wire.pump()
    assert wire.far_events == []
    assert wire.near.unacknowledged == 1
    wire.wait(1.5)
    assert wire.far_events == [Data(1, b"lost "), Data(1, b"last"), Closed()]
    assert wire.near.unacknowledged == 0


def test_a_lost_close_is_said_again_and_heard_once(wire):
    wire.near.close()
    wire.drop()
    assert wire.near.unacknowledged == 1
    wire.wait(3.0)
    assert wire.far_events == [Closed()]
    assert wire.near.unacknowledged == 0
    wire.connect()
    wire.wait(1.0)
    assert wire.far_events == [Closed()]


def test_one_side_may_close_while_the_other_goes_on(wire):
    wire.near.close()
    wire.pump()
    wire.far.send(1, b"still")
    wire.wait(0.3)
    assert wire.near_events == [Data(1, b"still")]
    with pytest.raises(LocalMisuse):
        wire.near.send(1, b"more")


def test_records_after_a_close_are_a_violation(pair):
    forger = Forger(pair)
    forger.say(frames.encode_close(2), forger.record(1))
    for frame in (forger.record(2), frames.encode_close(3), frames.encode_close(1)):
        with pytest.raises(PeerViolation):
            forger.say(frame)
    assert forger.say(forger.record(0)) == [Data(1, b"x"), Data(1, b"x"), Closed()]


def test_a_close_below_what_was_received_is_a_violation(pair):
    forger = Forger(pair)
    forger.say(forger.record(3))
    with pytest.raises(PeerViolation):
        forger.say(frames.encode_close(3))


def test_an_abort_carries_its_cause_and_ends_everything_else(wire):
    wire.near.send(1, b"never needed")
    wire.near.abort({"kind": "raised", "what": "ValueError"})
    wire.pump()
    assert wire.far_events == [Aborted({"kind": "raised", "what": "ValueError"})]
    assert wire.near.unacknowledged == 0
    wire.near.send(1, b"ignored")
    wire.far.send(1, b"ignored")
    wire.wait(3.0)
    assert len(wire.far_events) == 1


def test_a_lost_abort_is_said_again(wire):
    wire.near.abort({"kind": "killed"})
    wire.drop()
    wire.wait(1.2)
    assert wire.far_events == [Aborted({"kind": "killed"})]


# --- time


def test_silence_ends_a_session(wire):
    wire.now += 14 * 60
    wire.near.packets(wire.now)
    wire.now += 60
    assert wire.near.deadline() <= wire.now
    with pytest.raises(SessionOver, match="heard"):
        wire.near.packets(wire.now)
    with pytest.raises(SessionOver):
        wire.near.send(1, b"x")


def test_age_ends_a_session_however_alive(wire_of):
    wire = wire_of(lifetime_seconds=100.0)
    wire.connect()
    wire.wait(99.0, step=1.0)
    wire.now += 1
    with pytest.raises(SessionOver, match="older"):
        wire.near.packets(wire.now)


def test_forgeries_without_end_end_the_session(wire, monkeypatch):
    monkeypatch.setattr(packets_module, "MAX_FAILED_OPENS", 3)
    (good,) = wire.near.packets(wire.now + 1)
    for _ in range(2):
        with pytest.raises(SessionError):
            wire.far.receive(good[:-1] + bytes([good[-1] ^ 1]), wire.now)
    with pytest.raises(SessionOver):
        wire.far.receive(good[:-1] + bytes([good[-1] ^ 2]), wire.now)
    with pytest.raises(SessionOver):
        wire.far.packets(wire.now)


def test_the_deadline_is_never_missed_and_never_spins(wire):
    """Called only at its deadlines, a link does all it has to; and each call moves the deadline on."""
    wire.near.send(1, b"lost")
    wire.drop()
    for _ in range(200):
        due = min(wire.near.deadline(), wire.far.deadline())
        if due > wire.now + 5:
            break
        wire.now = max(wire.now, due)
        wire.pump()
        assert wire.near.deadline() > wire.now
        assert wire.far.deadline() > wire.now
    assert data_of(wire.far_events) == b"lost"
    assert wire.now > 1003


def test_seconds_are_measured_with_the_clock_handed_in(pair):
    ticks = iter(range(10**6))
    near = Link(pair[0], now=0.0, clock=lambda: float(next(ticks)))
    far = Link(pair[1], now=0.0)
    near.path_up(0.0)
    far.path_up(0.0)
    for packet in near.packets(0.0):
        far.receive(packet, 0.0)
    for packet in far.packets(0.0):
        near.receive(packet, 0.0)
    assert (near.stats.seal_seconds, near.stats.open_seconds) == (1.0, 1.0)
    assert (far.stats.seal_seconds, far.stats.open_seconds) == (0.0, 0.0)


def test_a_packet_for_another_session_or_direction_is_refused(wire, new_pair):
    stranger = Link(new_pair()[0], now=0.0)
    stranger.path_up(0.0)
    for packet in stranger.packets(0.0):
        with pytest.raises(SessionError):
            wire.far.receive(packet, wire.now)
    wire.near.send(1, b"reflected")
    for packet in wire.near.packets(wire.now):
        with pytest.raises(SessionError):
            wire.near.receive(packet, wire.now)


def test_what_leaves_has_few_lengths(wire, pair):
    opener = PacketOpener(pair[0].secret_send, pair[0].sid_out)
    lengths = set()
    for size in range(0, 900, 7):
        wire.near.send(1, bytes(size))
        for packet in wire.near.packets(wire.now):
            lengths.add(len(packet) - 37)
            opener.open(packet)
    assert all(length % 64 == 0 for length in lengths)
    assert len(lengths) <= 15
