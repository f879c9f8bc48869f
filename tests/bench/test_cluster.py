"""`didmpc bench cluster`: what was sent is what arrived, on one node and on two. How fast is not asked."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from didmpc.bench.capacity.values import Figures
from didmpc.bench.cluster import DIDMPC
from didmpc.bench.nodes import cpu, report


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DIDMPC), "bench", "cluster", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that the user of PostgreSQL gets through, where the tests run as root."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.cluster
def test_a_real_run_gives_the_figures_that_capacity_calculates_with(passable: Path) -> None:
    tiny = ("--seconds", "0.1", "--sockets", "10", "--recipients", "4", "--connections", "4")
    done = bench(*tiny, "--nodes", "1", "--nodes", "2", "--directory", passable, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [each["name"] for each in result["places"]] == ["SQLite alone", "1 node", "2 nodes"]
    for place in result["places"]:
        assert place["forwards"]["stored"] == place["forwards"]["count"] > 0
        for way in place["live"].values():
            assert way["delivered"] == way["count"] > 0
        assert (
            set(place["relay"]) == set(place["live"]) == ({"near", "far"} if place["nodes"] > 1 else {"near"})
        )
    assert all("two nodes" in "".join(heads) or title for title, heads, _ in report.tables(result))
    mine = passable / "mine.json"
    mine.write_text(done.stdout)
    figures, machine = Figures.read(mine)
    assert figures.forward_us > 0 and machine["cores"] >= 1
    assert {path.name for path in passable.iterdir()} == {"mine.json"}  # nothing is left behind


def place(name: str, nodes: int, **far: Any) -> dict[str, Any]:
    """A result as `measure` gives it."""
    spent = {"node_cpu_us": 500.0 * nodes, "database_cpu_us": 100.0}
    times = {"per_second": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0, "rate": 250.0, **spent}
    relayed = {
        **{"round_trip_p50_us": 100.0, "round_trip_p99_us": 200.0},
        **{"packet_cpu_us": 20.0, "bytes_per_second": 1e8},
    }
    ways = ["near", "far"] if nodes > 1 else ["near"]
    return {
        "name": name,
        "nodes": nodes,
        "node_mib": 70.0 + nodes,
        "forwards": {**times, "bytes": 9200, "stored_bytes": 5000.0, "connection_mib": 6.0},
        "live": {way: {**times, "node_cpu_us": 600.0 + (way == "far") * 50} for way in ways},
        "pickup": times,
        "attach": times,
        "idle": {"each_kib": 17.0, "nobody_cores": 0.001 * nodes, "each_us_per_second": 3.0},
        "relay": {
            way: {**relayed, **({"packet_cpu_us": 50.0, "round_trip_p50_us": 180.0} if way == "far" else {})}
            for way in ways
        },
    }


STORE = {
    "version": "16",
    "durable": True,
    "single": {"at_once": 1, "cpu_us": 500.0, "enqueue_p50_ms": 2.0, "enqueue_p99_ms": 4.0}
    | {"wal_bytes": 7000.0, "per_second": 100.0, "look_cpu_us": None},
    "grouped": {"at_once": 64, "cpu_us": 100.0, "enqueue_p50_ms": 3.0, "enqueue_p99_ms": 4.0}
    | {"wal_bytes": 6000.0, "per_second": 9000.0, "look_cpu_us": 20.0},
}


def test_the_figures_are_what_the_places_differ_in() -> None:
    places = [place("SQLite alone", 1), place("1 node", 1), place("3 nodes", 3)]
    found = report.figures(places, STORE)
    assert set(found) == {each.name for each in fields(Figures)}
    assert found["doorbell_us"] == 50 and found["link_us"] == 30
    assert found["commit_us"] == (500 - 100) / 2 and found["database_us"] == 100
    assert found["link_hop_ms"] == pytest.approx((180 - 100) / 2 / 1000)
    assert found["idle_link_us"] == pytest.approx(1000) and found["link_kib"] == pytest.approx(1024)


def test_the_report_says_what_few_cores_and_a_fast_disk_mean() -> None:
    machine = {
        **{"cores": 2, "processor": "x", "system": "Linux", "python": "3", "event_loop": "uvloop"},
        **{"sqlite": "3", "didmpc": "0", "filesystem": "tmpfs", "load_before": 1, "load_after": 2},
    }
    places = [place("SQLite alone", 1), place("1 node", 1), place("3 nodes", 3)]
    result = {"machine": machine, "places": places, "store": {**STORE, "durable": False}}
    text = "\n".join(report.lines(result))
    assert "share 2 cores" in text and "does not wait for its disk" in text and "in memory" in text
    assert "| 3 nodes | 1,000 |" in "\n".join(report.markdown(result))


def test_a_database_that_cannot_be_used_is_told_in_words() -> None:
    refused = bench("--store", "postgresql://didmpc@127.0.0.1:1/x")
    assert (
        refused.returncode == 1 and "cannot be made" in refused.stderr and "Traceback" not in refused.stderr
    )
    assert "PGPASSFILE" in bench("--store", "postgresql://didmpc:secret@127.0.0.1/x").stderr


def test_cpu_time_counts_what_runs_and_what_has_run() -> None:
    import os

    before = cpu.running(os.getpid())
    assert any(sum(range(100_000)) and cpu.running(os.getpid()) > before for _ in range(10_000))
    assert cpu.running(2**22 + 1) == cpu.of_ended_children(2**22 + 1) == 0
