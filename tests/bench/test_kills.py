"""The kills: what is drawn, what is said of them; and a few for real."""

import random
from pathlib import Path

import pytest

from didmpc.bench.kills import TARGETS, draw, main, told


def test_victims_and_times_are_drawn_from_the_seed_and_targets_come_in_turn() -> None:
    chance, same = random.Random(7), random.Random(7)
    kills = [draw(number, chance, 7, TARGETS) for number in range(1, 41)]
    assert kills == [draw(number, same, 7, TARGETS) for number in range(1, 41)]
    assert [kill.target for kill in kills[:4]] == list(TARGETS)
    assert {len(kill.parties) for kill in kills} == {3, 4, 5, 6, 7}
    assert all(kill.victim in kill.parties and kill.parties[0] == 0 for kill in kills)
    assert {kill.victim for kill in kills} == set(range(7))


def test_the_summary_says_how_soon_and_what_was_wrong() -> None:
    times = {
        "program": {"kills": 3, "median": 0.2, "worst": 1.5},
        "agent": {"kills": 1, "median": 4, "worst": 4},
    }
    found = {
        "kills": 4,
        "minutes": 1.0,
        "seed": 7,
        "last_survivor_seconds": times,
        "worst_lag": 0.02,
        "wrong": ["kill 4 (agent): Bob hangs"],
    }
    lines = told(found)
    assert "0.20 s (median), 1.50 s (worst)" in lines[1] and "finished" in lines[2]
    assert lines[-1] == "WRONG: kill 4 (agent): Bob hangs"


@pytest.mark.parametrize("parties", ["2", "99"])
def test_impossible_numbers_of_parties_are_refused(parties: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--parties", parties])


@pytest.mark.soak
def test_eight_kills_end_in_time_and_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--kills", "8", "--parties", "5", "--log", str(tmp_path / "kills.jsonl")])
    assert status == 0, capsys.readouterr().out
