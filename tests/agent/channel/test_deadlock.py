"""When a deadlock is suspected, when it is none, and what is said of it."""

import itertools
from dataclasses import replace

import pytest

from didmpc.agent.channel.deadlock import Deadlock, Finding, awaited_by_all, stuck
from didmpc.agent.channel.states import Doing, Snapshot, held_up_by, in_words

NAMES = {0: "Alice", 1: "Bob", 2: "Carol"}


def waiting(pid: int, waits: dict[int, int], sent: int = 100, m: int = 3, left: frozenset[int] = frozenset()):
    others = [other for other in range(m) if other != pid]
    counts = dict.fromkeys(others, sent)
    return Doing("waiting", 0, waits, (), Snapshot(counts, counts, left))


def circle() -> dict[int, Doing]:
    """Everyone waits for the next one, and has got what there was."""
    return {pid: waiting(pid, {(pid + 1) % 3: 1}) for pid in range(3)}


def test_everyone_waiting_with_nothing_on_its_way_is_stuck():
    assert stuck(circle())


@pytest.mark.parametrize(
    "doing",
    [
        Doing("computing"),
        Doing("reading"),
        Doing("waiting", 0, {0: 1}, ("timer",)),
        Doing("waiting", 0, {0: 1}, ("thread",)),
        Doing("waiting", 0, {0: 1}, ("stdin",)),
        Doing("waiting", 0, {0: 1}),  # its program has bytes to read
    ],
    ids=["computes", "reads what is typed", "sleeps", "executor", "stdin", "unread"],
)
def test_one_who_may_still_go_on_is_enough_for_it_to_be_none(doing: Doing):
    for pid in range(3):
        assert not stuck(circle() | {pid: doing})


@pytest.mark.parametrize(("sender", "receiver"), [*itertools.permutations(range(3), 2)])
def test_bytes_on_their_way_on_any_link_are_enough_for_it_to_be_none(sender: int, receiver: int):
    everyone = circle()
    snapshot = everyone[sender].snapshot
    sent = {**snapshot.sent, receiver: snapshot.sent[receiver] + 1}
    everyone[sender] = replace(everyone[sender], snapshot=replace(snapshot, sent=sent))
    assert not stuck(everyone)


def test_who_has_ended_counts_once_everyone_has_all_of_what_it_sent():
    everyone = {0: waiting(0, {1: 1}), 1: waiting(1, {0: 1}), 2: Doing("exited")}
    assert not stuck(everyone)
    gone = frozenset({2})
    everyone = {0: waiting(0, {1: 1}, left=gone), 1: waiting(1, {0: 1}, left=gone), 2: Doing("exited")}
    assert stuck(everyone)
    assert not stuck({pid: Doing("exited") for pid in range(3)})


def test_it_is_suspected_once_all_were_heard_twice_and_ends_the_run_after_the_grace():
    deadlock, everyone = Deadlock(grace=30), circle()
    assert deadlock.look(everyone, heard=9, now=10) is Finding.NOTHING
    assert deadlock.look(everyone, heard=10.5, now=11) is Finding.NOTHING
    assert deadlock.look(everyone, heard=11.6, now=12) is Finding.SUSPECTED
    assert deadlock.seconds_left(20) == 22
    assert deadlock.look(everyone, heard=41, now=41.9) is Finding.STANDS
    assert deadlock.look(everyone, heard=42, now=42) is Finding.LASTS


def test_anything_that_changes_begins_the_wait_anew():
    deadlock, everyone = Deadlock(grace=30), circle()
    deadlock.look(everyone, heard=10, now=10)
    assert deadlock.look(everyone, heard=12, now=12) is Finding.SUSPECTED
    moved = {pid: waiting(pid, {(pid + 1) % 3: 1}, sent=101) for pid in range(3)}
    assert deadlock.look(moved, heard=30, now=30) is Finding.OVER
    assert deadlock.look(moved, heard=45, now=45) is Finding.SUSPECTED
    assert deadlock.look(moved, heard=74, now=74) is Finding.STANDS
    assert deadlock.look(moved, heard=75, now=75) is Finding.LASTS


def test_somebody_who_cannot_be_asked_is_not_accused():
    deadlock, everyone = Deadlock(grace=5), circle()
    deadlock.look(everyone, heard=10, now=10)
    assert deadlock.look(everyone, heard=12, now=12) is Finding.SUSPECTED
    assert deadlock.look(None, heard=12, now=20) is Finding.OVER
    for now in range(21, 100):
        assert deadlock.look(everyone, heard=12, now=now) is Finding.NOTHING, "it was not heard again"


def test_states_pass_through_heartbeats_unchanged():
    for doing in (*circle().values(), Doing("reading", 7), Doing("waiting", 3, {2: 1}, ("timer",))):
        pids = {0, 1, 2}
        assert Doing.read(doing.to_json(), pids) == doing


def test_whom_everyone_waits_for_in_the_end():
    everyone = {0: Doing("waiting", 0, {1: 1}), 1: Doing("waiting", 0, {2: 3}), 2: Doing("reading")}
    assert held_up_by(everyone, 0) == [2]
    assert held_up_by(circle(), 0) == []


def test_whose_program_may_be_the_one_that_differs():
    everyone = {0: waiting(0, {2: 1}), 1: waiting(1, {2: 1, 0: 1}), 2: waiting(2, {0: 1})}
    assert awaited_by_all(everyone) is None, "Alice is as likely as Carol"
    assert awaited_by_all(everyone | {1: waiting(1, {2: 1})}) == 2
    assert awaited_by_all(circle()) is None
    assert awaited_by_all({0: waiting(0, {1: 1}, m=2), 1: waiting(1, {0: 1}, m=2)}) is None


def test_who_waits_for_whom_in_words():
    everyone = circle() | {1: waiting(1, {0: 1, 2: 4}), 2: waiting(2, {})}
    assert in_words(everyone, NAMES, [0, 1, 2]) == (
        "Alice's program waits for a message of Bob's; "
        "Bob's program waits for a message of Alice's and 4 messages of Carol's; "
        "Carol's program waits for something that is no message"
    )
