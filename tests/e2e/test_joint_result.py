"""Three parties with a home each, on two mediators, compute together and learn the same."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from didmpc.bench.cluster import Cluster

from .ports import free_ports


def sample(demos: Path, program: str) -> dict[str, Path]:
    files = sorted((demos / "inputs" / program).iterdir())
    return dict(zip(("Alice", "Bob", "Carol"), files, strict=False))


def test_everyone_learns_the_average(cluster: Cluster, demos: Path) -> None:
    results = cluster.compute(demos / "salary.py", inputs=sample(demos, "salary"))
    assert [result["output"] for result in results] == ["Average salary of 3 people: 3,408.33\n"] * 3
    assert all(result["ok"] and result["cause"] is None for result in results)


def test_the_cost_of_a_run_is_told(cluster: Cluster, demos: Path) -> None:
    for result in cluster.compute(demos / "rounds.py", arguments=["50"]):
        stats = result["stats"]
        assert stats["rounds"] >= 50
        assert stats["messages"] >= 100
        assert 0 < stats["packets"] <= 2 * stats["messages"]
        assert stats["sealed_bytes"] >= stats["bytes"] > 0
        assert 0 < stats["first_to_last_round"] < stats["seconds"]
        assert stats["crypto_us_per_message"] > 0


def test_a_wish_reaches_one_santa_only(cluster: Cluster, demos: Path) -> None:
    inputs = sample(demos, "secret_santa")
    results = cluster.compute(demos / "secret_santa.py", inputs=inputs)
    received = [result["output"].strip().removeprefix("You give to ") for result in results]
    own = [path.read_text().strip() for path in inputs.values()]
    assert sorted(received) == sorted(own)
    assert all(given != mine for given, mine in zip(received, own, strict=True))


def test_the_helper_of_millionaires_learns_nothing(cluster: Cluster, demos: Path) -> None:
    rich = sample(demos, "millionaires")
    del rich["Carol"]
    results = cluster.compute(demos / "millionaires.py", inputs=rich)
    assert sorted(result["output"] for result in results) == [
        "Richest: party 1\n",
        "Richest: you\n",
        "You helped 2 parties to compute, and learned nothing.\n".replace("compute", "compare"),
    ]


def test_arguments_reach_the_program_at_every_party(cluster: Cluster, demos: Path) -> None:
    results = cluster.compute(
        demos / "vote.py", inputs=sample(demos, "vote"), arguments=["no", "maybe", "yes"]
    )
    assert [result["output"] for result in results] == ["3 votes. The winner: yes\n"] * 3


def test_every_mode_has_the_same_result(cluster: Cluster, demos: Path) -> None:
    for mode in ("session", "auto", "didcomm"):
        results = cluster.compute(demos / "salary.py", "--mode", mode, inputs=sample(demos, "salary"))
        assert {result["output"] for result in results} == {"Average salary of 3 people: 3,408.33\n"}, mode


# --- programs that no one here wrote


def local_run(program: Path, arguments: list[str]) -> str:
    """What MPyC itself prints for party 0 of three."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MPYC")}
    return subprocess.run(
        [sys.executable, program.name, "-M3", "-B", str(free_ports(3)), "--no-log", *arguments],
        cwd=program.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    ).stdout


def same(expected: str, got: str) -> None:
    assert got == expected


def same_but_for_the_shuffle(expected: str, got: str) -> None:
    """`sort.py` prints its random shuffle too; what comes out sorted is known."""

    def known(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("Randomly shuffled")]

    assert known(got) == known(expected)
    assert got.count("Randomly shuffled input:") == 2


def derangements(expected: str, got: str) -> None:
    """`secretsanta.py` draws permutations without fixed points: their shape is known, not their order."""
    assert [line.split(" ", 1)[0] for line in got.splitlines()] == [
        line.split(" ", 1)[0] for line in expected.splitlines()
    ]
    drawn = 0
    for line in got.splitlines():
        if match := re.fullmatch(r"(\d) (\[.*\])", line):
            size = int(match[1])
            values = (
                [int(float(value)) for value in ast.literal_eval(match[2])] if "x" not in match[2] else None
            )
            if values is not None:
                assert sorted(values) == list(range(size))
                assert all(value != place for place, value in enumerate(values))
                drawn += 1
    assert drawn >= 14


OF_MPYC = [
    ("oneliners", [], same),
    ("unanimous", [], same),
    ("sort", [], same_but_for_the_shuffle),
    ("id3gini", [], same),
    ("aes", ["-1"], same),
]


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("program", "arguments", "compare"),
    [*OF_MPYC, pytest.param("secretsanta", ["5"], derangements, marks=pytest.mark.soak)],  # long
)
def test_programs_of_mpyc_run_unmodified(
    cluster: Cluster,
    mpyc_demos: Path,
    program: str,
    arguments: list[str],
    compare: Callable[[str, str], None],
    times: int,
) -> None:
    source = mpyc_demos / f"{program}.py"
    expected = local_run(source, arguments)
    for _ in range(times):
        first, *_others = cluster.compute(source, arguments=arguments)
        compare(expected, first["output"])
