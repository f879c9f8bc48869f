"""Whatever ends a party ends the run for all, soon, by name and with the cause; a lost agent ends nothing."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from didmpc.bench.cluster import Cluster, Running

from .observe import all_say, process_of, until

SOON = 35.0  # it is 5 where a machine is not busy: make soak-kills measures that
LONG = ["400", "0.1"]


def kill_program(cluster: Cluster, running: list[Running]) -> None:
    os.kill(process_of(cluster.parties[1], "didmpc.agent.program"), signal.SIGKILL)


def kill_channel(cluster: Cluster, running: list[Running]) -> None:
    os.kill(process_of(cluster.parties[1], "didmpc.agent.channel"), signal.SIGKILL)


def kill_join(cluster: Cluster, running: list[Running]) -> None:
    running[1].process.kill()


def interrupt_join(cluster: Cluster, running: list[Running]) -> None:
    running[1].send(signal.SIGINT)


@pytest.mark.parametrize("end", [kill_program, kill_channel, kill_join, interrupt_join])
def test_the_end_of_bobs_part_is_told_to_the_others_by_name(
    cluster: Cluster, steps: Path, end: Callable[[Cluster, list[Running]], None]
) -> None:
    running = cluster.begin(steps, arguments=LONG, as_json=False)
    all_say(running, "step 2\n")
    ended = time.monotonic()
    end(cluster, running)
    for other in (running[0], running[2]):
        finished = other.wait(SOON + 5)
        assert finished.status == 1
        assert "Bob" in finished.stderr
        assert "Traceback" not in finished.stderr
    assert time.monotonic() - ended < SOON
    assert running[1].wait(SOON).status != 0
    while list((cluster.parties[1].home / "run").glob("*.sock")):
        assert time.monotonic() - ended < SOON, "the socket of his channel process is left behind"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_the_end_of_the_proposers_command_is_told_to_the_others_by_name(
    cluster: Cluster, steps: Path, number: signal.Signals, status: int
) -> None:
    running = cluster.begin(steps, arguments=LONG, as_json=False)
    all_say(running, "step 2\n")
    ended = time.monotonic()
    running[0].send(number)
    for other in running[1:]:
        finished = other.wait(SOON + 5)
        assert (finished.status, "Alice" in finished.stderr) == (1, True), finished.stderr
    assert time.monotonic() - ended < SOON
    assert running[0].wait(SOON).status == status


def test_a_program_that_raises_is_named_with_what_it_raised(cluster: Cluster, steps: Path) -> None:
    running = cluster.begin(steps, arguments=["4", "0.1", "2"])
    alice, bob, carol = [each.wait() for each in running]
    assert [alice.status, bob.status, carol.status] == [1, 1, 1]
    for other in (alice, bob):
        cause = other.json()["cause"]
        assert cause["party"] == "Carol"
        assert cause["what"] == "Carol's program raised an exception." and cause["why"] == "RuntimeError."
        assert "do not add up" not in other.stdout + other.stderr, "what it says is for its owner alone"
    assert "RuntimeError: the numbers of this party do not add up" in carol.stderr


def test_who_never_comes_is_named_and_the_wait_ends(cluster: Cluster, steps: Path) -> None:
    started = time.monotonic()
    bob_only = cluster.parties[1:2]
    run, join = cluster.begin(steps, "--wait", "4", arguments=["3", "0"], guests=bob_only, as_json=False)
    until(lambda: "Carol" in run.stderr)
    finished = run.wait()
    assert time.monotonic() - started >= 4
    assert finished.status == 1
    last_words = "\n".join(finished.stderr.splitlines()[-3:])
    assert "Carol" in last_words and "didmpc join" in last_words
    assert "Traceback" not in finished.stderr
    assert join.wait(60).status == 1


def test_a_killed_agent_is_shown_and_ends_no_run(own_cluster: Cluster, steps: Path) -> None:
    running = own_cluster.begin(steps, arguments=["40", "0.1"], as_json=False)
    all_say(running, "step 2\n")
    carol = own_cluster.parties[2]
    assert carol.daemon is not None
    carol.daemon.process.kill()
    for each in running:
        assert each.done(120).stdout.endswith("together 40\n")
    # Nothing of hers is lost: the same home starts again, and takes part again.
    carol.start_daemon()
    carol.ready()
    results = own_cluster.compute(steps, arguments=["3", "0"])
    assert [result["ok"] for result in results] == [True] * 3


def test_a_paused_mediator_pauses_the_run_and_nothing_is_lost(own_cluster: Cluster, steps: Path) -> None:
    running = own_cluster.begin(steps, arguments=["40", "0.05"], as_json=False)
    all_say(running, "step 5\n")
    for mediator in own_cluster.mediators:
        mediator.process.send(signal.SIGSTOP)
    before = ""
    while before != running[0].stdout:  # what was on its way arrives
        before = running[0].stdout
        time.sleep(1)
    time.sleep(2)
    assert running[0].stdout == before, "the run went on without mediators"
    for mediator in own_cluster.mediators:
        mediator.process.send(signal.SIGCONT)
    for each in running:
        lines = each.done(120).stdout.splitlines()
        assert lines == [*(f"step {step}" for step in range(1, 41)), "together 40"]


def test_nothing_is_left_when_all_has_ended(tmp_path: Path, steps: Path) -> None:
    with Cluster(tmp_path / "cluster") as started:
        started.start()
        started.compute(steps, arguments=["2", "0"])
        for party in started.parties:
            party.didmpc("agent", "stop")
            assert party.daemon is not None
            assert party.daemon.wait(60).status == 0
        until(lambda: not any(started.processes(party.home) for party in started.parties))
