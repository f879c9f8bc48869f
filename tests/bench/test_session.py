"""`didmpc bench session`: what comes out is what went in, and the tables say so. How fast is not asked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from didmpc.bench.session import computing, messages, report
from didmpc.bench.session.computing import ComputationFailed
from didmpc.bench.session.relayed import SIZES, WAYS, ratio

DIDMPC = Path(sys.executable).with_name("didmpc")
TINY = (
    *("--legs", "1", "--trips", "5", "--bulk", "600000", "--quick"),
    *("--rounds", "3", "--parallel", "5", "--transfer", "300000", "--round-trip", "2", "--no-demos"),
)


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DIDMPC, "bench", "session", *arguments], capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def result(place: Path) -> dict[str, Any]:
    """A real run as small as it goes; `delayed` is `computing` with a delay box."""
    done = bench(*TINY, "messages", "relayed", "delayed", "--json", "--directory", place)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_says_what_it_ran_on(result: dict[str, Any]) -> None:
    for name in ("cores", "processor", "system", "python", "event_loop", "load_before", "load_after"):
        assert result["machine"][name] not in ("", None)
    assert set(result["delayed"]["event_loops"].values()) == {"uvloop"}


def test_every_way_to_carry_a_message_has_its_cost_and_size(result: dict[str, Any]) -> None:
    ways = result["messages"]["ways"]
    assert {*ways, "pypi"} == set(report.MESSAGES)
    assert all(way["us"] > 0 for way in ways.values())
    assert messages.RECORD < ways["bare"]["bytes"] < ways["binary X25519"]["bytes"] < ways["relayed"]["bytes"]
    assert ways["relayed"]["bytes"] < ways["json"]["bytes"] < ways["json-forward"]["bytes"]
    assert ways["json-forward"]["bytes"] < ways["didcomm"]["bytes"]
    # Both suites seal records alike.
    assert ways["binary X25519"]["bytes"] == ways["binary X25519MLKEM768"]["bytes"]


def test_pypi_didcomm_is_measured_where_it_is_installed_and_named_where_not(result: dict[str, Any]) -> None:
    found = result["messages"]
    assert ("pypi" in found["ways"]) == messages.PYPI_PYTHON.exists()
    assert found["skipped"] == ([] if messages.PYPI_PYTHON.exists() else [messages.NO_PYPI])


def test_round_trips_and_throughput_stand_beside_those_of_a_raw_relay(result: dict[str, Any]) -> None:
    found = result["relayed"]
    assert set(found["round_trip_us"]) == set(map(str, SIZES))
    for trips, ratios in zip(
        found["round_trip_us"].values(), found["round_trip_ratio"].values(), strict=True
    ):
        assert set(trips) == set(ratios) == set(WAYS)
        assert min(trips.values()) > 0
        assert ratios["relay"] == 1
        assert ratios["session"] == pytest.approx(trips["session"] / trips["relay"])
    rates = found["bytes_per_second"]
    assert found["throughput_ratio"]["session"] == pytest.approx(rates["session"] / rates["relay"])


def test_every_network_does_the_same_work(result: dict[str, Any]) -> None:
    found = result["delayed"]
    assert found["round_trip_ms"] == 2
    assert set(found["seconds"]) == {"rounds", "parallel", "bulk"}
    for seconds in found["seconds"].values():
        assert set(seconds) == set(computing.WAYS)
    # A product that is opened takes two messages one after another, through the box each.
    assert min(found["seconds"]["rounds"].values()) >= found["amounts"]["rounds"] * 2 * 0.001 / 2


def test_every_aim_is_named_with_its_value(result: dict[str, Any]) -> None:
    aims = result["aims"]
    assert len(aims) == 4 + ("pypi" in result["messages"]["ways"])
    for aim in aims:
        assert aim["met"] == (
            aim["value"] <= aim["aim"] if aim["bound"] == "at most" else aim["value"] >= aim["aim"]
        )


def test_people_get_tables_and_documents_get_markdown(result: dict[str, Any]) -> None:
    plain, piped = "\n".join(report.lines(result)), "\n".join(report.markdown(result))
    for words in ("PyPI didcomm", "TLS relay", "1,048,576 B", "one by one", "round trip of 2 ms", "Aims"):
        assert words in plain
        assert words in piped
    tables = [line for line in report.markdown(result) if line.startswith("|")]
    assert sum(line.startswith("| ---") for line in tables) == 5


def test_nothing_is_left_on_the_disk(result: dict[str, Any], place: Path) -> None:
    assert result
    assert list(place.iterdir()) == []


def test_a_ratio_is_that_of_what_was_measured_side_by_side() -> None:
    assert ratio([2.0, 20.0, 9.0], [1.0, 10.0, 3.0]) == 2.0


def test_a_computation_that_prints_no_result_has_no_figures() -> None:
    with pytest.raises(ComputationFailed):
        computing._result("Stop MPyC\n")


def test_a_section_that_is_none_is_a_mistake_and_starts_nothing() -> None:
    done = bench("speed")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
