"""Whole runs: three parties, a mediator, an MPyC program that knows nothing of it."""

import asyncio
import base64
import json
import os
from pathlib import Path

import pytest
from channel_parts import Mediator, Table
from channel_programs import SUM, rounds

from didmpc.agent.sandbox import choice
from didmpc.agent.sandbox.policy import Mechanism


async def test_every_party_gets_the_result_and_ends_well(gather):
    table = await gather(SUM)
    for ended in await table.ended():
        assert ended["ok"] and ended["cause"] is None and ended["exit"] == 0
    assert [seat.stdout for seat in table] == ["sum 18 max 7\n"] * 3
    assert [seat.output["stderr"] for seat in table] == [b""] * 3
    for seat in table:
        assert await seat.process.wait() == 0
        assert not seat.socket.exists()


async def test_every_party_gets_the_result_under_the_other_sandbox_too(gather):
    if problem := choice.problem_of(Mechanism.LANDLOCK):
        pytest.skip(problem)
    table = await gather("import numpy\n" + SUM, sandbox="landlock")
    assert all(ended["ok"] for ended in await table.ended())
    assert [seat.stdout for seat in table] == ["sum 18 max 7\n"] * 3


async def test_the_files_that_a_program_writes_are_kept_where_its_person_wants_them(gather, tmp_path: Path):
    writes = """
import os
os.makedirs("tables/small")
for name in ("sum.txt", "tables/small/one.csv", ".hidden", "a\\x1b[31mred"):
    open(name, "w").write("5")
"""
    table = await gather(SUM + writes, m=2, output=str(tmp_path / "results"))
    ends = await table.ended()
    assert all(ended["ok"] and ended["files"] == 2 for ended in ends)
    # Here both name one folder: nothing is overwritten.
    assert [ended["files_problem"] for ended in ends if "files_problem" in ended] == ["File exists"]
    kept = tmp_path / "results"
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()) == [
        "sum.txt", "tables/small/one.csv",
    ]  # fmt: skip
    assert (kept / "sum.txt").read_text() == "5" and (kept / "sum.txt").stat().st_mode & 0o777 == 0o600


async def test_many_rounds_are_counted_and_cheap(gather):
    program, result = rounds(60)
    table = await gather(program)
    for seat, ended in zip(table, await table.ended(), strict=True):
        assert ended["ok"] and seat.stdout == result
        stats = ended["stats"]
        assert stats["rounds"] > 60 and stats["messages"] > 100
        assert 0 < stats["first_to_last_round"] < stats["seconds"]
        assert stats["sealed_bytes"] > stats["bytes"] > 0
        assert 0 < stats["packets"] < 2 * stats["messages"]
        assert stats["crypto_us_per_message"] > 0
        assert stats["envelopes"] == 2  # the hop session; nothing else was asymmetric
        assert sum(peer["bytes_sent"] for peer in stats["per_peer"].values()) == stats["bytes"]


async def test_two_parties_and_five(gather):
    table = await gather(SUM, m=5)
    assert all(ended["ok"] for ended in await table.ended())
    assert [seat.stdout for seat in table] == ["sum 35 max 9\n"] * 5


async def test_large_messages_pass_whole_both_ways(gather):
    program = """
import hashlib
from mpyc.runtime import mpc

async def main():
    async with mpc:
        blob = bytes([mpc.pid + 1]) * 3_000_001
        for text in await mpc.transfer(blob):
            print(len(text), hashlib.sha256(text).hexdigest()[:8])

mpc.run(main())
"""
    table = await gather(program)
    assert all(ended["ok"] for ended in await table.ended())
    assert len({seat.stdout for seat in table}) == 1 and table[0].stdout.count("3000001") == 3


async def test_a_program_may_start_mpc_twice(gather):
    program = """
from mpyc.runtime import mpc

async def main():
    for _ in range(2):
        async with mpc:
            print(await mpc.output(mpc.sum(mpc.input(mpc.SecInt(16)(1)))))

mpc.run(main())
"""
    table = await gather(program)
    assert all(ended["ok"] for ended in await table.ended())
    assert [seat.stdout for seat in table] == ["3\n3\n"] * 3


