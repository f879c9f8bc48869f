"""Programs that are not in step, which plain MPyC leaves to wait for each other, in silence and for ever.

Tried with MPyC 0.11 by its own network (`python program.py -M3`): one operation more in one program, and all
three stand still without a word (more of them: tests/e2e/test_failure_table.py).
"""

import asyncio

from channel_parts import NAMES

OUT_OF_STEP = """
import asyncio, time
from mpyc.runtime import mpc

async def main():
    secint = mpc.SecInt(32)
    await mpc.start()
    x = mpc.input(secint(mpc.pid))
    {act}
    print("sum", await mpc.output(mpc.sum(x)), flush=True)
    await mpc.shutdown()

mpc.run(main())
"""


async def test_one_operation_more_is_a_deadlock_that_everyone_is_told_of(gather):
    program = OUT_OF_STEP.format(act="if mpc.pid == 2: await mpc.transfer(5)")
    table = await gather(program, deadlock_grace=2.0)
    for ended in await table.ended():
        cause = ended["cause"]
        assert cause["kind"] == "deadlock" and "Suspected deadlock" in cause["what"]
        assert "Do the programs do the same operations" in cause["why"]
        assert [name for name in NAMES[:3] if f"{name}'s program waits for" not in cause["why"]] == [], cause
        assert "All others wait for Carol's program: it may be the one that differs." in cause["why"]
    for seat in table:
        suspected = seat.event("deadlock")
        assert suspected and suspected["seconds_left"] == 2.0, "said before it ends the run"
    assert "Yours waits in program.py, line 9." in table[2].event("ended")["cause"]["why"]
    assert "Yours waits in program.py, line 11." in table[0].event("ended")["cause"]["why"]


NOT_STUCK = """
import asyncio, sys, time
from mpyc.runtime import mpc

async def main():
    await mpc.start()
    print("begun", flush=True)
    if mpc.pid == 0:
        await mpc.transfer(0, senders=1)
        await asyncio.sleep(4)
    if mpc.pid == 1:
        print("typed", input(), flush=True)
        await mpc.transfer(1, senders=1)
    if mpc.pid == 2:
        await mpc.transfer(2, senders=1)
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 4)
    if mpc.pid == 3:
        await mpc.transfer(3, senders=1)
        time.sleep(4)
    await mpc.transfer(mpc.pid)
    await mpc.shutdown()

mpc.run(main())
"""


async def test_who_types_sleeps_computes_or_has_an_executor_is_in_no_deadlock(gather):
    table = await gather(NOT_STUCK, m=4, deadlock_grace=2.0)
    bob = table[1]
    alice = table[0]

    def bob_reads() -> bool:
        shown = [party for event in alice.events if event["event"] == "states" for party in event["parties"]]
        return any((party["name"], party["state"]) == ("Bob", "reading") for party in shown)

    await alice.until(bob_reads)
    await asyncio.sleep(3)  # longer than a deadlock may last
    bob.say(**{"in": "NDcxMQo="})
    for ended in await table.ended():
        assert ended["ok"], ended["cause"]
    assert bob.stdout == "begun\ntyped 4711\n"
    assert not any(seat.event("deadlock") for seat in table)
