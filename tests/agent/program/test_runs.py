"""What a program finds, and what the channel process hears, in an ordinary run."""

import asyncio
import hashlib
import json
from itertools import pairwise

import pytest

from didmpc.agent.program.wire import PIECE, FrameType

SUM = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
secint = mpc.SecInt()
print(mpc.run(mpc.output(mpc.sum(mpc.input(secint(mpc.pid + 1))))))
mpc.run(mpc.shutdown())
"""


async def test_a_program_sees_its_own_arguments_and_nothing_of_mpycs_command_line(switch):
    program = """
import json, sys, os
from mpyc.runtime import mpc
print(json.dumps([sys.argv, mpc.pid, len(mpc.parties), mpc.threshold, mpc.options.sec_param,
                  sys.path[0] == os.getcwd(), mpc.options.mix32_64bit, __name__,
                  [name for name in os.environ if name.startswith("MPYC_MIX")]]))
"""
    arguments = ["--thr", "0", "--config", "x.json", "-f", "y", "--out", "z"]
    await switch.start(program, arguments, options={"sec_param": 40})
    for pid, party in enumerate(await switch.go().end()):
        assert json.loads(party.stdout) == [
            ["program.py", *arguments], pid, 3, 1, 40, True, True, "__main__", [],
        ]  # fmt: skip


async def test_program_counters_do_not_depend_on_the_platform(switch):
    await switch.start(
        "from mpyc import asyncoro, runtime; print(asyncoro._hop([1, 2]), runtime.pickle.__name__)"
    )
    for party in await switch.go().end():
        label = int.from_bytes(hashlib.sha1(b"[1, 2]").digest()[:8], "little", signed=True)
        assert party.stdout == f"{label} didmpc.agent.program.codec\n"


async def test_sibling_modules_and_data_are_found_in_the_working_directory(switch):
    (switch.directory / "helper.py").write_text("def double(x): return 2 * x")
    (switch.directory / "data").mkdir()
    (switch.directory / "data" / "n").write_text("21")
    await switch.start("import helper; print(helper.double(int(open('data/n').read())))", m=1)
    assert [party.stdout for party in await switch.go().end()] == ["42\n"]


async def test_a_program_reads_its_input_and_writes_its_output(switch):
    program = """
import sys
from mpyc.runtime import mpc
async def main():
    salary = int(input("Your salary: "))
    async with mpc:
        print(await mpc.output(mpc.sum(mpc.input(mpc.SecInt()(salary)))))
        print("aside", file=sys.stderr)
mpc.run(main())
"""
    await switch.start(program, stdin=b"1000\n")
    for party in await switch.go().end():
        assert party.stdout == "Your salary: 3000\n"
        assert party.stderr == "aside\n"


async def test_no_party_opens_a_network_connection(switch):
    program = """
import sys
touched = []
watched = "socket.bind socket.connect socket.getaddrinfo subprocess.Popen os.posix_spawn os.fork".split()
sys.addaudithook(lambda event, args: touched.append(event) if event in watched else None)
from mpyc.runtime import mpc
mpc.run(mpc.start())
print(mpc.run(mpc.transfer(mpc.pid)))
mpc.run(mpc.shutdown())
print(touched)
"""
    await switch.start(program)
    for party in await switch.go().end():
        assert party.stdout == "[0, 1, 2]\n[]\n"


@pytest.mark.parametrize(("level", "shown"), [("warning", False), ("info", True)])
async def test_mpycs_log_goes_to_stderr_at_the_level_that_was_asked_for(switch, level, shown):
    await switch.start(SUM, log_level=level)
    for party in await switch.go().end():
        assert party.stdout == "6\n"
        assert ("Start MPyC runtime" in party.stderr) is shown


async def test_nothing_is_sent_before_the_links_are_up(switch):
    await switch.start(SUM)
    await asyncio.sleep(1.0)
    assert all(party.sent == [] and party.exit is None for party in switch.parties)
    assert all(party.states == [] for party in switch.parties), "nobody can be waited for yet"
    assert [party.stdout for party in await switch.go().end()] == ["6\n"] * 3


async def test_a_second_start_is_a_new_generation_with_its_own_prelude_and_end(switch):
    program = """
