"""A mediator that is killed, stopped or slow: the run pauses, and nothing is lost or doubled."""

import asyncio
import signal
import time

from channel_parts import Mediator
from channel_programs import rounds


async def half_way(table) -> None:
    await table[0].until(lambda: "half way" in table[0].stdout)


async def test_killed_and_started_again_on_its_store_in_mid_run(gather, mediator: Mediator):
    program, result = rounds(120)
    table = await gather(program)
    await half_way(table)
    await mediator.kill()
    await asyncio.sleep(0.5)
    assert not any(seat.line("ended") for seat in table)
    await mediator.start()
    assert all(ended["ok"] for ended in await table.ended())
    assert [seat.stdout for seat in table] == [result] * 3


async def test_killed_while_large_messages_are_on_their_way(gather, mediator: Mediator):
    program = """
import hashlib
from mpyc.runtime import mpc

async def main():
    async with mpc:
        print("half way", flush=True)
        seen = hashlib.sha256()
        for i in range(6):
            for blob in await mpc.transfer(bytes([mpc.pid, i]) * 2_000_000):
                seen.update(blob)
        print(seen.hexdigest())

mpc.run(main())
"""
    table = await gather(program)
    await half_way(table)
    await asyncio.sleep(0.1)
    await mediator.kill()
    await mediator.start()
    assert all(ended["ok"] for ended in await table.ended())
    assert len({seat.stdout for seat in table}) == 1


async def test_stopped_for_two_seconds(gather, mediator: Mediator):
    program, result = rounds(120)
    table = await gather(program)
    await half_way(table)
    mediator.signal(signal.SIGSTOP)
    await asyncio.sleep(2)
    assert not any(seat.line("ended") for seat in table)
    mediator.signal(signal.SIGCONT)
    assert all(ended["ok"] for ended in await table.ended())
    assert [seat.stdout for seat in table] == [result] * 3
    assert not any(seat.event("peer", state="unreachable") for seat in table)


async def test_whom_no_path_leads_to_is_left_to_the_agent_to_tell(gather, mediator: Mediator):
    table = await gather(rounds(100_000)[0])
    await table.started()
    await mediator.kill()
    table[0].say(interrupt="Ctrl-C")
    ended = await table[0].ended()
    assert ended["cause"]["kind"] == "interrupted"
    assert table[0].line("untold") == {"pids": [1, 2]}


async def test_gone_for_good_ends_the_run_at_the_resume_limit(gather, mediator: Mediator):
    program, _ = rounds(100_000)
    table = await gather(program, resume_limit=6.0)
    await table.started()
    began = time.monotonic()
    await mediator.kill()
    await table[0].until(lambda: table[0].event("peer", state="unreachable"))
    for ended in await table.ended():
        assert ended["cause"]["kind"] == "unreachable" and ended["cause"]["party"]
        assert "mediator" in ended["cause"]["why"].lower()
    assert time.monotonic() - began > 4


async def test_a_party_that_was_suspended_is_not_thrown_out_by_its_own_clock(gather):
    """Its timers run late: it reads its sockets before it judges anyone."""
    program, result = rounds(120)
    table = await gather(program)
    await half_way(table)
    for pid in (table[1].process.pid, await table[1].program_pid()):
        table[1].pause(pid)
    await table[0].until(lambda: table[0].event("peer", state="unreachable", name="Bob"))
    table[1].resume()
    assert all(ended["ok"] for ended in await table.ended())
    assert [seat.stdout for seat in table] == [result] * 3
    assert table[0].event("peer", state="back", name="Bob")
    assert not table[1].event("peer", state="unreachable")
