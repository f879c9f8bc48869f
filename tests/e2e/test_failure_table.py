"""Failures that plain MPyC meets with silence, row by row: the others are told who, why, and what to type.

MPyC 0.11 by itself, with `python awry.py WHAT 2 -M3`: after one operation more or fewer, another threshold
or a forgotten shutdown all stand still and say nothing. After an exception, an exit or with another bit
length the others end with errors of their own (AttributeError, RuntimeError: Event loop stopped), which
name nobody.

All rows:  make soak PYTEST_FLAGS=tests/e2e/test_failure_table.py
"""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from didmpc.bench.cluster import Cluster

from .observe import all_say, process_of

PROGRAM = Path(__file__).parent / "programs" / "awry.py"
SECRET = "4711"
GRACE = 3

ROWS = {
    "raise": (r"Carol's program raised an exception\.", r"ValueError\."),
    "raise-at-once": (r"Carol's program raised an exception\.", r"ValueError\."),
    "exit-status": (r"Carol's program ended with an error\.", ""),
    "exit-words": (r"Carol's program ended with an error\.", ""),
    "exit-early": (
        r"Carol's program ended while others still waited for its data\.",
        r"await mpc\.shutdown\(\)",
    ),
    "no-shutdown": (
        r"Carol's program ended while others still waited for its data\.",
        r"await mpc\.shutdown\(\)",
    ),
    "memory": (r"Carol's program ran out of memory\.", "MemoryError"),
    "disk": (r"Carol's program could not write a file: there is no room left\.", "OSError"),
    "threshold": (
        r"Carol's program asks for another threshold than was agreed\.",
        "0, but the parties agreed on 1",
    ),
    "input": (r"Carol's program raised an exception\.", "EOFError"),
    "one-more": ("Suspected deadlock", "program waits for a message of Carol's"),
    "one-fewer": ("Suspected deadlock", "program waits for a message of Carol's"),
    "bit-length": (r"Carol|Suspected deadlock|Bob|Alice", ""),
}


@pytest.mark.soak
@pytest.mark.parametrize("what", ROWS)
def test_everyone_else_is_told_who_why_and_what_to_type(cluster: Cluster, what: str) -> None:
    sentence, why = ROWS[what]
    running = cluster.begin(PROGRAM, "--deadlock-grace", str(GRACE), arguments=[what, "2"], as_json=False)
    alice, bob, carol = [each.wait(120) for each in running]
    for other, command in ((alice, "didmpc run"), (bob, "didmpc join")):
        assert other.status == 1, other.stderr
        assert re.search(sentence, other.stderr), other.stderr
        assert re.search(why, other.stderr), other.stderr
        assert command in other.stderr.splitlines()[-1]
        assert SECRET not in other.stdout + other.stderr
        assert "Traceback" not in other.stderr or what == "bit-length"
    if what in ("raise", "raise-at-once", "exit-words"):
        assert SECRET in carol.stderr, "its owner is told everything"


@pytest.mark.soak
def test_a_program_that_closes_its_input_takes_part_to_the_end(cluster: Cluster) -> None:
    results = cluster.compute(PROGRAM, arguments=["stdin", "2"])
    assert {result["output"] for result in results} == {"sum 6\nproduct 6\n"}


@pytest.mark.soak
@pytest.mark.parametrize("module", ["didmpc.agent.program", "didmpc.agent.channel"])
def test_whoever_is_killed_is_named_within_five_seconds(cluster: Cluster, steps: Path, module: str) -> None:
    running = cluster.begin(steps, arguments=["400", "0.1"], as_json=False)
    all_say(running, "step 2\n")
    began = time.monotonic()
    os.kill(process_of(cluster.parties[2], module), signal.SIGKILL)
    for other in running[:2]:
        finished = other.wait(20)
        assert time.monotonic() - began < 5
        assert finished.status == 1 and re.search(
            "Carol's (program was killed|channel process died)", finished.stderr
        )