READS_INPUT = """
import sys
from mpyc.runtime import mpc

async def main():
    async with mpc:
        own = sum(int(line) for line in sys.stdin)
        print(await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(own)))))

mpc.run(main())
"""


async def test_typed_input_reaches_the_program(gather):
    table = await gather(READS_INPUT)
    for seat in table:
        for line in (b"10\n", b"%d\n" % seat.pid):
            seat.say(**{"in": base64.b64encode(line).decode()})
        seat.say(in_eof=True)
    assert all(ended["ok"] for ended in await table.ended())
    assert [seat.stdout for seat in table] == ["33\n"] * 3


async def test_a_file_of_ones_own_is_the_input(gather, tmp_path: Path):
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("1\n" * 100_000)  # more than a pipe holds
    table = await gather(READS_INPUT, input=str(numbers))
    assert all(ended["ok"] for ended in await table.ended())
    assert [seat.stdout for seat in table] == ["300000\n"] * 3


async def test_an_input_file_that_is_gone_ends_the_run_with_a_word(gather, tmp_path: Path):
    table = await gather(SUM, input=str(tmp_path / "gone"))
    ended = await table[0].ended()
    assert not ended["ok"] and "No such file" in ended["cause"]["why"]


async def test_the_program_sees_nothing_that_is_ours(gather):
    program = """
import json, os, stat
from mpyc.runtime import mpc

def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False

print(json.dumps({
    "env": sorted(os.environ), "home": os.environ["HOME"], "cwd": os.getcwd(),
    "sockets": sum(1 for n in range(3, 64) if is_socket(n)),
}))
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
"""
    table = await gather(program)
    assert all(ended["ok"] for ended in await table.ended())
    seen = json.loads(table[0].stdout)
    assert not [name for name in seen["env"] if name.startswith("DIDMPC")]
    assert seen["home"] == seen["cwd"] and seen["cwd"].endswith("/Alice/work/output")
    assert seen["sockets"] == 1  # the pair to its channel process


async def test_no_secret_is_on_a_command_line_or_in_the_log(gather):
    program, _ = rounds(80)
    table = await gather(program)
    await table.started()
    for seat in table:
        for pid in (seat.process.pid, await seat.program_pid()):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            assert max(len(argument) for argument in arguments[1:]) < 40
    assert all(ended["ok"] for ended in await table.ended())
    for seat in table:
        assert "secret" not in seat.log.read_text()


async def test_the_user_is_told_who_is_connected(gather):
    program, _ = rounds(80)
    table = await gather(program)
    await table.ended()
    for seat in table:
        connected = {event["name"] for event in seat.events if event.get("state") == "connected"}
        assert connected == {other.name for other in table} - {seat.name}
        assert seat.events[-1]["event"] == "ended"


async def test_output_waits_for_a_user_interface_that_stands_still(gather):
    """More output than is kept: the program waits in its pipe, nothing is lost, memory stays bounded."""
    program = """
from mpyc.runtime import mpc
print("x" * 99, flush=True)
for _ in range(150_000):
    print("x" * 99)
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
"""
    table = await gather(program, m=3)
    table[0].stop_reading()
    await asyncio.sleep(3)
    assert table[0].line("ended") is None
    pages = int(Path(f"/proc/{table[0].process.pid}/statm").read_text().split()[1])
    assert pages * os.sysconf("SC_PAGESIZE") < 200 * 1024 * 1024
    table[0].read_on()
    assert all(ended["ok"] for ended in await table.ended())
    assert table[0].output["stdout"].count(b"\n") == 150_001


async def test_one_mediator_carries_all_links_over_one_websocket(gather, mediator: Mediator):
    program, _ = rounds(80)
    table: Table = await gather(program)
    await table.started()
    for seat in table:
        sockets = Path(f"/proc/{seat.process.pid}/net/tcp").read_text()
        assert f":{mediator.port:04X}" in sockets
        fds = [os.readlink(fd) for fd in Path(f"/proc/{seat.process.pid}/fd").iterdir()]
        inodes = {line.split()[9] for line in sockets.splitlines()[1:]}
        assert len([fd for fd in fds if fd.startswith("socket:[") and fd[8:-1] in inodes]) == 1
    assert all(ended["ok"] for ended in await table.ended())
