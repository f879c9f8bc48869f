"""`didmpc bench capacity`: the model against closed forms, against itself, and on the command line."""

import json
import math
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.bench.capacity import delivery, demand, limits, queueing
from didmpc.bench.capacity.events import Clock, GroupCommit, Servers
from didmpc.bench.capacity.values import Figures, Users, Values
from didmpc.bench.cluster import DIDMPC
from didmpc.bench.nodes import report as nodes_report
from didmpc.protocols.errors import LocalMisuse

FIGURES, _ = Figures.read(None)
VALUES = Values(FIGURES)
SOME_USERS = st.floats(1, 1e9)
SEEDS = st.integers(0, 2**32)


def varied(**users: float) -> Values:
    return replace(VALUES, users=replace(Users(), **users))


PLAUSIBLE = st.builds(
    varied,
    messages_per_day=st.floats(1, 1000),
    online=st.floats(0, 1),
    in_session=st.floats(0, 0.2),
    packets_per_second=st.floats(0, 100),
    attaches_per_day=st.floats(0, 100),
)


# --- queues played out


def played(rate: float, servers: int, service: float, *, exponential: bool, count: int = 60_000) -> float:
    """The mean time of a queue at which `count` come at random."""
    chance, clock = random.Random(7), Clock()
    station, times = Servers(clock, servers), []

    def come() -> None:
        came = clock.now
        work = chance.expovariate(1 / service) if exponential else service
        station.serve(work, lambda: times.append(clock.now - came))
        clock.after(chance.expovariate(rate), come)

    come()
    clock.run(count / rate)
    return sum(times) / len(times)


@pytest.mark.parametrize(
    ("rate", "servers", "exponential"), [(0.7, 1, True), (0.7, 1, False), (2.4, 3, True)]
)
def test_a_queue_that_is_played_out_takes_as_long_as_the_closed_form_says(
    rate: float, servers: int, exponential: bool
) -> None:
    expected = queueing.mean_time(rate, 1.0, servers, 1.0 if exponential else 0.0)
    assert played(rate, servers, 1.0, exponential=exponential) == pytest.approx(expected, rel=0.07)


def test_the_closed_forms_are_those_of_the_textbook() -> None:
    assert queueing.mean_time(0.5, 1.0) == pytest.approx(1 / (1 - 0.5))  # M/M/1
    assert queueing.mean_wait(0.5, 1.0, 1, 0.0) == pytest.approx(0.5)  # M/D/1: half of M/M/1
    assert queueing.erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert queueing.mean_wait(1.0, 1.0) == math.inf


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 3)), max_size=60), st.integers(1, 4))
def test_everything_that_comes_is_done_in_turn_and_no_server_does_two_things_at_once(
    work: list[tuple[float, float]], servers: int
) -> None:
    clock, done = Clock(), []
    station = Servers(clock, servers)
    for number, (at, service) in enumerate(work):
        clock.after(at, lambda n=number, s=service: station.serve(s, lambda: done.append((n, clock.now))))
    clock.run(1e4)
    assert sorted(number for number, _ in done) == list(range(len(work)))
    total = sum(service for _, service in work)
    assert station.busy == pytest.approx(total)
    if servers == 1:
        order = sorted(range(len(work)), key=lambda number: (work[number][0], number))
        assert [number for number, _ in done] == order
    if done:
        assert max(at for _, at in done) >= max(at + service for at, service in work) - 1e-9
        assert max(at for _, at in done) <= max(at for at, _ in work) + total + 1e-9


@settings(deadline=None)
@given(st.lists(st.floats(0, 20), min_size=1, max_size=80), st.integers(1, 8))
def test_a_group_waits_for_the_one_before_and_none_is_larger_than_allowed(
    times: list[float], most: int
) -> None:
    clock, sizes, done = Clock(), [], []
    open_ = 0

    def commit(size: int, then: object) -> None:
        nonlocal open_
        open_ += 1
        assert open_ == 1
        sizes.append(size)

        def end() -> None:
            nonlocal open_
            open_ -= 1
            then()  # type: ignore[operator]

        clock.after(1.0, end)

    station = GroupCommit(commit, most)
    for at in times:
        clock.after(at, lambda: station.put(lambda: done.append(clock.now)))
    clock.run(1e3)
    assert sum(sizes) == len(times) == len(done) == station.items and max(sizes) <= most
    assert station.groups == len(sizes)


def test_commits_are_as_many_as_the_closed_form_says() -> None:
    def commits(rate: float, seconds: float) -> float:
        chance, clock = random.Random(3), Clock()
        station = GroupCommit(lambda size, then: clock.after(1.0, then), 10**9)

        def come() -> None:
            station.put(lambda: None)
            clock.after(chance.expovariate(rate), come)

        come()
        clock.run(seconds)
        return station.groups / seconds

    for rate in (0.3, 1.0, 5.0):
        assert commits(rate, 20_000) == pytest.approx(demand.commits(rate, 1.0), rel=0.03)


# --- demand and limits


@settings(deadline=None)
@given(PLAUSIBLE, SOME_USERS)
def test_more_users_never_need_fewer_nodes_and_never_ask_less_of_anything(
    values: Values, users: float
) -> None:
    less, more = limits.size(values, users), limits.size(values, users * 1.5)
    if less.nodes is None:
        assert more.nodes is None
    elif more.nodes is not None:
        assert more.nodes >= less.nodes
        for one, other in zip(less.parts[1:], more.parts[1:], strict=True):
            assert one.name == other.name and other.asked >= one.asked * (1 - 1e-9)


