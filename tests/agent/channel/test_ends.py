"""How runs end badly: by name, with the cause, at every party, within seconds."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from channel_parts import MANIFEST, Line, Table, alive
from channel_programs import one_party, rounds

from didmpc.agent.channel.causes import Cause
from didmpc.protocols.mpc import abort

LONG, _ = rounds(100_000)


async def computing(table: Table) -> None:
    await asyncio.gather(*(seat.until(lambda s=seat: s.stdout or s.event("started")) for seat in table))
    await asyncio.sleep(0.5)


def named(ended: Line) -> tuple[str | None, str]:
    assert not ended["ok"] and ended["exit"] != 0
    return ended["cause"]["party"], ended["cause"]["kind"]


async def test_a_killed_program_is_named(gather):
    table = await gather(LONG)
    await computing(table)
    os.kill(await table[1].program_pid(), signal.SIGKILL)
    alice, bob, carol = await table.ended()
    assert named(alice) == named(carol) == ("Bob", "killed") and named(bob) == (None, "killed")
    assert alice["cause"]["what"] == "Bob's program was killed."
    assert "SIGKILL" in alice["cause"]["why"]
    assert table[0].event("ended")["cause"]["party"] == "Bob"


async def test_the_programs_of_the_others_end_with_it(gather):
    table = await gather(LONG)
    await computing(table)
    programs = [await seat.program_pid() for seat in table]
    os.kill(programs[0], signal.SIGKILL)
    await table.ended()
    assert not any(alive(pid) for pid in programs)


async def test_of_an_exception_the_others_learn_the_type_and_its_owner_the_text(gather):
    table = await gather(one_party(2, "raise ValueError('my salary is 4711')"))
    alice, bob, carol = await table.ended()
    assert named(alice) == named(bob) == ("Carol", "raised") and named(carol) == (None, "raised")
    assert alice["cause"]["why"] == bob["cause"]["why"] == "ValueError."
    assert carol["cause"]["why"] == "ValueError: my salary is 4711"
    told = [str(seat.events) + str(seat.lines) + str(seat.output) for seat in (table[0], table[1])]
    assert not any("4711" in everything for everything in told)
    assert "4711" not in str(table[2].line("stopping")), "what the agent sends to parties without a session"
    assert b"ValueError: my salary is 4711" in table[2].output["stderr"]
    assert b"Traceback" not in table[0].output["stderr"]


async def test_an_exit_code_is_told(gather):
    table = await gather(one_party(0, "import os; os._exit(3)"))
    ends = await table.ended()
    assert named(ends[1]) == ("Alice", "failed") and "3" in ends[0]["cause"]["why"]
    assert "3" not in ends[1]["cause"]["why"], "a program may end with a number that it computed"


async def test_ctrl_c_ends_it_for_all_with_a_clear_word(gather):
    table = await gather(LONG)
    await computing(table)
    table[0].say(interrupt="Ctrl-C")
    alice, bob, carol = await table.ended()
    assert named(alice) == (None, "interrupted") and alice["exit"] == 130
    assert named(bob) == named(carol) == ("Alice", "interrupted") and bob["exit"] == 1


async def test_a_closed_terminal_ends_it_for_all(gather):
    table = await gather(LONG)
    await computing(table)
    table[2].ui.transport.abort()
    alice, bob, _carol = await table.ended()
    assert named(alice) == named(bob) == ("Carol", "closed")
    assert alice["cause"]["what"] == "Carol's didmpc run/join was closed or killed."


async def test_a_program_that_is_stopped_and_ignores_sigterm_is_ended_all_the_same(gather):
    stubborn = one_party(1, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    table = await gather(stubborn)
    await computing(table)
    program = await table[1].program_pid()
    table[0].say(interrupt="Ctrl-C")
    await table.ended()
    assert not alive(program)


async def test_what_the_program_started_ends_with_it(gather):
    child = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    table = await gather(one_party(1, child), sandbox="none")  # in a sandbox it could start nothing
    text = await table[1].until(lambda: table[1].stdout.count("\n") == 2 and table[1].stdout)
    started = int(text.split()[1])
    table[0].say(interrupt="Ctrl-C")
    await table.ended()
    assert not alive(started)


async def test_a_killed_channel_process_takes_its_program_along_and_is_missed(gather):
    table = await gather(LONG, resume_limit=7.0)
    await computing(table)
    program = await table[1].program_pid()
    began = time.monotonic()
    table[1].process.kill()
    await table[0].until(lambda: table[0].event("peer", state="unreachable", name="Bob"))
    assert time.monotonic() - began > 2, "silence is judged, not the loss of one connection"
    assert not alive(program)
    ends = await asyncio.gather(table[0].ended(), table[2].ended())
    assert named(ends[0]) == named(ends[1]) == ("Bob", "unreachable")


async def test_an_abort_that_came_by_mailbox_ends_it_by_that_partys_name(gather):
    table = await gather(LONG)
    await computing(table)
    table[1].process.kill()
    for seat in (table[0], table[2]):
        seat.tell(abort={"pid": 1, "cause": {"kind": "channel-died", "what": "x", "why": "killed"}})
    ends = await asyncio.gather(table[0].ended(), table[2].ended())
    assert named(ends[0]) == named(ends[1]) == ("Bob", "channel-died")


async def test_what_a_party_has_signed_counts_whoever_passes_it_on(gather):
    table = await gather(LONG)
    await computing(table)
    carols = Cause.ours("killed", "Carol", told="It was ended by signal 9 (SIGKILL).").body()
    carols |= {"pid": 2, "signature": abort.sign(table[2].identity, MANIFEST, 2, carols)}
    bobs = Cause.of_peer("killed", 2, "Carol").body() | {"signed": carols}
    table[0].tell(abort={"pid": 1, "cause": bobs})
    alice, bob, _ = await table.ended()
    assert named(alice) == named(bob) == ("Carol", "killed")
    assert alice["cause"]["what"] == bob["cause"]["what"] == "Carol's program was killed.", "and no hearsay"
    assert "SIGKILL" in bob["cause"]["why"]


async def test_the_daemon_can_end_the_run(gather):
    table = await gather(LONG)
    await computing(table)
    table[0].tell(abort={"pid": None, "cause": {"kind": "agent", "what": "The session was stopped."}})
    alice, bob, _ = await table.ended()
    assert alice["cause"]["what"] == "The session was stopped." and bob["cause"]["party"] == "Alice"
    assert table[0].line("stopping")["kind"] == "agent"


async def test_a_dead_daemon_ends_no_run(gather):
    program, result = rounds(150)
    table = await gather(program)
    await table.started()
    table[1].writer.transport.abort()
    await table[1].until(lambda: table[1].event("agent-lost"))
    ended = await table[1].until(lambda: table[1].event("ended"))
    assert ended["ok"] and table[1].stdout == result
    assert all(e["ok"] for e in await asyncio.gather(table[0].ended(), table[2].ended()))
    assert await table[1].process.wait() == 0


async def test_a_daemon_that_stops_it_is_obeyed(gather):
    table = await gather(LONG)
    await computing(table)
    table[0].process.terminate()
    ends = await table.ended()
    assert ends[1]["cause"]["party"] == "Alice" and named(ends[0])[1] == "stopped"


async def test_a_party_whose_program_left_early_is_not_waited_for_for_ever(gather):
    table = await gather(one_party(1, "import os; os._exit(0)"))
    alice, bob, carol = await table.ended()
    assert bob["ok"]
    assert named(alice)[0] == named(carol)[0] == "Bob"


async def test_a_party_that_never_has_a_link_delays_but_does_not_hang(seats, tmp_path: Path):
    from channel_parts import seat, session_line

    lonely = await seat(0, tmp_path / "Alice")
    seats.append(lonely)
    await lonely.attach()
    lonely.tell(session=session_line(0, tmp_path / "Alice", LONG, 3))
    await asyncio.sleep(0.5)
    lonely.writer.close()  # the daemon gives up, or dies
    ended = await lonely.until(lambda: lonely.event("ended"))
    assert ended["cause"]["what"].endswith("agent is gone.")
    assert await lonely.process.wait() == 0


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b'{"hello": 5}\n', b'{"unknown": {}}\n', b"{}\n"])
async def test_lines_that_no_daemon_sends_end_it_with_a_word(seats, tmp_path: Path, line: bytes):
    from channel_parts import seat

    party = await seat(0, tmp_path / "Alice")
    seats.append(party)
    await party.attach()
    party.writer.write(line)
    ended = await party.ended()
    assert not ended["ok"] and ended["cause"]["what"]
    assert await party.process.wait() == 0
