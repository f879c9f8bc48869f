"""Figures and sentences."""

import pytest

from didmpc.agent.cli import narration, remedies
from didmpc.agent.cli.words import duration, listing, milliseconds, plural, short_did, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (6.84, "6.8 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3599.9, "1 h"),
        (86400, "1 d"),
        (90061, "1 d 1 h"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (612, "612 bytes"),
        (2100, "2.1 kB"),
        (999_960, "1.0 MB"),
        (2.1e6, "2.1 MB"),
        (5e12, "5,000.0 GB"),
    ],
)
def test_sizes(count, said):
    assert size(count) == said


def test_small_words():
    assert (milliseconds(0.41), milliseconds(31.2)) == ("0.4 ms", "31 ms")
    assert (plural(1, "party", "parties"), plural(1204, "round")) == ("1 party", "1,204 rounds")
    assert [listing(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert short_did("did:peer:4zQm" + "x" * 1000 + "uHG") == "did:peer:4zQmxxxxx...xxxuHG"


def test_a_threshold_of_zero_is_never_called_private():
    for m in (1, 2, 3, 5):
        said, _ = narration.privacy({"m": m, "threshold": 0, "private_unless": 1})
        assert "NOTHING STAYS PRIVATE" in said
        assert "private unless" not in said


def test_privacy_that_nobody_stated_is_not_claimed():
    assert "private unless" not in narration.privacy({})[0]


def test_the_last_line_leaves_out_what_is_not_known():
    assert narration.done({}, 0) == "Done."
    assert narration.done({"seconds": 1.0, "rounds": 1}, 3) == "Done in 1.0 s: 3 parties, 1 round"


def test_the_next_command_can_be_pasted_into_a_shell():
    again = remedies.again("my program.py", ["Bob's laptop", "carol"], host=True)
    assert again.endswith("""didmpc run 'my program.py' --with 'Bob'"'"'s laptop,carol'""")
    again = remedies.again("vote.py", [], host=True, places=3, arguments=["ice tea", "-n"])
    assert again.endswith("didmpc run vote.py --parties 3 -- 'ice tea' -n")


def test_a_run_that_waits_says_for_whom_and_who_holds_it_up_in_the_end():
    event = {"for": ["Bob"], "held_up_by": {"Carol": "reading"}, "seconds": 12}
    assert narration.stalled(event) == (
        "The run waits for Bob: Carol, whose program waits for what is typed (12.0 s)"
    )
    assert narration.stalled({**event, "held_up_by": {}}).startswith("The run waits for Bob (")


def test_a_suspected_deadlock_is_told_before_it_ends_the_run():
    said = narration.deadlock({"why": "Alice's program waits for a message of Bob's", "seconds_left": 30.0})
    assert said.startswith("Suspected deadlock: Alice's program waits") and "In 30.0 s" in said
    assert "goes on" in narration.deadlock({"over": True})


def test_events_with_missing_parts_are_still_told():
    for tell in (narration.party, narration.peer):
        assert tell({})[0]
    assert narration.waiting({}) == "Waiting for a proposal"
    assert narration.proposal({}, host=True)
    assert narration.proposal({}, host=False)


@pytest.mark.parametrize(
    ("kind", "party", "first"),
    [
        ("unreachable", "Bob", "didmpc ping Bob"),
        ("raised", "Bob", "didmpc rehearse sum.py --parties 3"),
        ("deadlock", None, "didmpc rehearse sum.py --parties 3"),
        ("disk-full", None, "df -h"),
        ("killed", "Bob", "didmpc run sum.py --with Bob"),
    ],
)
def test_what_ended_a_run_decides_on_the_next_command(kind: str, party: str | None, first: str):
    lines = remedies.remedies({"kind": kind, "party": party}, "sum.py", ["Bob"], host=True, parties=3)
    assert first in lines[0] and lines[-1].endswith("didmpc run sum.py --with Bob")


def test_nobody_is_told_to_ping_who_is_no_contact():
    cause = {"kind": "unreachable", "party": "Carol"}
    lines = remedies.remedies(cause, "sum.py", ["Bob"], host=True, parties=3, by_link=True)
    assert not any("ping" in line for line in lines)
    known = remedies.remedies(
        {**cause, "party": "Bob"}, "sum.py", ["Bob"], host=True, parties=3, by_link=True
    )
    assert "didmpc ping Bob" in known[0]