from mpyc.runtime import mpc
async def main():
    for turn in range(3):
        async with mpc:
            print(await mpc.transfer((turn, mpc.pid)))
mpc.run(main())
"""
    await switch.start(program)
    for party in await switch.go().end():
        assert party.stdout == "".join(f"{[(turn, pid) for pid in range(3)]}\n" for turn in range(3))
        assert {frame.start for frame in party.sent} == {1, 2, 3}
        for start in (1, 2, 3):
            ends = [frame.pid for frame in party.sent if frame.start == start and frame.type is FrameType.END]
            assert ends == list(range(party.pid + 1, 3))  # as in MPyC, the lower pid closes
            prelude = next((f for f in party.sent if f.start == start and f.pid > party.pid), None)
            assert prelude is None or prelude.payload[:2] == party.pid.to_bytes(2, "little")


async def test_a_party_that_is_late_gets_what_the_others_sent_before(switch):
    program = """
import time
from mpyc.runtime import mpc
time.sleep(1.0 if mpc.pid == 1 else 0)
mpc.run(mpc.start())
print(mpc.run(mpc.transfer(mpc.pid)))
mpc.run(mpc.shutdown())
"""
    await switch.start(program)
    assert {party.stdout for party in await switch.go().end()} == {"[0, 1, 2]\n"}


@pytest.mark.parametrize("m", [1, 2, 4, 5])
async def test_any_number_of_parties(switch, m):
    await switch.start(SUM, m=m)
    assert {party.stdout for party in await switch.go().end()} == {f"{m * (m + 1) // 2}\n"}


@pytest.mark.parametrize(
    "options", [{"no_prss": True}, {"no_barrier": True}, {"bit_length": 64, "sec_param": 50}]
)
async def test_mpycs_own_options_are_as_agreed(switch, options):
    await switch.start(SUM, options=options)
    assert {party.stdout for party in await switch.go().end()} == {"6\n"}


VALUES = """
from mpyc.runtime import mpc
from mpyc.fingroups import EllipticCurve
import numpy as np
group = EllipticCurve("Ed25519", "extended")
field = mpc.SecFld(101).field
value = [None, True, 3.5, "text", b"bytes", (1, [2]), {"a": {1}}, field(7), group.generator ^ (mpc.pid + 1),
         np.arange(6).reshape(2, 3), field.array([[1, 2], [3, 4]])]
async def main():
    async with mpc:
        got = await mpc.transfer(value)
        for pid, each in enumerate(got):
            assert each[8] == group.generator ^ (pid + 1)
            assert each[:8] == value[:8] and (each[9] == value[9]).all() and np.all(each[10] == value[10])
        a = mpc.SecInt().array(np.arange(9).reshape(3, 3))
        print((await mpc.output(a @ a))[2].tolist())
mpc.run(main())
"""


async def test_all_that_programs_transfer_arrives_without_pickle(switch):
    await switch.start(VALUES)
    for party in await switch.go().end():
        assert (party.stdout, party.stderr) == ("[69, 90, 111]\n", "")
        assert party.stats["unpickled"] == 0


async def test_unpickling_by_the_program_itself_is_counted(switch):
    await switch.start("import pickle, fractions; pickle.loads(pickle.dumps(fractions.Fraction(1, 2)))", m=1)
    [party] = await switch.go().end()
    assert party.stats["unpickled"] > 0


BULK = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
blob = bytes([mpc.pid]) * 3_000_000
assert mpc.run(mpc.transfer(blob)) == [bytes([pid]) * 3_000_000 for pid in range(3)]
mpc.run(mpc.shutdown())
print("done")
"""


async def test_large_messages_pass_in_pieces_of_a_record(switch):
    await switch.start(BULK)
    for party in await switch.go().end():
        assert party.stdout == "done\n"
        assert max(len(frame.payload) for frame in party.sent) == PIECE


