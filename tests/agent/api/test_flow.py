"""Messages in records, and who may have how much on its way: without any I/O."""

import pytest

from didmpc.agent.api.flow import OVERHEAD, Allowance, Piece, Unread, cost, pieces
from didmpc.protocols.session.frames import MAX_RECORD_DATA


@pytest.mark.parametrize(
    "size, count",
    [(0, 1), (1, 1), (MAX_RECORD_DATA, 1), (MAX_RECORD_DATA + 1, 2), (3 * MAX_RECORD_DATA, 3)],
)
def test_a_message_is_cut_into_records_of_which_the_last_says_so(size, count):
    cut = list(pieces(memoryview(bytes(size))))
    assert [piece for piece, _ in cut] == [Piece.MORE] * (count - 1) + [Piece.LAST]
    assert sum(len(data) for _, data in cut) == size


def test_a_sender_goes_to_the_limit_and_no_further():
    allowance = Allowance({"unread_bytes": 1000})
    assert allowance.covers(1000)
    allowance.spend(600)
    assert not allowance.covers(401)
    allowance.learn({"may_send": 1001})
    assert allowance.covers(401)
    allowance.learn({"may_send": 1})
    assert allowance.covers(401), "nothing is taken back"
    allowance.learn({"may_send": "all"})
    assert not allowance.covers(402)


def test_a_peer_that_states_no_limit_has_none():
    allowance = Allowance({"window_records": 10})
    allowance.learn({"may_send": 5})
    assert allowance.covers(1 << 60)


def test_empty_records_cost_something_too():
    unread = Unread(10 * OVERHEAD)
    assert all(unread.put(Piece.LAST, b"") for _ in range(10))
    assert not unread.put(Piece.LAST, b"")


def test_reading_lets_the_peer_go_on_but_not_for_each_byte():
    unread = Unread(1000)
    for _ in range(5):
        assert unread.put(Piece.LAST, bytes(100))
    unread.take()
    assert unread.news() is None
    unread.take()
    assert unread.news() == {"may_send": 1000 + 2 * cost(bytes(100))}
    assert unread.news() is None


def test_a_record_that_is_no_part_of_a_message_is_refused():
    assert not Unread(1000).put(3, b"x")
