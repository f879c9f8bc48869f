"""A run that was killed leaves nothing behind for long, and a summary tells what a run has shown."""

import json
import subprocess
import tempfile
from pathlib import Path

import pytest
from cluster_parts.report import report
from cluster_parts.workplace import PREFIX, workplace

FIGURES = {"taken": 1000, "deliveries": 1100, "acknowledged": 990, "lost": 0, "came back": 0, "twice": 0}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_what_a_killed_run_left_ends_with_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / "lock").touch()
    with subprocess.Popen(["sleep", "600"], env={"PGPASSFILE": f"{left}/pgpass"}) as process, workplace():
        assert process.wait(60) == -9
        assert not left.exists()


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    with workplace() as first, subprocess.Popen(["sleep", "600"], cwd=first) as process:
        with workplace() as second:
            assert first != second
            assert process.poll() is None
        assert first.exists()
        process.kill()
    assert list(tmp_path.iterdir()) == []


def test_a_summary_is_of_the_last_run_and_adds_up_what_belongs_together() -> None:
    end = {"event": "end", "of": "cluster", "faults": {"roll": 1, "reset": 2}, "count": FIGURES}
    events = [
        {"event": "run"},
        end,
        {"event": "run"},
        end,
        end,
        {"event": "found out", "lie": "pushes twice"},
    ]
    said = "\n".join(report(json.dumps(event) for event in events))
    assert "cluster: 6 faults: reset 4, roll 2" in said
    assert "2,000 acknowledged to senders" in said
    assert "lost 0, came back 0, twice 0" in said
    assert "lies that were found out: pushes twice" in said
    assert report([json.dumps({"event": "run"})]) == []
