"""A program that goes wrong says so at once, instead of leaving everyone to wait."""

import asyncio
import select
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from didmpc.agent.program.wire import Decoder, FrameType, encode, encode_json

LATEST = 20.0  # on an idle machine it takes a hundredth of that

RAISING = {
    "in the program": """
x = await mpc.output(mpc.SecInt()(1))
raise ValueError("broken here")
""",
    "in a coroutine of MPyC": """
@mpc.coroutine
async def square(a):
    await mpc.returnType(type(a))
    a = await mpc.gather(a)
    await mpc.transfer(1)
    raise ValueError("broken here")
await mpc.output(square(mpc.SecInt()(3)))
""",
    "in a coroutine without a result": """
@mpc.coroutine
async def log(a) -> None:
    await mpc.output(a)
    raise ValueError("broken here")
log(mpc.SecInt()(3))
await asyncio.sleep(30)
""",
    "in a task": """
async def fail():
    raise ValueError("broken here")
asyncio.ensure_future(fail())
await asyncio.sleep(30)
""",
    "in a callback": """
def fail():
    raise ValueError("broken here")
mpc._loop.call_soon(fail)
await asyncio.sleep(30)
""",
}


@pytest.mark.parametrize("where", RAISING)
async def test_an_exception_ends_the_program_at_once(switch, where):
    body = textwrap.indent(RAISING[where], "    ")
    program = f"""
import asyncio, time
from mpyc.runtime import mpc
async def main():
    await mpc.start()
    print(time.monotonic())
{body}
mpc.run(main())
"""
    await switch.start(program)
    party = await switch.go().ended(1)
    assert party.exited_at - float(party.stdout) < LATEST
    assert party.exit == 1
    assert party.failed["kind"] == "raised"
    assert party.failed["why"] == "ValueError: broken here"
    assert "ValueError: broken here" in party.stderr
    assert "didmpc" not in party.stderr


async def test_a_different_program_at_one_party_ends_with_its_error(switch):
    program = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
secint = mpc.SecInt(32 if mpc.pid else 64)
x = mpc.input(secint(5), senders=0)
print(mpc.run(mpc.output(mpc.sum([x] * 3) * x)))
mpc.run(mpc.shutdown())
"""
    await switch.start(program)
    parties = await switch.go().end(grace=1)
    assert any(party.exit == 1 and party.failed["kind"] == "raised" for party in parties)


async def test_the_traceback_begins_in_the_program(switch):
    await switch.start("def f():\n    return 1 / 0\nf()\n", m=1)
    [party] = await switch.go().end()
    assert party.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert party.stderr.splitlines()[1].startswith('  File "program.py", line 3')
    assert "didmpc" not in party.stderr and "runpy" not in party.stderr


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("x = (", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("raise Exception()", "Exception"),
        ("class E(Exception):\n  def __str__(self): raise ValueError\nraise E()", ""),
    ],
)
async def test_whatever_a_program_raises_is_reported_in_one_line(switch, program, why):
    await switch.start(program, m=1)
    [party] = await switch.go().end()
    assert party.exit == 1
    assert why in party.failed["why"]
    assert "\n" not in party.failed["why"]
    assert "didmpc" not in party.stderr


async def test_an_interrupt_is_one_hundred_and_thirty(switch):
    await switch.start("raise KeyboardInterrupt", m=1)
    [party] = await switch.go().end()
    assert party.exit == 130


async def test_a_threshold_that_was_not_agreed_is_stopped(switch):
    await switch.start("from mpyc.runtime import mpc; mpc.threshold = 1; mpc.threshold = 0; print('on')")
    party = await switch.go().ended(0)
    assert party.exit == 1
    assert party.failed["kind"] == "threshold"
    assert "sets the threshold to 0, but the parties agreed on 1" in party.stderr
    assert "Traceback" not in party.stderr
    assert party.stdout == ""


async def test_a_threshold_change_that_was_agreed_works(switch):
    program = """
