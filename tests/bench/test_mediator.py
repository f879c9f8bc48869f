"""`didmpc bench mediator`: what was sent is what was stored and delivered. How fast is not asked here."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from didmpc.bench.mediator import host, report
from didmpc.bench.mediator.host import Generators, LoadFailed, MediatorFailed
from didmpc.bench.mediator.machine import filesystem
from didmpc.bench.mediator.sections import Inconsistent, Plan, traffic

DIDMPC = Path(sys.executable).with_name("didmpc")
TINY = (
    *("--seconds", "0.1", "--recipients", "3", "--connections", "4"),
    *("--sockets", "20", "--mailboxes", "20", "--messages", "50"),
)


def bench(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DIDMPC, "bench", "mediator", *arguments, "--directory", directory],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def result(place: Path) -> dict[str, Any]:
    """A real run of every section, as small as they go."""
    done = bench(*TINY, "--json", directory=place)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_says_what_it_ran_on(result: dict[str, Any], place: Path) -> None:
    machine = result["machine"]
    assert machine["cores"] >= 1
    assert machine["filesystem"] == filesystem(place)
    for name in ("processor", "system", "python", "event_loop", "sqlite", "aiohttp", "load_before"):
        assert machine[name] not in ("", None)


def test_the_ceilings_of_the_same_run_stand_beside_it(result: dict[str, Any]) -> None:
    assert result["ceilings"]["forward_bytes"] > 1000
    for name in ("relay_per_second", "relay_p99_ms", "commits_per_second", "unpack_per_second"):
        assert result["ceilings"][name] > 0


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_every_forward_is_stored(result: dict[str, Any], transport: str) -> None:
    found = result["forwards"][transport]
    assert found["stored"] == found["count"] >= 100
    assert found["per_second"] > 0
    assert found["mediator_cpu_us"] > 0


def test_every_live_message_arrives_once(result: dict[str, Any]) -> None:
    live = result["live"]
    assert live["delivered"] == live["count"] >= 50
    assert 0 < live["p50_ms"] <= live["p99_ms"] <= live["max_ms"]


def test_everything_queued_is_picked_up(result: dict[str, Any]) -> None:
    assert result["pickup"]["fetched"] == result["pickup"]["count"] >= 100
    # At most ten in a delivery, and each delivery is acknowledged.
    assert result["pickup"]["requests_per_second"] >= result["pickup"]["per_second"] / 5


def test_idle_sockets_and_a_filled_store_are_as_many_as_asked_for(result: dict[str, Any]) -> None:
    assert result["idle"]["sockets"] == 20
    assert result["idle"]["before_mib"] > 1
    assert result["idle"]["plain_tcp_kib"] >= 0
    assert (result["status"]["messages"], result["status"]["mailboxes"]) == (50, 20)
    assert result["status"]["p50_ms"] <= result["status"]["p99_ms"]


def test_every_aim_is_named_with_its_value(result: dict[str, Any]) -> None:
    assert len(result["aims"]) == 5
    for aim in result["aims"]:
        above = aim["value"] >= aim["aim"]
        assert aim["met"] == (above if aim["bound"] == "at least" else not above)


def test_people_get_a_table(result: dict[str, Any]) -> None:
    text = "\n".join(report.lines(result))
    for words in (
        "raw TCP relay",
        "over HTTP",
        "over WebSocket",
        "live delivery",
        "Pickup",
        "Idle",
        "Status",
    ):
        assert words in text
    assert all(len(line) <= 160 for line in report.lines(result))


def test_nothing_is_left_on_the_disk(result: dict[str, Any], place: Path) -> None:
    assert result
    assert list(place.iterdir()) == []


def test_a_section_that_is_none_is_a_mistake_and_starts_nothing(tmp_path: Path) -> None:
    done = bench("speed", directory=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_folder_that_takes_nothing_is_told_in_words() -> None:
    done = bench("idle", directory=Path("/proc"))
    assert done.returncode == 1
    assert "--directory" in done.stderr
    assert "Traceback" not in done.stderr and "crash" not in done.stderr


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    with Generators() as generators:
        yield Plan(
            directory=tmp_path,
            seconds=0.1,
            size=10,
            recipients=1,
            connections=2,
            rate=None,
            sockets=1,
            mailboxes=1,
            messages=1,
            generators=generators,
            say=lambda _: None,
        )


def test_a_mediator_that_does_not_keep_what_it_gets_has_no_figures(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "LIMITS_OFF", ("--limit", "mailbox-messages=3"))
    with pytest.raises(Inconsistent, match="3 are stored"):
        traffic(plan, ["forwards"])


def test_a_mediator_that_does_not_start_is_told_in_words(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "LIMITS_OFF", ("--limits", "perhaps"))
    with pytest.raises(MediatorFailed), host.mediator(plan.directory, "m"):
        pass


def test_a_load_generator_that_fails_is_told_in_words_and_used_no_more() -> None:
    with Generators() as generators:
        with pytest.raises(LoadFailed, match="forward_http"):
            generators.run("forward_http", mediator="did:nobody", files=[], connections=1)
        assert generators.run("relay")["seconds"] >= 0


async def test_measuring_leaves_no_process_behind(plan: Plan) -> None:
    process = plan.generators.take()
    plan.generators.__exit__(None, None, None)
    assert await asyncio.to_thread(process.wait, 20) != 0
