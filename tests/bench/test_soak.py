"""The soak: what it counts as flat, what it prints, and a minute of it for real."""

import json
from pathlib import Path

import pytest

from didmpc.bench import soak
from didmpc.bench.disturbed import DisturbedCluster
from didmpc.bench.soak import MIB, Log, Memory, main, told


def growth_of(tmp_path: Path, sizes: list[float]) -> dict[str, object]:
    with (tmp_path / "log").open("w") as file:
        memory = Memory(DisturbedCluster(tmp_path), Log(file))
    memory.samples["agent"] = [(float(n), int(size * MIB)) for n, size in enumerate(sizes)]
    return memory.growth()["agent"]


def test_memory_that_rises_at_first_and_then_stays_is_flat(tmp_path: Path) -> None:
    assert growth_of(tmp_path, [20, 30, 40, 50, 50, 51, 50, 52, 51])["flat"]


def test_memory_that_keeps_rising_is_not_flat(tmp_path: Path) -> None:
    assert not growth_of(tmp_path, [40 + 3 * n for n in range(12)])["flat"]


SUMMARY = {
    "minutes": 5.0,
    "parties": 5,
    "seed": 1,
    "faults": {"reset": 3, "cut": 2},
    "runs": 7,
    "worst_pause_seconds": 9.5,
    "memory": {"agent": {"first": MIB, "middle": MIB, "last": 2 * MIB, "flat": False}},
    "lost": [],
}


def test_the_summary_says_what_grew_and_what_was_lost() -> None:
    lines = told(SUMMARY)
    assert "5 (2 cut, 3 reset)" in lines[1] and "right result" in lines[2]
    assert lines[-1].endswith("GROWS")
    assert "LOST: run 8: wrong" in told({**SUMMARY, "lost": ["run 8: wrong"]})[2]


@pytest.mark.parametrize("parties", ["2", "99"])
def test_impossible_numbers_of_parties_are_refused(parties: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--parties", parties])
    assert "from 3 to" in capsys.readouterr().err


@pytest.mark.soak
def test_a_minute_of_it(tmp_path: Path) -> None:
    log = tmp_path / "soak.jsonl"
    assert main(["--minutes", "1", "--every", "5", "--parties", "3", "--log", str(log)]) == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[-1]["event"] == "summary" and events[-1]["runs"] > 0
    assert sum(event["event"] == "fault" for event in events) >= 5


def test_a_wrong_result_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any process: the runs are played."""

    class Ended:
        stderr = "longest step: 1.5 s\n"

        def done(self, timeout: float) -> "Ended":
            return self

        def json(self) -> dict[str, object]:
            return {
                "output": "something else",
                "stats": dict.fromkeys(("rounds", "messages", "bytes", "packets", "records"), 1)
                | {"per_peer": {}},
            }

    cluster = DisturbedCluster(tmp_path)
    cluster.parties = [None] * 3  # type: ignore[list-item]
    monkeypatch.setattr(DisturbedCluster, "begin", lambda *_, **__: [Ended()] * 3)
    with (tmp_path / "log").open("w") as file:
        running = soak.Soak(cluster, soak.parse(["--minutes", "1"]), Log(file))
        running._one_run()
    assert len(running.lost) == 3 and not running.summary()["ok"]
    assert running.summary()["worst_pause_seconds"] == 1.5
