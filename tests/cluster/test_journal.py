"""The judge sees what it is there to see."""

import pytest
from cluster_parts.journal import GRACE, Journal

PROMISES = ("lost", "came back", "twice")


@pytest.fixture
def journal() -> Journal:
    made = Journal(lease_seconds=10)
    made.opened("a")
    made.opened("b")
    return made


def test_what_was_taken_delivered_and_acknowledged_is_as_it_should_be(journal: Journal) -> None:
    journal.taken("m")
    journal.pushed("a", "1", "m", 0)
    journal.acknowledged("m")
    assert journal.complaints() == []
    assert [journal.summary()[promise] for promise in PROMISES] == [0, 0, 0]


def test_what_was_taken_and_never_came_is_lost(journal: Journal) -> None:
    journal.taken("m")
    assert journal.complaints() == ["lost: m"]
    assert journal.summary()["lost"] == 1


def test_what_was_refused_or_not_answered_is_no_promise_and_may_come_all_the_same(journal: Journal) -> None:
    journal.refused()
    journal.unanswered()
    journal.fetched("1", "m")
    assert journal.complaints() == []


@pytest.mark.parametrize("again", ["on the same socket", "late", "when asked for"])
def test_what_was_acknowledged_and_comes_again_has_come_back(journal: Journal, again: str) -> None:
    journal.pushed("a", "1", "m", 0)
    journal.acknowledged("m", socket="a", now=1)
    if again == "on the same socket":
        journal.pushed("a", "1", "m", 2, asked=True)
    elif again == "late":
        journal.pushed("b", "1", "m", 2 + GRACE)
    else:
        journal.fetched("1", "m")
    (complaint,) = journal.complaints()
    assert complaint.startswith("came back after it was deleted: m")
    assert journal.summary()["came back"] == 1


def test_what_was_on_its_way_to_another_socket_when_it_was_acknowledged_has_not_come_back(
    journal: Journal,
) -> None:
    journal.pushed("a", "1", "m", 0, asked=True)
    journal.acknowledged("m", socket="a", now=1)
    journal.pushed("b", "1", "m", 2)
    assert journal.complaints() == []
    assert journal.summary()["crossed"] == 1


def test_what_was_pushed_to_two_sockets_was_so_also_where_one_has_acknowledged_it_meanwhile(
    journal: Journal,
) -> None:
    journal.pushed("a", "1", "m", 0)
    journal.acknowledged("m", socket="a", now=1)
    journal.pushed("b", "1", "m", 2)
    assert journal.complaints() == ["a and b both hold m"]


def test_what_is_asked_for_while_another_socket_holds_it_may_have_been_read_before(journal: Journal) -> None:
    journal.lease_seconds = 2 * GRACE
    journal.pushed("a", "1", "m", 0)
    journal.pushed("b", "1", "m", 1, asked=True)
    assert journal.complaints() == []
    journal.pushed("b", "1", "m", GRACE, asked=True)
    assert journal.complaints() == ["a and b both hold m"]


def test_what_has_two_names_is_there_twice(journal: Journal) -> None:
    journal.fetched("1", "m")
    journal.fetched("2", "m")
    assert journal.complaints() == ["in the mailbox twice, as 1 and 2: m"]
    assert journal.summary()["twice"] == 1


def test_a_socket_is_pushed_nothing_twice_but_a_new_one_is(journal: Journal) -> None:
    journal.pushed("a", "1", "m", 0)
    journal.ended("a", 10)
    journal.opened("c")
    journal.pushed("c", "1", "m", 1)
    assert journal.complaints() == []
    journal.pushed("c", "1", "m", 2)
    assert journal.complaints() == ["pushed twice to c: m"]


def test_two_open_sockets_that_hold_the_same_message_are_in_doubt_until_the_first_is_fenced(
    journal: Journal,
) -> None:
    journal.pushed("a", "1", "m", 0)
    journal.pushed("b", "1", "m", 9)
    assert journal.complaints() == ["a and b both hold m"]
    assert journal.is_unsure(9 + GRACE)
    assert not journal.is_unsure(10 + GRACE)
    journal.ended("b", 10)
    assert journal.complaints() == ["a and b both hold m"]
    journal.ended("a", 10)
    assert journal.complaints() == []


def test_a_socket_that_ends_long_after_another_one_got_its_mail_was_not_fenced(journal: Journal) -> None:
    journal.pushed("a", "1", "m", 0)
    journal.pushed("b", "1", "m", 1)
    journal.ended("a", 2 + GRACE)
    assert journal.complaints() == ["a and b both hold m"]


def test_once_the_lease_has_lapsed_another_socket_may_have_it(journal: Journal) -> None:
    journal.pushed("a", "1", "m", 0)
    journal.pushed("b", "1", "m", 10)
    assert journal.complaints() == []
