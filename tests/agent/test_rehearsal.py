"""Rehearsals and the Python API of computations: real agents of `didmpc rehearse`, which end with it."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.api import Agent, ComputationFailed, LocalMisuse, Printed, Proposed, Words
from didmpc.agent.program.delayed import Delayed
from didmpc.agent.rehearsal import RehearsalFailed, forecast, rehearsal, rehearse
from didmpc.agent.rehearsal.forecast import rounds_of
from didmpc.agent.sandbox.choice import choose

DOCS = Path(__file__).parents[2] / "docs" / "python-api.md"
LOCKED = {} if choose(Path("/nonexistent")) else {"no_sandbox": True}

SALARY = """
from mpyc.runtime import mpc

async def main():
    salary = int(input())
    async with mpc:
        total = await mpc.output(mpc.sum(mpc.input(mpc.SecInt()(salary))))
    print("Total:", total)

mpc.run(main())
"""
LONG = """
from mpyc.runtime import mpc

async def main():
    async with mpc:
        print("running", flush=True)
        while True:
            await mpc.output(mpc.SecInt()(1))

mpc.run(main())
"""


@pytest.fixture
def salary(tmp_path: Path) -> Path:
    path = tmp_path / "salary.py"
    path.write_text(SALARY)
    return path


def documented() -> dict[str, dict[str, Any]]:
    """The namespaces of the examples in the documentation, by their names."""
    found = {}
    for name, code in re.findall(r"<!-- test: (\w+) -->\n```python\n(.*?)```", DOCS.read_text(), re.S):
        found[name] = {}
        exec(compile(code, f"{DOCS.name}:{name}", "exec"), found[name])
    return found


async def test_the_documented_programs_work_between_real_agents(salary: Path, monkeypatch, capsys):
    examples = documented()
    monkeypatch.chdir(salary.parent)
    Path("salary.txt").write_text("3000\n")
    async with rehearsal._nursery(["Alice", "Bob", "Carol"]) as (_, homes):
        alice, bob, carol = homes
        met, contacts = await examples["people"]["meet"](alice, bob)
        assert met.name == "Alice" and [each.name for each in contacts] == ["Bob"]
        await examples["people"]["meet"](alice, carol)

        host, *guests = await asyncio.gather(
            examples["run"]["propose"](salary, alice),
            *(examples["join"]["take_part"](home) for home in (bob, carol)),
        )
        assert {each.output for each in (host, *guests)} == {"Total: 8600\n"}
        assert len(host.words) >= 4 and host.words == guests[0].words == guests[1].words
        assert capsys.readouterr().out.startswith("Total: 8600\n")

        # Without an input the program raises at Alice, who follows; the others learn it by her name.
        cause, *failures = await asyncio.gather(
            examples["follow"]["follow"](salary, alice),
            *(examples["join"]["take_part"](home) for home in (bob, carol)),
            return_exceptions=True,
        )
        assert (cause.party, cause.kind, cause.why) == (None, "raised", "EOFError: EOF when reading a line")
        assert [type(each) for each in failures] == [ComputationFailed] * 2
        assert {each.outcome.cause.party for each in failures} == {"Alice"}

        async with Agent.connect(bob) as agent:
            with pytest.raises(LocalMisuse, match="no contact called 'Zoe'"):
                await agent.run(salary, with_=["Zoe", "Alice"])
            assert [past.state for past in await agent.computations()].count("done") <= 2

        # What is refused, refused; whoever leaves, ends it for all.
        Path("long.py").write_text(LONG)
        async with Agent.connect(alice) as one, Agent.connect(bob) as two:
            seen: list[Proposed] = []
            joining = asyncio.gather(
                two.join("Alice", consent=lambda it: bool(seen.append(it)), no_privacy=True, **LOCKED),
                return_exceptions=True,
            )
            with pytest.raises(Exception, match="Bob declined"):
                await one.run("long.py", with_=["Bob"], no_privacy=True, **LOCKED)
            [refused] = await joining
            assert "declined" in str(refused) and seen[0].program == "long.py" and seen[0].by == "Alice"

            joining = asyncio.gather(
                two.join(consent=True, no_privacy=True, **LOCKED), return_exceptions=True
            )
            async with one.run("long.py", with_=["Bob"], no_privacy=True, **LOCKED) as computation:
                events = []
                async for event in computation:
                    events.append(type(event))
                    if isinstance(event, Printed):
                        break
            assert Words in events and Proposed in events
            [ended] = await joining
            assert ended.outcome.cause.party == "Alice" and ended.outcome.cause.kind == "interrupted"
    assert not homes[0].exists()


@pytest.mark.parametrize(
    ("parties", "options", "said"),
    [
        (2, {}, "Two parties can keep nothing from each other"),
        (3, {"threshold": 0}, "With threshold 0 each party can read"),
        (3, {"threshold": 2}, "A threshold of 2 is not possible"),
        (3, {"arguments": ["-M3"]}, "an option of MPyC"),
        (3, {"program": "demo:none"}, "There is no demo 'none'"),
        (3, {"program": "missing.py"}, "missing.py"),
        (3, {"program": "git+https://example.org/demos.git@main#a.py"}, "does not name one commit"),
    ],
)
async def test_what_cannot_run_is_refused_before_anything_is_started(
    salary: Path, monkeypatch, parties: int, options: dict[str, Any], said: str
):
    monkeypatch.setattr(rehearsal.tempfile, "mkdtemp", lambda **_: pytest.fail("something was started"))
    given = {"program": salary, **options}
    with pytest.raises(LocalMisuse, match=said):
        await rehearse(given.pop("program"), parties, **given)


def test_a_rehearsal_tells_what_it_takes_and_leaves_nothing(salary: Path):
    rounds = "        for _ in range(150):\n            await mpc.output(mpc.SecInt()(1))\n"
    salary.write_text(SALARY.replace("    print", rounds + "    print"))
    inputs = []
    for number in range(3):
        inputs.append(salary.parent / f"{number}.txt")
        inputs[-1].write_text(f"{1000 + number}\n")
    done = didmpc(
        *("rehearse", salary, "--input", ",".join(map(str, inputs)), "--json"), temporary=salary.parent
    )
    report = json.loads(done.stdout)
    assert report["ok"] and [each["output"] for each in report["parties"]] == ["Total: 3003\n"] * 3
    assert report["threshold"] == 1 and "private unless 2 work together" in done.stderr
    assert report["rounds"] >= 10 and report["messages"] == 15 + 150 * 3
    expected = {each["round_trip_ms"]: each["seconds"] for each in report["expected"]}
    assert report["seconds"] < expected[15] < expected[60]
    assert leftovers(salary.parent) == []


@pytest.mark.soak
async def test_who_fails_is_named_with_the_cause(tmp_path: Path):
    program = tmp_path / "fails.py"
    program.write_text(
        "from mpyc.runtime import mpc\nmpc.run(mpc.start())\nassert mpc.pid != 1, 'why not'\n"
        + "mpc.run(mpc.transfer(1))"
    )
    with pytest.raises(RehearsalFailed) as failed:
        await rehearse(program, 3, **LOCKED)
    assert "party-1" in failed.value.what and "why not" in failed.value.why
    assert [part.ok for part in failed.value.parts] == [False] * 3
    with pytest.raises(RehearsalFailed, match="Two parties can keep nothing from each other"):
        await rehearse(program, 2, **LOCKED)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_a_rehearsal_that_is_killed_leaves_nothing(tmp_path: Path, number: signal.Signals):
    program = tmp_path / "long.py"
    program.write_text(LONG)
    running = subprocess.Popen(
        command("rehearse", program),
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"running\n"
    [folder] = leftovers(tmp_path)
    assert named_by(folder)
    running.send_signal(number)
    running.communicate()
    until = time.monotonic() + 60
    while (folder.exists() or named_by(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not folder.exists() and not named_by(folder)


def command(*arguments: object) -> list[str]:
    extra = ["--no-sandbox"] if LOCKED else []
    main = "from didmpc.agent.cli.main import main; raise SystemExit(main())"
    return [sys.executable, "-c", main, *map(str, arguments), *extra]


def didmpc(*arguments: object, temporary: Path) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        command(*arguments),
        env=environment(temporary),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def environment(temporary: Path) -> dict[str, str]:
    """Rehearsals of others leave their folders elsewhere."""
    return {**os.environ, "TMPDIR": str(temporary)}


def leftovers(temporary: Path) -> list[Path]:
    return list(temporary.glob("didmpc-rehearsal-*"))


def named_by(folder: Path) -> list[int]:
    """Processes that have the folder in their arguments, environment or as their place."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if str(folder).encode() in said or os.readlink(entry / "cwd").startswith(str(folder)):
                found.append(int(entry.name))
    return found


