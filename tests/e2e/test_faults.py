"""A run survives whatever happens to its network, its mediators and its machines: nothing is lost or doubled.

The long runs, with the times of a bad day:  make soak PYTEST_FLAGS=tests/e2e/test_faults.py
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from didmpc.bench.cluster import Running
from didmpc.bench.disturbed import DisturbedCluster
from didmpc.bench.endurance import ENDURANCE, expected

from .observe import all_say, process_of, until

STEPS, PAUSE = 12, 0.2
BULK = 40_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DisturbedCluster]:
    with DisturbedCluster(tmp_path_factory.mktemp("disturbed")) as started:
        started.start()
        yield started


@pytest.fixture(scope="module")
def endurance() -> Path:
    return ENDURANCE


@pytest.fixture(scope="module")
def undisturbed(cluster: DisturbedCluster, endurance: Path) -> str:
    """What the program prints when nothing happens."""
    results = cluster.compute(endurance, arguments=[str(STEPS), "0", str(BULK)], timeout=240)
    (output,) = {str(result["output"]) for result in results}
    assert output == expected(STEPS, BULK, len(cluster.parties))
    return output


Survive = Callable[..., list[Running]]


@pytest.fixture
def survive(cluster: DisturbedCluster, endurance: Path, undisturbed: str) -> Survive:
    """Let something happen in the midst of a run: its result must be that of an undisturbed one."""

    def during(happens: Callable[[list[Running]], None], *flags: str, pause: float = PAUSE) -> list[Running]:
        arguments = [str(STEPS), str(pause), str(BULK)]
        running = cluster.begin(endurance, *flags, arguments=arguments, as_json=False)
        all_say(running, "step 3 ")
        happens(running)
        assert all(each.process.poll() is None for each in running), (
            "the run was over before it was disturbed"
        )
        for each in running:
            assert each.done(240).stdout == undisturbed
        return running

    return during


def long(seconds: float) -> object:
    return pytest.param(seconds, marks=pytest.mark.soak)


@pytest.mark.parametrize(("seconds", "every"), [(3, 0.5), pytest.param(60, 3, marks=pytest.mark.soak)])
def test_connections_are_reset_again_and_again(
    cluster: DisturbedCluster, survive: Survive, seconds: float, every: float
) -> None:
    def resets(running: list[Running]) -> None:
        for _ in range(round(seconds / every)):
            time.sleep(every)
            until(lambda: sum(proxy.reset() for proxy in cluster.proxies) > 0)

    survive(resets, pause=3 * seconds / STEPS)


@pytest.mark.parametrize("gone", [1.0, long(60)])
def test_a_mediator_is_killed_and_comes_back_on_its_store(
    cluster: DisturbedCluster, survive: Survive, gone: float
) -> None:
    def killed(running: list[Running]) -> None:
        cluster.kill_mediator(1)
        time.sleep(gone)
        cluster.restart_mediator(1)

    survive(killed)


@pytest.mark.parametrize("seconds", [6, long(30)])
def test_a_party_is_without_network_and_returns_from_another_address(
    cluster: DisturbedCluster, survive: Survive, seconds: float
) -> None:
    def away(running: list[Running]) -> None:
        for proxy in cluster.proxies:
            proxy.cut("Bob")
        time.sleep(seconds)
        until(lambda: all("unreachable" in running[other].stderr.lower() for other in (0, 2)))
        for proxy in cluster.proxies:
            proxy.heal()
            proxy.move("Bob", "127.0.0.77")
        until(lambda: any("127.0.0.77" in proxy.addresses("Bob") for proxy in cluster.proxies))

    alice, _, carol = survive(away)
    for other in (alice, carol):
        assert "Bob" in other.stderr and "unreachable" in other.stderr.lower()


@pytest.mark.soak
def test_nobody_has_a_network_for_half_a_minute(cluster: DisturbedCluster, survive: Survive) -> None:
    def dark(running: list[Running]) -> None:
        for proxy in cluster.proxies:
            proxy.cut()
        time.sleep(30)
        for proxy in cluster.proxies:
            proxy.heal()

    survive(dark)


@pytest.mark.parametrize("seconds", [8, long(60)])
def test_a_machine_sleeps_with_everything_on_it(
    cluster: DisturbedCluster, survive: Survive, seconds: float
) -> None:
    bob = cluster.parties[1]

    def asleep(running: list[Running]) -> None:
        stopped = cluster.suspend(bob)
        assert len(stopped) >= 4, "agent, command, channel and program"
        time.sleep(seconds)
        cluster.resume(bob)

    running = survive(asleep)
    assert "unreachable" not in running[1].stderr.lower(), "its own sleep was taken for the silence of others"


def test_packets_as_envelopes_on_a_slow_network_on_which_connections_break_and_a_mediator_dies(
    cluster: DisturbedCluster, survive: Survive
) -> None:
    def all_of_it(running: list[Running]) -> None:
        for proxy in cluster.proxies:
            proxy.delay(0.01)
        cluster.proxies[0].reset()
        cluster.kill_mediator(1)
        cluster.restart_mediator(1)
        cluster.proxies[0].reset()
        for proxy in cluster.proxies:
            proxy.delay(0)

    survive(all_of_it, "--wire", "json", pause=0)


@pytest.mark.parametrize("seconds", [6, long(12)])
def test_who_holds_the_interpreter_or_stops_reading_is_not_declared_dead(
    cluster: DisturbedCluster, seconds: float
) -> None:
    program = Path(__file__).parent / "programs" / "busy.py"
    running = cluster.begin(program, arguments=[str(seconds)], as_json=False)
    all_say(running, "begun\n")
    stopped = process_of(cluster.parties[2], "didmpc.agent.program")
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(stopped, signal.SIGCONT)
    for each in running:
        finished = each.done()
        assert finished.stdout == "begun\ntogether 3\n"
        assert "unreachable" not in finished.stderr.lower()


def test_all_of_a_party_at_once_is_unreachable_and_at_the_resume_limit_named(
    cluster: DisturbedCluster, endurance: Path
) -> None:
    limit = 6
    running = cluster.begin(
        endurance, "--resume-limit", str(limit), arguments=["1000", "0.05", "1"], as_json=False
    )
    all_say(running, "step 3 ")
    carol = cluster.parties[2]
    cluster.kill(carol)
    try:
        alice, bob = running[:2]
        until(lambda: all("Carol" in each.stderr for each in (alice, bob)))
        for each in (alice, bob):
            finished = each.wait(limit + 120)
            assert finished.status == 1
            shown, ended = (
                finished.stderr.index(words) for words in ("unreachable", "Carol stopped answering")
            )
            assert shown < ended
    finally:
        carol.start_daemon()
        carol.ready()
