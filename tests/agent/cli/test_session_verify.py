"""session verify: what the person reads, what is recorded, and what scripts get."""

import pytest

from .test_taking_part import Terminal

ATTEMPT = "3f" * 16
SHOWN = {
    "attempt": ATTEMPT,
    "title": "Average salary",
    "state": "running",
    "started": 1_700_000_000,
    "words": ["amber", "falcon", "walnut", "arrow", "42"],
    "matched": None,
    "compared_at": None,
    "parties": [
        {
            "pid": 0,
            "name": "Alice",
            "how": "contact",
            "contact": "Alice",
            "doubt": False,
            "verified_at": None,
        },
        {"pid": 1, "name": "Bob", "how": "you", "contact": None, "doubt": False},
        {"pid": 2, "name": "Carol", "how": "unproven", "contact": None, "doubt": False},
    ],
}
MATCHED = SHOWN | {"matched": True, "compared_at": 1_700_000_100}


@pytest.fixture
def asked(agent):
    agent.answers("session-words", **SHOWN)
    agent.answers("session-compared", **MATCHED)
    return agent.requests


def test_without_a_terminal_words_are_shown_and_nothing_is_recorded(didmpc, asked):
    result = didmpc("session", "verify")
    assert result.status == 0
    for part in (
        "amber falcon walnut arrow 42",
        "Alice: known contact, proven inside this session; words never compared.",
        "Carol: introduced by others, not verified: compare.",
        "didmpc session verify 3f3f3f3f --yes-they-match",
    ):
        assert part in result.err
    assert [method for method, _ in asked] == ["session-words"]


def test_a_script_records_that_they_match(didmpc, asked):
    result = didmpc("session", "verify", "3f3f", "--yes-they-match", "--json")
    assert result.status == 0 and result.json == MATCHED
    assert asked == [
        ("session-words", {"session": "3f3f"}),
        ("session-compared", {"session": ATTEMPT, "matched": True}),
    ]


def test_words_that_differ_are_recorded_and_the_person_is_told_what_to_do(didmpc, agent, asked):
    agent.answers("session-compared", **(MATCHED | {"matched": False, "ended": True}))
    result = didmpc("session", "verify", "--they-differ")
    assert "somebody stands between you" in result.err and "ended for all parties" in result.err
    assert asked[-1][1]["matched"] is False
    both = didmpc("session", "verify", "--they-differ", "--yes-they-match")
    assert both.status == 2


@pytest.mark.parametrize(
    ("typed", "matched"), [("yes\n", True), ("no\n", False), ("\n", None), ("maybe\n", None)]
)
def test_a_person_is_asked_and_only_a_plain_answer_is_recorded(didmpc, asked, typed, matched):
    terminal = Terminal(didmpc, "session", "verify")
    terminal.wait_for("do not know yet:")
    terminal.type(typed)
    assert terminal.finish() == 0
    recorded = [params["matched"] for method, params in asked if method == "session-compared"]
    assert recorded == ([] if matched is None else [matched])


def test_a_party_that_only_has_the_name_of_a_contact_is_pointed_out(didmpc, agent):
    doubtful = {"pid": 2, "name": "Carol", "how": "unproven", "contact": None, "doubt": True}
    agent.answers("session-words", **(SHOWN | {"parties": [doubtful]}))
    assert "Carol: NOT PROVEN to be your contact of this name." in didmpc("session", "verify").err
