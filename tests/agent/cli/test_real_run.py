"""run and join with three real agents at a real mediator, all started by commands."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PATIENCE, Command

SUM = '''"""Sum: everyone learns the sum."""

import sys

from mpyc.runtime import mpc


async def main():
    rounds = int(sys.argv[1])
    number = int(input())
    secint = mpc.SecInt(32)
    await mpc.start()
    print("computing", flush=True)
    for _ in range(rounds):
        total = await mpc.output(mpc.sum(mpc.input(secint(number))))
    print("Sum:", total)
    await mpc.shutdown()


mpc.run(main())
'''
FOR_EVER = "1000000"
NAMES = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Command]]:
    """Three people with agents, who know alice. A test that ends an agent starts it again."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "sum.py").write_text(SUM)
    host = Command(folder / "mediator", folder)
    mediator = host.start("mediator", "start", "--port", "0", "--json", stderr=subprocess.DEVNULL)
    everybody = {name: Command(folder / name, folder) for name in NAMES}
    try:
        invitation = json.loads(mediator.stdout.readline())["invitation"]
        for name, person in everybody.items():
            start = ["agent", "start", "--label", name, "--mediator", invitation, "--detach"]
            assert person(*start).status == 0
        for name in NAMES[1:]:
            link = everybody["alice"]("invite").out.decode().strip()
            assert everybody[name]("accept", link).status == 0
        yield everybody
    finally:
        for person in everybody.values():
            person("agent", "stop")
        mediator.terminate()
        mediator.communicate(timeout=PATIENCE)


def begin(people: dict[str, Command], rounds: str, *flags: str) -> dict[str, "subprocess.Popen[bytes]"]:
    """All three take part, each with a number of their own on stdin."""
    run = ["run", "sum.py", "--with", "bob,carol", "--yes", "--wait", "60", *flags, "--", rounds]
    processes = {}
    for number, (name, person) in enumerate(people.items(), start=1):
        arguments = run if name == "alice" else ["join", "--yes", "--wait", "60", *flags]
        processes[name] = process = person.start(*arguments, stdin=subprocess.PIPE)
        process.stdin.write(b"%d\n" % number)
        process.stdin.flush()
    return processes


async def ends(processes, finish):
    """How each of them ended."""
    done = await asyncio.gather(*(asyncio.to_thread(finish, process) for process in processes.values()))
    return dict(zip(processes, done, strict=True))


async def until_computing(process) -> None:
    line = await asyncio.to_thread(process.stdout.readline)
    assert line == b"computing\n", process.communicate()


async def test_each_gives_a_number_and_all_learn_the_sum(people, finish):
    ended = await ends(begin(people, "3"), finish)
    for name, result in ended.items():
        assert (result.status, result.out) == (0, b"computing\nSum: 6\n"), f"{name}: {result.err}"
        said = [line.strip() for line in result.err.strip().splitlines()]
        assert said[-2].startswith("Done in ")
        assert said[-1].startswith("Receipt:  didmpc verify "), said[-1]
    check_receipt(people["bob"], ended["bob"])
    verified = people["bob"]("session", "verify", "--yes-they-match", "--json").json
    assert " ".join(verified["words"]) in ended["alice"].err
    assert {party["name"]: (party["how"], party["contact"]) for party in verified["parties"]} == {
        "alice": ("words", "alice"),
        "bob": ("you", None),
        "carol": ("words", None),
    }
    (alice,) = people["bob"]("contacts", "--json").json["contacts"]
    assert alice["verified"] and alice["verified_at"] == verified["compared_at"]
    newest = people["bob"]("sessions", "--json").json["sessions"][0]
    assert (newest["attempt"], newest["state"]) == (verified["attempt"], "done")