# -- the model


def test_the_time_to_expect_grows_by_half_a_round_trip_for_each_round():
    assert rounds_of(near=0.2, far=1.2, one_way=0.01) == 100
    assert [each.seconds for each in forecast(0.2, 100, (15, 60))] == pytest.approx([0.95, 3.2])
    assert rounds_of(near=0.2, far=0.19, one_way=0.01) == 0


class Heard:
    def __init__(self) -> None:
        self.said: list[object] = []
        self.at: list[float] = []

    def data_received(self, data: bytes) -> None:
        self.said.append(data)
        self.at.append(asyncio.get_running_loop().time())

    def peer_ended(self) -> None:
        self.said.append("end")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append("lost")


async def test_a_delayed_peer_is_heard_later_and_in_order():
    loop = asyncio.get_running_loop()
    heard = Heard()
    delayed = Delayed(heard, loop, 0.05)
    began = loop.time()
    for number in range(20):
        delayed.data_received(b"%d" % number)
        if number == 10:
            await asyncio.sleep(0.02)
    delayed.peer_ended()
    async with asyncio.timeout(60):
        while heard.said[-1:] != ["end"]:
            await asyncio.sleep(0.005)
    assert heard.said == [*(b"%d" % number for number in range(20)), "end"]
    assert heard.at[0] - began >= 0.049
    delayed.connection_lost(None)
    assert heard.said[-1] == "lost"