from mpyc.runtime import mpc
mpc.threshold = 0
mpc.run(mpc.start())
print(mpc.run(mpc.output(mpc.sum(mpc.input(mpc.SecInt()(mpc.pid))))))
mpc.run(mpc.shutdown())
"""
    await switch.start(program, allow_threshold_change=True)
    assert {party.stdout for party in await switch.go().end()} == {"3\n"}


async def test_a_party_that_ends_early_is_named_after_a_grace(switch):
    program = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        if mpc.pid == 2:
            raise SystemExit(0)
        await mpc.transfer(1)
mpc.run(main())
"""
    await switch.start(program)
    parties = await switch.go().end()
    assert parties[2].exit == 0
    for party in parties[:2]:
        assert party.exit == 1
        assert party.failed["pid"] == 2
        assert "Party 2 (Party2) ended its part" in party.stderr
        assert party.exited_at - parties[2].exited_at > 1.5


async def test_an_exception_that_leaves_async_with_is_the_reported_one(switch):
    program = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        await mpc.transfer(1)
        raise ValueError("the true cause")
mpc.run(main())
"""
    await switch.start(program)
    for party in await switch.go().end():
        assert party.failed["why"] == "ValueError: the true cause"


async def test_a_second_start_without_shutdown_is_refused(switch):
    await switch.start("from mpyc.runtime import mpc\nmpc.run(mpc.start())\nmpc.run(mpc.start())")
    for party in await switch.go().end():
        assert "call mpc.shutdown() first" in party.failed["why"]


async def test_a_value_that_cannot_be_sent_is_refused_where_it_is_sent(switch):
    await switch.start("from mpyc.runtime import mpc\nmpc.run(mpc.start())\nmpc.run(mpc.transfer(object()))")
    for party in await switch.go().end():
        assert "builtins.object cannot be sent" in party.failed["why"]


async def test_the_end_of_the_channel_process_ends_the_program(switch):
    program = """
import asyncio
from mpyc.runtime import mpc
mpc.run(mpc.start())
mpc.run(mpc.transfer(1))
mpc.run(asyncio.sleep(600))
"""
    await switch.start(program)
    switch.go()
    async with asyncio.timeout(60):
        while not all(party.sent for party in switch.parties):
            await asyncio.sleep(0.05)
    for party in switch.parties:
        party.writer.close()
    for party in await switch.end():
        assert party.exit == 1
        assert "the channel process ended" in party.stderr


@pytest.mark.parametrize(
    "junk",
    [b"\xff" * 11, b"\x02\0\0\0\0\0\0\0\0\0\0", b"\x02\0\x09\0\0\0\1\0\0\0\0", b"\x01\0\0\0\0\0\0\0\0\0\2{}"],
)
async def test_frames_that_make_no_sense_end_the_program(switch, junk):
    await switch.start(
        "from mpyc.runtime import mpc\nmpc.run(mpc.start())\nmpc.run(mpc.transfer(1, senders=0))", m=3
    )
    party = switch.parties[1]
    party.writer.write(junk)
    party = await switch.ended(1)
    assert party.exit == 1 and party.failed["kind"] == "channel"


def test_the_last_word_waits_for_a_channel_process_that_still_writes(tmp_path):
    """Writing to an end that has closed fails, and asyncio then drops what was not read yet."""
    (tmp_path / "program.py").write_text("raise ValueError")
    config = {"pid": 0, "m": 1, "threshold": 0, "entry": "program.py", "arguments": [], "names": ["a"]}
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(encode_json(FrameType.CONFIG, config))
        command = [sys.executable, "-u", "-m", "didmpc.agent.program", str(theirs.fileno())]
        process = subprocess.Popen(
            command, cwd=tmp_path, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL
        )
        theirs.close()
        assert select.select([ours], [], [], 60)[0]
        time.sleep(0.3)  # long enough to end
        ours.sendall(encode(FrameType.GO))
        [failed] = Decoder().feed(ours.recv(4096))
        assert failed.type is FrameType.FAILED
        assert ours.recv(1) == b""
    assert process.wait(60) == 1


async def test_a_config_that_cannot_be_is_an_error_and_not_a_traceback(switch):
    await switch.start("print('on')", m=1, threshold=1)
    [party] = await switch.end()
    assert (party.exit, party.stdout) == (1, "")
    assert "threshold" in party.stderr and "Traceback" not in party.stderr