def check_receipt(didmpc: Command, result) -> None:
    """All have signed; the own copy opens the commitment to the output; what is changed is named."""
    path = Path(shlex.split(result.err.strip().splitlines()[-1].partition("verify ")[2])[0])
    assert path.stat().st_mode & 0o777 == 0o600
    (didmpc.folder / "out.txt").write_bytes(result.out)
    checked = didmpc("verify", str(path), "--output", "out.txt", "--json")
    assert checked.status == 0 and checked.json["complete"] and checked.json["output_matches"]
    assert [party["name"] for party in checked.json["parties"] if party["signed"]] == list(NAMES)
    words = " ".join(checked.json["words"])
    assert words in result.err, "the words that were shown before the run"
    (didmpc.folder / "out.txt").write_bytes(result.out + b" ")
    other = didmpc("verify", str(path), "--output", "out.txt")
    assert other.status == 1 and "NOT the one that you committed to" in other.err
    printed = didmpc("session", "receipt")
    given_away = didmpc.folder / "given.json"
    given_away.write_bytes(printed.out)
    checked = didmpc("verify", "given.json")
    assert checked.status == 0, checked.err
    assert "It does not prove that a result is right" in checked.err
    assert "has no salt" in didmpc("verify", "given.json", "--output", "out.txt").err
    value = json.loads(printed.out)
    value["parties"][2]["output"]["at"] += 1
    given_away.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    changed = didmpc("verify", "given.json")
    assert (
        changed.status == 1 and "carol's claim (commitment, time or signature) does not hold." in changed.err
    )


async def test_an_agent_that_is_killed_keeps_nobody_waiting_and_is_missing_from_the_receipt(people, finish):
    processes = begin(people, "300", "--receipt", "mine.json")
    await until_computing(processes["carol"])
    pid = people["carol"]("agent", "status", "--json").json["pid"]
    os.kill(pid, signal.SIGKILL)
    try:
        await check_who_missed_its_end(people, processes, finish)
    finally:
        assert people["carol"]("agent", "start", "--detach").status == 0


async def check_who_missed_its_end(people, processes, finish) -> None:
    for name in ("alice", "bob"):
        said = b""
        while b"Done in" not in said:
            line = await asyncio.to_thread(processes[name].stderr.readline)
            assert line, said
            said += line
    processes["bob"].send_signal(signal.SIGINT)
    processes["alice"].send_signal(signal.SIGINT)
    ended = await ends(processes, finish)
    assert {result.status for result in ended.values()} == {0}
    assert (
        "No receipt: your agent stopped before all could sign one. The result stands." in ended["carol"].err
    )
    assert "didmpc session receipt" in ended["bob"].err
    deadline = time.monotonic() + PATIENCE
    while (waiting := people["bob"]("session", "receipt", "--json").json)["missing"] != ["carol"]:
        assert time.monotonic() < deadline, waiting
    assert not waiting["complete"]
    checked = people["bob"]("verify", waiting["path"])
    assert checked.status == 3
    assert "not complete: carol did not sign" in checked.err


async def test_with_json_each_gets_one_object(people, finish):
    ended = await ends(begin(people, "1", "--json"), finish)
    for result in ended.values():
        assert result.status == 0, result.err
        assert result.json["output"] == "computing\nSum: 6\n"
        assert result.json["parties"] == list(NAMES)
    assert len({result.json["attempt"] for result in ended.values()}) == 1


async def test_ctrl_c_of_one_ends_the_run_for_all_by_name(people, finish):
    processes = begin(people, FOR_EVER)
    await until_computing(processes["bob"])
    processes["bob"].send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE):
        ended = await ends(processes, finish)
    assert ended["bob"].status == 130
    assert "Stopped: you pressed Ctrl-C; all parties are told." in ended["bob"].err
    for name in ("alice", "carol"):
        assert ended[name].status == 1
        assert "bob" in ended[name].err.lower().split("running.")[1]
    assert "didmpc run sum.py --with bob,carol" in ended["alice"].err


async def test_a_command_that_is_killed_ends_the_run_for_all_by_name(people, finish):
    processes = begin(people, FOR_EVER)
    await until_computing(processes["carol"])
    processes["carol"].kill()
    async with asyncio.timeout(PATIENCE):
        ended = await ends({name: processes[name] for name in ("alice", "bob")}, finish)
    processes["carol"].communicate()
    for result in ended.values():
        assert result.status == 1
        assert "carol" in result.err.split("Running.")[1]