async def test_without_coalescing_one_frame_is_one_message_of_mpyc(switch):
    await switch.start(BULK, coalesce=False)
    for party in await switch.go().end():
        data = [frame.payload for frame in party.sent if frame.type is FrameType.DATA]
        preludes = 2 - party.pid
        assert len(data) == party.stats["messages"] + preludes
        assert max(map(len, data)) > 3_000_000
        whole = [payload for payload in data if len(payload) == 12 + int.from_bytes(payload[8:12], "little")]
        assert len(whole) == party.stats["messages"]


async def test_coalescing_joins_what_one_tick_sends_to_a_party(switch):
    program = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
x = [mpc.SecInt()(i) for i in range(200)]
y = [a * a for a in x]
print(mpc.run(mpc.output(mpc.sum(y))))
mpc.run(mpc.shutdown())
"""
    await switch.start(program)
    for party in await switch.go().end():
        assert party.stdout == f"{sum(i * i for i in range(200))}\n"
        frames = [frame for frame in party.sent if frame.type is FrameType.DATA]
        assert party.stats["messages"] > 250 > 25 > len(frames)


async def test_what_was_sent_leaves_before_the_program_turns_to_something_else(switch):
    program = """
import asyncio, os, time
from mpyc.runtime import mpc
mpc.run(mpc.start())
if mpc.pid == 0:
    async def two_messages():
        mpc.parties[1].protocol.send(1, b"leads")
        mpc.parties[1].protocol.send(2, b"waits for the end of the tick, and the loop ends first")
    mpc.run(two_messages())
    until = time.monotonic() + 60
    while not os.path.exists("got") and time.monotonic() < until:
        time.sleep(0.02)
    print(os.path.exists("got"))
elif mpc.pid == 1:
    message = mpc.parties[0].protocol.receive(2)
    if not isinstance(message, bytes):
        mpc.run(asyncio.wait_for(message, 50))
    open("got", "w").close()
mpc.run(mpc.shutdown())
"""
    await switch.start(program)
    assert [party.stdout for party in await switch.go().end()] == ["True\n", "", ""]


async def test_waiting_is_said_with_for_whom_and_taken_back_when_data_comes(switch):
    program = """
import time
from mpyc.runtime import mpc
mpc.run(mpc.start())
if mpc.pid == 2:
    time.sleep(3)  # computes, or reads its input: nothing here can tell
mpc.run(mpc.transfer(1))
end = time.monotonic() + 1.0
while time.monotonic() < end:
    pass
mpc.run(mpc.shutdown())
"""
    await switch.start(program)
    parties = await switch.go().end()
    for party in parties[:2]:
        states = [state for _, state in party.states]
        waits = [state.get("for") for state in states]
        waiting = waits.index({"2": 1})  # before that, perhaps for a slow start
        assert {"state": "computing"} in states[waiting:]
        assert all(before != after for before, after in pairwise(states))


async def test_the_exit_code_is_the_programs_own(switch):
    await switch.start("import sys; from mpyc.runtime import mpc; sys.exit([0, 3, 'no'][mpc.pid])")
    parties = await switch.go().end()
    assert [party.exit for party in parties] == [0, 3, 1]
    assert parties[2].stderr == "no\n"
    assert all(party.failed is None and party.stats is not None for party in parties)


async def test_a_program_that_never_shuts_down_still_ends_well(switch):
    await switch.start(SUM.replace("mpc.run(mpc.shutdown())", ""))
    parties = await switch.go().end()
    assert [(party.stdout, party.exit) for party in parties] == [("6\n", 0)] * 3
    assert {frame.pid for frame in parties[0].sent if frame.type is FrameType.END} == {1, 2}


async def test_what_the_program_starts_does_not_hold_the_channel(switch):
    program = """
import subprocess
subprocess.Popen(["sleep", "60"], stdin=-3, stdout=-3, stderr=-3, close_fds=False)
"""
    await switch.start(program, m=1)
    await asyncio.wait_for(switch.go().end(), 50)
