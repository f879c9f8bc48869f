"""Each demo program is a plain MPyC program: run by MPyC alone it computes what its first line says.

The parties of a run are processes that MPyC starts by `-M`; what the first one prints is compared with the
same result computed in the clear from the sample inputs.
"""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .ports import free_ports

ROOT = Path(__file__).parents[2]
DEMOS = ROOT / "demos"
PROGRAMS = ["salary", "vote", "millionaires", "secret_santa", "survival"]


def run(program: str, *arguments: str, parties: int = 3, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        f"{program}.py",
        f"-M{parties}",
        "-B",
        str(free_ports(parties)),
        "--no-log",
        *arguments,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MPYC")}
    return subprocess.run(
        command,
        cwd=DEMOS,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def samples(program: str, parties: int = 3) -> list[str]:
    return [path.read_text() for path in sorted((DEMOS / "inputs" / program).iterdir())[:parties]]


@pytest.mark.parametrize("parties", [3, 5])
def test_salary_is_the_average_of_the_inputs(parties: int) -> None:
    salaries = [int(text) for text in samples("salary", parties)]
    done = run("salary", "--sample", parties=parties)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Average salary of {parties} people: {sum(salaries) / parties:,.2f}\n"


def test_a_vote_names_the_winner_without_a_count() -> None:
    assert run("vote", "--sample").stdout == "3 votes. The winner: yes\n"
    assert run("vote", "--sample", "no", "yes", parties=4).stdout == "4 votes. The winner: yes\n"


def test_the_richest_is_found() -> None:
    assert run("millionaires", "--sample").stdout == "Richest: party 1\n"
    assert run("millionaires", "--sample", parties=5).stdout == "Richest: party 3\n"


def test_a_santa_learns_one_line_that_is_not_its_own() -> None:
    lines = [text.strip() for text in samples("secret_santa")]
    for _ in range(3):
        done = run("secret_santa", "--sample")
        assert done.stdout.strip().removeprefix("You give to ") in lines[1:], done


def test_survival_agrees_with_the_same_statistics_in_the_clear() -> None:
    patients = [row for text in samples("survival") for row in csv.DictReader(text.splitlines())]
    curves, chi_square = kaplan_meier_and_log_rank(
        [(row["arm"], int(row["months"]), row["event"] == "1") for row in patients]
    )
    printed = run("survival", "--sample").stdout.splitlines()
    for arm, line in zip("AB", printed[1:3], strict=True):
        *_, twelve, twenty_four, thirty_six = line.replace("%", "").split()
        got = [float(twelve), float(twenty_four), float(thirty_six)]
        assert got == pytest.approx([100 * curves[arm][month] for month in (12, 24, 36)], abs=0.06)
    statistic, p_value = printed[3].removeprefix("Log-rank test: chi-square ").split(", p = ")
    assert float(statistic) == pytest.approx(chi_square, abs=0.01)
    assert float(p_value) == pytest.approx(math.erfc(math.sqrt(chi_square / 2)), abs=0.001)


def kaplan_meier_and_log_rank(
    patients: list[tuple[str, int, bool]],
) -> tuple[dict[str, dict[int, float]], float]:
    curves: dict[str, dict[int, float]] = {"A": {}, "B": {}}
    alive = {"A": 1.0, "B": 1.0}
    difference = variance = 0.0
    for month in range(1, 37):
        at_risk = {arm: sum(a == arm and months >= month for a, months, _ in patients) for arm in "AB"}
        died = {arm: sum(a == arm and months == month and e for a, months, e in patients) for arm in "AB"}
        n, d = sum(at_risk.values()), sum(died.values())
        if n > 0:
            difference += died["A"] - d * at_risk["A"] / n
        if n > 1:
            variance += d * at_risk["A"] * at_risk["B"] * (n - d) / (n * n * (n - 1))
        for arm in "AB":
            alive[arm] *= 1 - died[arm] / max(at_risk[arm], 1)
            curves[arm][month] = alive[arm]
    return curves, difference**2 / variance


def test_the_chain_of_multiplications_takes_its_length_from_the_argument() -> None:
    done = run("rounds", "17")
    assert done.returncode == 0
    assert done.stdout.startswith("17 rounds, the last number ")


@pytest.mark.parametrize(
    ("program", "stdin", "complaint"),
    [
        ("salary", "lots\n", "'lots' is not a whole number."),
        ("salary", "-3\n", "-3 is not between 0 and 10,000,000."),
        ("vote", "maybe\n", "'maybe' is none of: yes, no."),
        ("millionaires", "1e6\n", "'1e6' is not a whole number."),
        ("secret_santa", "Alice\n", "Write a name, a colon and a wish"),
        ("secret_santa", f"Alice: {'x' * 100}\n", "at most 80 fit"),
        ("survival", "arm,months\n", "its first line must be  arm,months,event"),
        ("survival", "arm,months,event\nA,12,1\nC,3,0\n", "line 3 is 'C,3,0'"),
        ("survival", "", "The input is empty."),
    ],
)
def test_an_unusable_input_is_named_and_ends_the_program(program: str, stdin: str, complaint: str) -> None:
    # Party 0 of three, started alone: it reads its input before it connects to anyone.
    done = run(program, "-I0", stdin=stdin)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("program", [*PROGRAMS, "rounds"])
def test_the_first_line_of_a_program_says_what_is_computed(program: str) -> None:
    first = (DEMOS / f"{program}.py").read_text().splitlines()[0]
    assert first.startswith('"""')
    assert ":" in first


@pytest.mark.parametrize("program", PROGRAMS)
def test_there_are_sample_inputs_for_five_parties(program: str) -> None:
    assert len(samples(program, parties=99)) == 5
