"""Mode didcomm: the daemons carry each message; mailboxes keep no order and deliver twice."""

import asyncio
import random
from pathlib import Path

import pytest
from channel_parts import NAMES, Line, Seat, Table, seat, session_line
from channel_programs import SUM

from didmpc.agent.channel.didcomm import LARGEST_FRAME, FramePath
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.orders import Frame
from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.errors import SessionError


def pair(limits: Limits | None = None) -> tuple[FramePath, list[Line], list[tuple[int, int, bytes]]]:
    lines: list[Line] = []
    delivered: list[tuple[int, int, bytes]] = []
    path = FramePath(
        7,
        send_line=lines.append,
        deliver=lambda *record: delivered.append(record),
        limits=limits or Limits(),
    )
    return path, lines, delivered


def test_frames_are_delivered_in_order_whatever_order_they_come_in():
    path, _, delivered = pair()
    frames = [Frame(7, n, 1, b"%d" % n) for n in range(50)] * 2
    random.Random(1).shuffle(frames)
    for frame in frames:
        path.receive(frame)
    assert delivered == [(7, 1, b"%d" % n) for n in range(50)]
    assert path.received == 50


def test_nothing_is_delivered_past_a_gap():
    path, _, delivered = pair()
    path.receive(Frame(7, 1, 1, b"second"))
    assert delivered == []
    path.receive(Frame(7, 0, 1, b"first"))
    assert [data for *_, data in delivered] == [b"first", b"second"]


@pytest.mark.parametrize("limits", [Limits(reorder_frames=3), Limits(reorder_bytes=25)])
def test_what_waits_behind_a_gap_is_bounded(limits: Limits):
    path, _, delivered = pair(limits)
    with pytest.raises(SessionError):
        for n in range(1, 6):
            path.receive(Frame(7, n, 1, b"x" * 10))
    assert delivered == []
    path.receive(Frame(7, 0, 1, b"first"))  # the refused one changed nothing
    assert len(delivered) >= 3


def test_a_large_message_is_cut_for_the_mailboxes_and_an_end_is_an_empty_frame():
    path, lines, _ = pair()
    path.send(2, bytes(2 * LARGEST_FRAME + 1))
    path.send(2, b"")
    frames = [line["frame"] for line in lines]
    assert [frame["n"] for frame in frames] == [0, 1, 2, 3]
    assert [len(unb64url(frame["data"])) for frame in frames] == [LARGEST_FRAME, LARGEST_FRAME, 1, 0]


async def test_a_whole_run_over_mailboxes_that_shuffle_and_repeat(seats: list[Seat], tmp_path: Path):
    chance = random.Random(7)
    loop = asyncio.get_running_loop()

    def post(sender: Seat, frame: Line) -> None:
        receiver, line = table[frame["pid"]], {"frame": {**frame, "pid": sender.pid}}
        for _ in range(chance.choice((1, 1, 2))):
            loop.call_later(chance.uniform(0, 0.005), lambda: receiver.tell(**line))
        sender.tell(cost={"envelopes": 1, "seconds": 0.001})

    folders = [tmp_path / name for name in NAMES[:3]]
    seats.extend(await asyncio.gather(*(seat(pid, folder) for pid, folder in enumerate(folders))))
    table = Table(seats)
    for party in table:
        party.frames = post
        await party.attach()
        config = {"coalesce": False}
        folder = folders[party.pid]
        party.tell(session=session_line(party.pid, folder, SUM, 3, mode="didcomm", config=config))
    for party in table:
        for other in table:
            if other is not party:
                party.tell(link={"pid": other.pid, "didcomm": True})
    for party, ended in zip(table, await table.ended(), strict=True):
        assert ended["ok"] and party.stdout == "sum 18 max 7\n"
        stats = ended["stats"]
        assert stats["envelopes"] == sum(peer["frames_sent"] for peer in stats["per_peer"].values())
        assert stats["envelopes"] >= stats["messages"] > 0 and stats["packets"] == 0
        assert stats["crypto_us_per_message"] == pytest.approx(1000, rel=0.3)


async def test_a_lost_agent_ends_it_for_there_is_nobody_else_to_carry_messages(
    seats: list[Seat], tmp_path: Path
):
    party = await seat(0, tmp_path / "Alice")
    seats.append(party)
    await party.attach()
    party.tell(session=session_line(0, tmp_path / "Alice", SUM, 2, mode="didcomm"))
    party.tell(link={"pid": 1, "didcomm": True})
    await party.until(lambda: party.event("started"))
    party.writer.transport.abort()
    ended = await party.until(lambda: party.event("ended"))
    assert ended["cause"]["kind"] == "agent-lost"
