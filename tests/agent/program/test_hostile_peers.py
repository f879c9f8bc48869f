"""What a party can do to another's program: nothing but end the run, by name."""

import os
import pickle
import struct

import pytest

from didmpc.agent.program.wire import FrameType

TRANSFER = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
print(mpc.run(mpc.transfer(("hello", mpc.pid))))
mpc.run(mpc.shutdown())
"""


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def message(label, payload):
    return struct.pack("<qI", label, len(payload)) + payload


def change(receiver, sender, edit):
    """Change the first DATA frame that `receiver` gets from `sender`, a higher pid (no prelude)."""
    done = []

    def tamper(to, frame):
        if (to, frame.pid) != (receiver, sender) or frame.type is not FrameType.DATA or done:
            return [frame]
        done.append(frame)
        label, size = struct.unpack_from("<qI", frame.payload)
        rest = frame.payload[12 + size :]
        return [frame._replace(payload=edit(label, frame.payload[12 : 12 + size]) + rest)]

    return tamper


async def expect_named(switch, says, program=TRANSFER, sender=1, kind="peer", **config):
    await switch.start(program, **config)
    party = await switch.go().ended(0)
    assert party.exit == 1
    assert party.failed["kind"] == kind
    assert party.failed["pid"] == sender
    assert says in party.failed["what"] + party.failed["why"]
    return party


@pytest.mark.parametrize("sender", [1, 2])
async def test_a_pickle_runs_no_code_and_its_sender_is_named(switch, tmp_path, sender):
    mark = tmp_path / "exploited"
    switch.tamper = change(0, sender, lambda label, _: message(label, pickle.dumps(Exploit(mark))))
    await expect_named(switch, "pickle", sender=sender)
    assert not mark.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"V\x01",
        b"V\x01" + b"l\0\0\0\1" * 10_000 + b"N",
        b"V\x01m" + bytes(16) + b"N",
        b"V\x01l\xff\xff\xff\xff",
    ],
    ids=["empty", "cut off", "deep", "foreign type", "huge"],
)
async def test_a_value_that_cannot_be_read_names_its_sender(switch, payload):
    switch.tamper = change(0, 1, lambda label, _: message(label, payload))
    await expect_named(switch, "cannot be read")


@pytest.mark.parametrize("claimed", [1, 2, 3, 65535])
async def test_a_party_that_claims_another_pid_is_refused_by_its_link(switch, claimed):
    def tamper(to, frame):
        if (to, frame.pid, frame.type) == (2, 0, FrameType.DATA) and not seen:
            seen.append(frame)
            return [frame._replace(payload=claimed.to_bytes(2, "little") + frame.payload[2:])]
        return [frame]

    seen = []
    switch.tamper = tamper
    await switch.start(TRANSFER)
    party = await switch.go().ended(2)
    assert (party.exit, party.failed["kind"], party.failed["pid"]) == (1, "peer", 0)
    assert f"claimed to be party {claimed}" in party.stderr


async def test_a_prelude_that_stops_in_its_midst_ends_the_run_by_its_senders_name(switch):
    def tamper(to, frame):
        if (to, frame.pid, frame.type) != (2, 0, FrameType.DATA):
            return [frame]
        cut = [] if seen else [frame._replace(payload=frame.payload[:3])]
        seen.append(frame)
        return cut

    seen = []
    switch.tamper = tamper
    await switch.start(TRANSFER, prelude_silence=1)
    party = await switch.go().ended(2)
    assert (party.exit, party.failed["kind"], party.failed["pid"]) == (1, "peer", 0)
    assert "sent a part of its pid and PRSS keys, and then nothing for 1 s" in party.failed["what"]


async def test_a_party_that_starts_late_is_waited_for(switch):
    late = "import time\nif mpc.pid == 0: time.sleep(2)\nmpc.run(mpc.start())"
    await switch.start(TRANSFER.replace("mpc.run(mpc.start())", late), prelude_silence=1)
    assert [party.exit for party in await switch.go().end()] == [0, 0, 0]


async def test_messages_that_nobody_asks_for_are_kept_only_up_to_a_count(switch):
    def flood(label, payload):
        return b"".join(message(n, b"") for n in range(1000)) + message(label, payload)

    switch.tamper = change(0, 1, flood)
    await expect_named(switch, "nobody asked for", limits={"messages": 500})


async def test_messages_that_nobody_asks_for_are_kept_only_up_to_a_size(switch):
    def flood(label, payload):
        return b"".join(message(n, bytes(10_000)) for n in range(30)) + message(label, payload)

    switch.tamper = change(0, 1, flood)
    await expect_named(switch, "nobody asked for", limits={"octets": 100_000})


async def test_unasked_messages_below_the_limits_do_no_harm(switch):
    def flood(label, payload):
        return b"".join(message(n, b"x") for n in range(400)) + message(label, payload)

    switch.tamper = change(0, 1, flood)
    await switch.start(TRANSFER, limits={"messages": 500})
    assert [party.exit for party in await switch.go().end()] == [0, 0, 0]


async def test_a_message_announced_beyond_all_bounds_is_refused_before_it_comes(switch):
    switch.tamper = change(0, 1, lambda label, _: struct.pack("<qI", label, 0xFFFFFFFF))
    await expect_named(switch, "announced a message of 4,294,967,295 bytes")


async def test_a_second_message_under_one_label_does_not_replace_the_first(switch):
    switch.tamper = change(
        0, 1, lambda label, payload: message(77, b"a") + message(77, b"b") + message(label, payload)
    )
    await expect_named(switch, "two messages under one label")


async def test_what_comes_before_our_start_is_bounded_too(switch):
    program = TRANSFER.replace(
        "mpc.run(mpc.start())", "import asyncio; mpc.run(asyncio.sleep(3)); mpc.run(mpc.start())"
    )
    await switch.start(program, limits={"octets": 50_000})
    from didmpc.agent.program.wire import Frame

    for _ in range(100):
        switch.send(0, Frame(FrameType.DATA, 1, 1, bytes(1000)))
    party = await switch.ended(0)
    assert (party.failed["kind"], party.failed["pid"]) == ("peer", 1)
    assert "before our program started" in party.failed["what"]


async def test_empty_frames_before_our_start_are_bounded_too(switch):
    program = TRANSFER.replace(
        "mpc.run(mpc.start())", "import asyncio; mpc.run(asyncio.sleep(3)); mpc.run(mpc.start())"
    )
    await switch.start(program, limits={"octets": 50_000})
    from didmpc.agent.program.wire import Frame

    for start in range(2000):
        switch.send(0, Frame(FrameType.END, 1, start + 1, b""))
    party = await switch.ended(0)
    assert (party.failed["kind"], party.failed["pid"]) == ("peer", 1)


async def test_what_comes_after_the_end_of_a_generation_is_dropped(switch):
    def tamper(to, frame):
        late = frame._replace(type=FrameType.DATA, payload=b"\xff" * 40)
        return [frame, late] if frame.type is FrameType.END else [frame]

    switch.tamper = tamper
    await switch.start(TRANSFER)
    assert [party.exit for party in await switch.go().end()] == [0, 0, 0]


async def test_an_end_before_its_time_is_a_failure_of_that_party(switch):
    switch.tamper = lambda to, frame: (
        [frame._replace(type=FrameType.END, payload=b"")] if (to, frame.pid) == (0, 1) else [frame]
    )
    await expect_named(switch, "ended its part", kind="left")


def test_all_peers_together_cannot_make_us_keep_more_than_our_memory_holds():
    from didmpc.agent.program.config import Limits

    gib = 1024**3
    for memory in (4 * gib, 12 * gib, 64 * gib):
        for peers in (1, 2, 12, 24):
            octets = Limits.among(peers, memory).octets
            assert 2 * peers * octets <= memory / 2  # kept for later, and in part
            assert octets <= Limits().octets
    assert Limits.among(2, 4 * gib) == Limits()
