"""Packets: layout, replay, epochs, and that a number is sealed once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.protocols.errors import SessionError
from didmpc.protocols.session import packet as packets
from didmpc.protocols.session.packet import (
    OVERHEAD,
    REPLAY_WINDOW,
    EpochLimits,
    PacketOpener,
    PacketSealer,
    SessionOver,
)

SECRET, SID = bytes(range(32)), b"sid-8byt"


def sealer(**options):
    return PacketSealer(SECRET, SID, **options)


def opener():
    return PacketOpener(SECRET, SID)


def test_a_packet_is_its_header_ciphertext_and_tag():
    packet = sealer().seal(b"x" * 64)
    assert len(packet) == 64 + OVERHEAD == 64 + 37
    assert packet[:21] == b"\x01" + SID + bytes(4) + bytes(8)
    assert opener().open(packet) == b"x" * 64


@pytest.mark.parametrize("size", [0, 1, 64, 5000])
def test_a_packet_is_opened_and_sealed_again_in_its_own_memory(size):
    plaintext = bytes(number % 251 for number in range(size))
    into, out, last = opener(), PacketSealer(bytes(32), b"other-id"), PacketOpener(bytes(32), b"other-id")
    packet = bytearray(sealer().seal(plaintext))
    spoilt, again = bytearray(packet), bytearray(packet)
    spoilt[-1] ^= 1
    with pytest.raises(SessionError, match="not authentic"):
        into.open_in_place(spoilt)
    opened = into.open_in_place(packet)
    assert opened == plaintext
    with pytest.raises(SessionError, match="before"):
        into.open_in_place(again)
    if size:
        opened[0] = 255
    out.seal_in_place(packet)
    assert last.open(bytes(packet)) == b"\xff"[:size] + plaintext[1:]
    assert packet == PacketSealer(bytes(32), b"other-id").seal(b"\xff"[:size] + plaintext[1:])


def test_each_packet_opens_once_in_any_order():
    out, into = sealer(), opener()
    sealed = [out.seal(b"%d" % number) for number in range(300)]
    for number in (2, 0, 299, 150, 1, *range(3, 150), *range(151, 299)):
        assert into.open(sealed[number]) == b"%d" % number
        with pytest.raises(SessionError, match="before"):
            into.open(sealed[number])


def test_packets_beyond_the_replay_window_are_refused_even_if_new():
    out, into = sealer(), opener()
    sealed = [out.seal(b"") for _ in range(REPLAY_WINDOW + 2)]
    into.open(sealed[-1])
    with pytest.raises(SessionError, match="before"):
        into.open(sealed[1])
    into.open(sealed[2])
    with pytest.raises(SessionError, match="before"):
        into.open(sealed[2])


def test_a_jump_longer_than_the_window_forgets_nothing_it_should_know():
    out, into = sealer(), opener()
    into.open(out.seal(b"first"))
    for _ in range(3 * REPLAY_WINDOW):
        last_skipped = out.seal(b"")
    last = out.seal(b"last")
    into.open(last)
    assert into.open(last_skipped) == b""
    for replayed in (last, last_skipped):
        with pytest.raises(SessionError):
            into.open(replayed)


def test_a_refused_packet_changes_nothing():
    out, into = sealer(limits=EpochLimits(packets=1), ordered=True), opener()
    first = out.seal(b"1")
    for packet in (first, out.seal(b"2")):
        with pytest.raises(SessionError):
            into.open(packet[:-1] + bytes([packet[-1] ^ 1]))
    assert (into.highest, into.epoch, into.failed) == (-1, 0, 2)
    assert into.open(first) == b"1"


def test_epochs_step_only_after_an_acknowledgement(recording):
    out, into = sealer(limits=EpochLimits(packets=4), aead=recording), opener()
    for _ in range(20):
        into.open(out.seal(b""))
    assert out.epoch == 0
    out.acknowledged(3)
    into.open(out.seal(b""))
    assert (out.epoch, out.number, into.epoch) == (1, 21, 1)
    for _ in range(10):
        into.open(out.seal(b""))
    out.acknowledged(19)  # of the epoch before: not enough
    into.open(out.seal(b""))
    assert out.epoch == 1


@pytest.mark.parametrize(
    ("limits", "sealed", "times"),
    [
        (EpochLimits(packets=3), b"", [0, 0, 0, 0]),
        (EpochLimits(bytes=100), b"x" * 40, [0, 0, 0, 0]),
        (EpochLimits(seconds=10), b"", [0, 5, 9.9, 10]),
    ],
)
def test_packets_bytes_and_time_each_end_an_epoch(limits, sealed, times):
    out = sealer(limits=limits, ordered=True)
    epochs = []
    for now in times:
        out.seal(sealed, now)
        epochs.append(out.epoch)
    assert epochs == [0, 0, 0, 1]


def test_hundreds_of_epochs_are_crossed_with_numbers_that_only_grow(recording):
    out, into = sealer(limits=EpochLimits(packets=16), ordered=True, aead=recording), opener()
    for number in range(16 * 300):
        packet = out.seal(b"")
        assert int.from_bytes(packet[13:21], "big") == number
        into.open(packet)
    assert into.epoch == 299
    assert len(into._keys) <= 3


def test_a_late_packet_of_the_epoch_before_opens_and_an_older_one_does_not():
    out, into = sealer(limits=EpochLimits(packets=2), ordered=True), opener()
    sealed = [out.seal(b"%d" % number) for number in range(6)]
    into.open(sealed[0])
    into.open(sealed[2])
    assert into.open(sealed[1]) == b"1"
    into.open(sealed[4])
    assert into.open(sealed[3]) == b"3"
    late, fresh = sealer(limits=EpochLimits(packets=2), ordered=True), opener()
    sealed = [late.seal(b"") for _ in range(6)]
    for number in (0, 2, 4):
        fresh.open(sealed[number])
    with pytest.raises(SessionError, match="epoch"):
        fresh.open(sealed[1])


def test_a_packet_two_epochs_ahead_is_refused():
    out = sealer(limits=EpochLimits(packets=1), ordered=True)
    sealed = [out.seal(b"") for _ in range(3)]
    with pytest.raises(SessionError, match="epoch"):
        opener().open(sealed[2])


def test_a_forged_packet_of_the_next_epoch_takes_no_step():
    """Deriving the next key early must not lose the key in use."""
    out, into = sealer(), opener()
    first, second = out.seal(b"1"), out.seal(b"2")
    into.open(first)
    forged = first[:9] + (1).to_bytes(4, "big") + (5).to_bytes(8, "big") + first[21:]
    for _ in range(3):
        with pytest.raises(SessionError, match="authentic"):
            into.open(forged)
    assert into.epoch == 0
    assert into.open(second) == b"2"


def test_there_is_no_way_to_reset_the_counter(recording):
    """didcomm.org mesh/1.0 lets a peer reset the counter under a static key: a second seal under one nonce.

    Here the number is no argument of anything, only grows, and a failed seal uses its number up.
    """

    class Failing(recording):
        fail = False

        def encrypt(self, nonce, data, associated_data):
            result = super().encrypt(nonce, data, associated_data)
            if type(self).fail:
                raise MemoryError
            return result

    out = sealer(aead=Failing)
    out.seal(b"a")
    Failing.fail = True
    with pytest.raises(MemoryError):
        out.seal(b"b")
    Failing.fail = False
    assert out.seal(b"c")[13:21] == (2).to_bytes(8, "big")
    out.acknowledged(-5)
    out.acknowledged(0)
    assert out.seal(b"d")[13:21] == (3).to_bytes(8, "big")
    assert len(recording.sealed) == 4


def test_the_recording_aead_of_these_tests_does_catch_a_repeat(recording):
    """Two sealers of one secret are exactly the fault that must not happen."""
    sealer(aead=recording).seal(b"a")
    with pytest.raises(AssertionError, match="twice"):
        sealer(aead=recording).seal(b"b")


def test_too_many_forgeries_end_the_session(monkeypatch):
    monkeypatch.setattr(packets, "MAX_FAILED_OPENS", 5)
    out, into = sealer(), opener()
    good = out.seal(b"")
    for _ in range(4):
        with pytest.raises(SessionError) as refusal:
            into.open(good[:-1] + bytes([good[-1] ^ 1]))
        assert not isinstance(refusal.value, SessionOver)
    for attempt in (good[:-1] + bytes([good[-1] ^ 1]), good):
        with pytest.raises(SessionOver):
            into.open(attempt)


def test_epochs_run_out_before_a_key_is_used_twice(monkeypatch):
    monkeypatch.setattr(packets, "_LAST_EPOCH", 2)
    out = sealer(limits=EpochLimits(packets=1), ordered=True)
    for _ in range(3):
        out.seal(b"")
    with pytest.raises(SessionOver):
        out.seal(b"")


def test_a_peer_that_never_acknowledges_ends_the_session_at_last(monkeypatch):
    monkeypatch.setattr(packets, "_EPOCH_CEILING", 10)
    out = sealer(limits=EpochLimits(packets=2))
    for _ in range(10):
        out.seal(b"")
    with pytest.raises(SessionOver):
        out.seal(b"")


def test_old_secrets_are_gone():
    out, into = sealer(limits=EpochLimits(packets=1), ordered=True), opener()
    into.open(out.seal(b""))
    into.open(out.seal(b""))
    held = [value for holder in (out, into) for value in vars(holder).values() if isinstance(value, bytes)]
    assert SECRET not in held


@settings(max_examples=200, deadline=None)
@given(data=st.data(), plaintext=st.binary(max_size=80))
def test_a_changed_packet_is_refused_whatever_was_changed(data, plaintext):
    packet = sealer().seal(plaintext)
    position = data.draw(st.integers(0, len(packet) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = packet[:position] + bytes([packet[position] ^ flip]) + packet[position + 1 :]
    cut = packet[: data.draw(st.integers(0, len(packet) - 1))]
    for forged in (changed, cut, packet + b"\x00"):
        with pytest.raises(SessionError):
            opener().open(forged)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(noise):
    with pytest.raises(SessionError):
        opener().open(b"\x01" + SID + noise)
    with pytest.raises(SessionError):
        opener().open(noise)


def test_nothing_secret_is_shown():
    assert "epoch=0" in repr(sealer())
    assert SECRET.hex() not in repr(sealer()) + repr(opener())