@settings(deadline=None)
@given(PLAUSIBLE, SOME_USERS)
def test_as_many_nodes_as_are_told_are_enough_and_one_fewer_is_not(values: Values, users: float) -> None:
    serving, _ = limits.nodes_for(values, users)
    spare = int(values.machines.spare_nodes)
    if serving is None:
        return
    assert all(part.fullness(serving) <= 1 + 1e-5 for part in demand.node(values, users, serving + spare))
    if serving > 1:
        fewer = demand.node(values, users, serving - 1 + spare)
        assert any(part.fullness(serving - 1) > 1 - 1e-5 for part in fewer)


@settings(deadline=None)
@given(PLAUSIBLE, SOME_USERS, st.integers(1, 500))
def test_what_users_do_is_conserved_however_many_nodes_do_it(
    values: Values, users: float, nodes: int
) -> None:
    rate = demand.rates(values, users)
    assert rate.live + rate.waiting == pytest.approx(rate.forwards)
    one, twice = demand.rates(values, users), demand.rates(values, 2 * users)
    assert twice.forwards == pytest.approx(2 * one.forwards)
    for part in demand.node(values, users, nodes):
        assert sum(part.users / nodes for _ in range(nodes)) == pytest.approx(part.users)
    # A cluster does all that mediators alone do for the same users, and more.
    alone = replace(
        values,
        figures=replace(
            values.figures, forward_us=values.figures.single_forward_us,
            live_us=values.figures.single_live_us, pickup_us=values.figures.single_pickup_us,
        ),
    )  # fmt: skip
    for part, other in zip(demand.single(alone, users), demand.node(alone, users, nodes), strict=False):
        assert other.users >= part.users * (1 - 1e-9)


@settings(max_examples=10, deadline=None)
@given(PLAUSIBLE)
def test_the_first_part_that_ends_is_where_a_cluster_stops_to_fit(values: Values) -> None:
    ends = limits.ends(values)
    assert [end.users for end in ends] == sorted(end.users for end in ends)
    if math.isfinite(ends[0].users) and ends[0].users > 1:
        assert limits.size(values, ends[0].users * 0.99).fits
        assert not limits.size(values, ends[0].users * 1.02).fits


def test_half_of_a_bottleneck_is_half_of_the_users() -> None:
    first = limits.ends(VALUES.set("database_connections", 100))[0]
    (row,) = limits.sensitivity(VALUES.set("database_connections", 100), ["database_connections"])
    assert first.name == "database connections"
    assert row.users[0] < 0.75 and row.users[1] > 1.5


# --- a message's way


def test_a_way_that_is_played_out_takes_as_long_as_the_closed_form_says_and_again_the_same() -> None:
    users = limits.users_per_mediator(VALUES)[0] * 4
    of = delivery.work(VALUES, users, limits.size(VALUES, users).serving)
    played, expected = delivery.play(of, 6_000, 1), delivery.expected(of)
    assert played.mean_accepted == pytest.approx(expected.accepted, rel=0.15)
    assert played.mean_delivered == pytest.approx(expected.delivered, rel=0.15)
    assert played.node_busy == pytest.approx(VALUES.machines.utilisation, rel=0.15)
    assert delivery.play(of, 500, 1) == delivery.play(of, 500, 1) != delivery.play(of, 500, 2)


# --- on the command line


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DIDMPC), "bench", "capacity", *map(str, arguments)], text=True, capture_output=True, check=False
    )


def test_the_command_answers_for_people_programs_and_documents(tmp_path: Path) -> None:
    text = run("--messages", "500", "--size", "100", "--size", "10000")
    assert text.returncode == 0 and "first bottleneck" in text.stdout and "10,000" in text.stdout
    answer = json.loads(run("--messages", "0", "--size", "100", "--json", "--set", "pool=20").stdout)
    assert answer["sizes"][0]["mediators"] == 100 and answer["sizes"][0]["bottleneck"]
    assert answer["values"]["machines"]["pool"] == 20 and answer["delivery"] is None


def test_the_guide_shows_what_was_measured_and_what_is_calculated_from_it() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text().splitlines()
    measured = json.loads(Path(limits.__file__).with_name("figures.json").read_text())
    calculated = run("--messages", "0", "--markdown").stdout.splitlines()
    tables = [line for line in (*nodes_report.markdown(measured), *calculated) if line.startswith("|")]
    assert len(tables) > 50
    assert [line for line in tables if line not in guide] == []


def test_own_figures_are_taken_and_wrong_ones_are_told(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    value = json.loads(Path(limits.__file__).with_name("figures.json").read_text())
    mine.write_text(json.dumps(value))
    assert Figures.read(mine)[0] == FIGURES
    for wrong in (
        "{}",
        "no json",
        json.dumps({**value, "figures": {**value["figures"], "live_us": "many"}}),
        json.dumps({**value, "figures": {**value["figures"], "commit_ms": -1}}),
        json.dumps({**value, "figures": {**value["figures"], "commit_ms": math.nan}}),
    ):
        mine.write_text(wrong)
        with pytest.raises(LocalMisuse):
            Figures.read(mine)
    for setting in ("online=2", "nothing=1", "peak", "peak=inf", "utilisation=1", "pool=0"):
        with pytest.raises(LocalMisuse):
            VALUES.with_settings([setting])
    assert VALUES.with_settings(["messages-per-day=7"]).users.messages_per_day == 7
