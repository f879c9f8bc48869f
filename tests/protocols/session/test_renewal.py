"""A new session on the same link: nothing is lost, doubled or held up, and old keys are forgotten."""

import pytest

from didmpc.protocols.errors import LocalMisuse, SessionError
from didmpc.protocols.session.link import RETIRED_SECONDS, Closed, Contacts, Data, Renewed, SessionOver


def data_of(events):
    return [event.data for event in events if isinstance(event, Data)]


def test_both_sides_go_over_to_it_and_say_so_once(wire, new_pair):
    wire.renew(new_pair())
    wire.pump()
    assert wire.near_events.count(Renewed()) == wire.far_events.count(Renewed()) == 1
    assert (wire.near.stats.sessions, wire.far.stats.sessions) == (2, 2)


def test_records_keep_their_numbers_and_order_across_it(wire, new_pair):
    wire.near.send(1, b"before")
    lost = wire.drop()
    wire.renew(new_pair())
    wire.near.send(1, b"after")
    wire.far.send(1, b"back")
    wire.wait(3)
    assert lost
    assert data_of(wire.far_events) == [b"before", b"after"]
    assert data_of(wire.near_events) == [b"back"]


def test_the_present_one_speaks_until_the_peer_was_heard_in_the_new_one(wire, new_pair):
    near, far = new_pair()
    wire.near.renew(near, wire.now)  # the peer has not got it yet
    wire.near.send(1, b"not held up")
    for packet in wire.near.packets(wire.now):
        try:
            wire.far_events += wire.far.receive(packet, wire.now)
        except SessionError as error:
            assert error.code == "e.p.session.unknown"
    assert data_of(wire.far_events) == [b"not held up"]
    wire.far.renew(far, wire.now)
    wire.wait(1.2)  # its READY is said again each second
    assert Renewed() in wire.near_events and Renewed() in wire.far_events


def test_one_that_never_comes_about_changes_nothing(wire, new_pair):
    wire.far.renew(new_pair()[1], wire.now)  # its accept got lost
    wire.near.send(1, b"there")
    wire.far.send(1, b"and back")
    wire.wait(5)
    assert data_of(wire.far_events) == [b"there"] and data_of(wire.near_events) == [b"and back"]
    assert Renewed() not in wire.far_events


def test_a_retry_takes_the_place_of_the_one_that_got_lost(wire, new_pair):
    wire.far.renew(new_pair()[1], wire.now)
    wire.renew(new_pair())
    wire.pump()
    assert wire.far_events.count(Renewed()) == 1


def test_late_packets_of_the_session_before_are_taken_for_a_while(wire, new_pair):
    wire.near.send(1, b"late")
    late = wire.drop()
    wire.renew(new_pair())
    wire.pump()
    assert [event.data for packet in late for event in wire.far.receive(packet, wire.now)] == [b"late"]


def test_after_that_its_keys_are_forgotten(wire, new_pair):
    wire.near.send(1, b"too late")
    late = wire.drop()
    wire.renew(new_pair())
    wire.wait(RETIRED_SECONDS + 1)
    assert wire.far._retired is None and wire.near._retired is None
    with pytest.raises(SessionError) as refused:
        wire.far.receive(late[0], wire.now)
    assert refused.value.code == "e.p.session.unknown"
    assert data_of(wire.far_events) == [b"too late"], "the record came again in the new session"


def test_nothing_is_sealed_under_old_keys_once_it_took_over(wire, new_pair):
    before = wire.near._session
    wire.renew(new_pair())
    wire.pump()
    sealed = before.sealed
    wire.near.send(1, b"new keys")
    wire.wait(3)
    assert before.sealed == sealed and before.epoch == -1


def test_a_close_holds_across_it(wire, new_pair):
    wire.near.send(1, b"last")
    wire.near.close()
    lost = wire.drop()
    wire.renew(new_pair())
    wire.wait(3)
    assert lost
    assert data_of(wire.far_events) == [b"last"]
    assert Closed() in wire.far_events


