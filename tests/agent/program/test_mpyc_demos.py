"""Programs of the MPyC project run unmodified, with the results of a local run of MPyC."""

import ast
import asyncio
import contextlib
import functools
import random
import re
import socket
import subprocess
import sys

import pytest


def free_ports():
    """The first of three free ports in a row, outside of the range from which the kernel hands out."""
    while True:
        first = random.randrange(20_000, 30_000)
        with contextlib.ExitStack() as sockets, contextlib.suppress(OSError):
            for port in range(first, first + 3):
                sockets.enter_context(socket.socket()).bind(("", port))
            return first


@functools.cache
def local_run(program, *arguments):
    """What `python PROGRAM -M3` prints on this machine, where MPyC connects its parties by TCP."""
    command = (sys.executable, program, *arguments, "-M3", "--no-log", "-B", str(free_ports()))
    done = subprocess.run(
        command, cwd=program.parent, check=True, capture_output=True, text=True, timeout=240
    )
    return done.stdout


def values(line):
    """The list at the end of a line of output."""
    return ast.literal_eval(line[line.index("[") :])


def without_chance(output):
    """`output`, with what is drawn at random put into an order, or replaced by its kind."""
    lines = []
    for line in output.splitlines():
        if line.startswith("Randomly shuffled"):
            lines.append(f"shuffled {sorted(values(line))}")
        elif match := re.fullmatch(r"(\d+) \[(.*)\]", line):
            names = match[2].split(", ")  # a permutation, which leaves none in its place
            assert len(set(names)) == int(match[1])
            assert all(re.fullmatch(rf"0*{place}(\.0)?", name) is None for place, name in enumerate(names))
            lines.append(f"{match[1]} {sorted(names)}")
        else:
            lines.append(line)
    return lines


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("oneliners.py", []),
        ("unanimous.py", ["1"]),
        ("unanimous.py", ["0"]),
        ("sort.py", ["4"]),
        ("id3gini.py", []),
        ("secretsanta.py", ["3"]),
        ("aes.py", ["-1"]),
    ],
)
@pytest.mark.parametrize("coalesce", [True, False])
async def test_a_demo_gives_the_results_of_a_local_run(switch, demos, program, arguments, coalesce):
    await switch.start(demos / program, arguments, coalesce=coalesce)
    parties = await switch.go().end()
    assert [(party.exit, party.failed, party.stderr) for party in parties] == [(0, None, "")] * 3
    expected = await asyncio.to_thread(local_run, demos / program, *arguments)
    assert without_chance(parties[0].stdout) == without_chance(expected)
    for party in parties[1:]:
        if program != "unanimous.py":  # where roles follow the pid
            assert without_chance(party.stdout) == without_chance(expected)
    for party in parties:
        assert party.stats is not None
        assert party.stats["unpickled"] == 0
        assert 0 < party.stats["rounds"] <= party.stats["messages"]
        assert party.stats["first_round"] < party.stats["last_round"]
        assert party.stats["bytes"] == sum(len(frame.payload) for frame in party.sent)
