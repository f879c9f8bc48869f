"""What a program says of itself: whom it waits for, and whether anything but a message could wake it."""

import asyncio

PARTIES = """
import asyncio, signal, sys, threading, time
from mpyc.runtime import mpc

async def waits():
    await mpc.transfer(1, senders=7, receivers=mpc.pid)   # party 7 sends nothing

async def spins():
    mpc.coroutine(never)()
    await mpc.barrier()

async def never() -> None:
    await mpc.returnType(None)
    await waits()

async def chunks():
    while True:
        sum(range(100_000))
        await asyncio.sleep(0)

acts = [
    lambda: waits(),
    lambda: spins(),
    lambda: asyncio.gather(waits(), asyncio.sleep(60)),
    lambda: asyncio.gather(waits(), asyncio.to_thread(time.sleep, 60)),
    lambda: asyncio.gather(waits(), asyncio.to_thread(input)),
    lambda: asyncio.gather(waits(), chunks()),
    lambda: asyncio.gather(asyncio.to_thread(str), asyncio.wait_for(asyncio.sleep(0), 60), waits()),
]

async def main():
    await mpc.start()
    if mpc.pid == 7:
        input()
    await acts[mpc.pid]()

mpc.run(main())
"""


async def test_who_waits_for_messages_alone_says_so_and_who_may_wake_otherwise_says_how(switch):
    await switch.start(PARTIES, m=8, stdin=None)
    switch.go()

    def said(pid: int) -> dict[str, object]:
        states = switch.parties[pid].states
        return states[-1][1] if states else {}

    wanted = [[], [], ["timer"], ["thread"], ["stdin", "thread"], ["computation"], []]
    async with asyncio.timeout(240):
        while [said(pid).get("also") for pid in range(7)] != wanted or said(7) != {"state": "reading"}:
            await asyncio.sleep(0.05)
    for pid in range(7):
        assert said(pid)["for"] == {"7": 1}
    assert said(0)["at"] == ["program.py, line 6"]
    assert said(1)["at"] == ["program.py, line 10"]
    assert "at" not in said(2)


async def test_what_is_typed_is_read_as_ever(switch):
    program = """
import sys
sys.stdout.write(input("name? ") + "|" + sys.stdin.readline() + "|" + sys.stdin.read())
print(sys.stdin.buffer.read(), sys.stdin.fileno(), sys.stdin.isatty(), sys.stdin.encoding)
"""
    await switch.start(program, m=1, stdin="Zoë\nline\nrest\nof it".encode())
    [party] = await switch.go().end()
    assert party.stdout == "name? Zoë|line\n|rest\nof itb'' 0 False utf-8\n"


async def test_a_program_may_close_its_input(switch):
    await switch.start("import sys; sys.stdin.close(); print('on')", m=1, stdin=None)
    [party] = await switch.go().end()
    assert (party.exit, party.stdout) == (0, "on\n")