def test_it_is_due_for_who_opened_the_session_after_time_or_packets(wire_of, new_pair):
    wire = wire_of(renew_seconds=100, renew_packets=50, lifetime_seconds=1000)
    wire.connect()
    assert not wire.near.renewal_due(wire.now)
    wire.wait(101, step=0.5)
    assert wire.near.renewal_due(wire.now) and not wire.far.renewal_due(wire.now)
    wire.renew(new_pair())
    assert not wire.near.renewal_due(wire.now)
    wire.pump()
    assert not wire.near.renewal_due(wire.now)
    for _ in range(60):
        wire.near.send(1, b"x")
        wire.pump()
    assert wire.near.renewal_due(wire.now)


def test_it_is_not_due_while_the_peer_was_not_heard_and_one_that_comes_then_changes_nothing(
    wire_of, new_pair
):
    wire = wire_of(renew_seconds=1)
    wire.near.path_up(wire.now)
    assert not wire.near.renewal_due(wire.now + 100)
    initiators, responders = new_pair()
    with pytest.raises(LocalMisuse):
        wire.near.renew(initiators, wire.now)
    with pytest.raises(LocalMisuse):
        wire.far.renew(responders, wire.now)
    wire.connect()
    assert wire.near.renewal_due(wire.now + 100)


def test_a_link_outlives_the_lifetime_of_each_of_its_sessions(wire_of, new_pair):
    wire = wire_of(lifetime_seconds=60)
    wire.connect()
    for _ in range(4):
        wire.wait(40, step=0.5)
        wire.renew(new_pair())
        wire.pump()
    wire.near.send(1, b"still here")
    wire.pump()
    assert data_of(wire.far_events) == [b"still here"]


# --- the other wire form


def test_the_form_of_the_packets_changes_and_no_byte_is_lost(wire, new_json_pair):
    wire.connect_json()
    wire.near.send(1, b"in binary")
    lost = wire.drop()
    wire.renew(new_json_pair())
    wire.far.send(1, b"back")
    wire.wait(3)
    assert lost and wire.near.wire == wire.far.wire == "json"
    wire.near.send(1, b"in JSON")
    (packet, *_) = wire.near.packets(wire.now)
    assert packet.startswith(b'{"protected":"')
    wire.far_events += wire.far.receive(packet, wire.now)
    assert data_of(wire.far_events) == [b"in binary", b"in JSON"]
    assert data_of(wire.near_events) == [b"back"]


def test_without_a_path_of_the_new_form_the_old_session_goes_on(wire, new_json_pair):
    wire.renew(new_json_pair())
    wire.near.send(1, b"still in binary")
    wire.wait(3)
    assert wire.near.wire == "binary"
    assert data_of(wire.far_events) == [b"still in binary"]


def test_it_goes_back_to_binary_as_well(wire, new_pair, new_json_pair):
    wire.connect_json()
    for pair in (new_json_pair(), new_pair()):
        wire.renew(pair)
        wire.wait(3)
    assert wire.near.wire == wire.far.wire == "binary"
    assert wire.near.stats.sessions == 3


# --- a peer that is said to have lost the session


def test_a_hint_that_the_session_is_lost_is_tested_by_asking(wire):
    wire.near.probe(wire.now)
    wire.wait(20)
    wire.near.send(1, b"it was a lie")
    wire.pump()
    assert data_of(wire.far_events) == [b"it was a lie"]


def test_a_peer_that_does_not_answer_after_the_hint_has_lost_it(wire):
    wire.near.probe(wire.now)
    for _ in range(11):
        wire.now += 1
        if wire.now >= wire.near.deadline() and wire.near._probe_ends <= wire.now:
            break
        wire.drop()
    with pytest.raises(SessionOver, match="lost the session"):
        wire.near.packets(wire.now)


# --- contact proofs


def test_contact_proofs_arrive_once_also_when_they_are_lost_at_first(wire_of):
    wire = wire_of()
    proofs = tuple(bytes([n]) * 32 for n in range(64))
    wire.far.offer_contacts(proofs)
    wire.near.path_up(wire.now)
    wire.far.path_up(wire.now)
    for packet in wire.near.packets(wire.now):
        wire.far.receive(packet, wire.now)
    lost = wire.far.packets(wire.now)
    assert any(len(packet) > 64 * 32 for packet in lost)
    wire.wait(3)
    assert [event.proofs for event in wire.near_events if isinstance(event, Contacts)] == [proofs]
    sent = wire.far.stats.sealed_bytes
    wire.wait(3)
    assert wire.far.stats.sealed_bytes - sent < 2048, (
        "they are not said again once they are known to be there"
    )
