"""What a panel shows, from events alone; and how it is drawn without disturbing what else is there."""

import asyncio
import os
import pty
from functools import reduce

import pytest

from didmpc.agent.channel.progress import Progress, host_of, interval
from didmpc.agent.cli import panel
from didmpc.agent.cli.live import RESTORE, SAVE, Area
from didmpc.agent.cli.streams import Output
from didmpc.agent.cli.text import width
from didmpc.agent.cli.writer import Writer

GATHERING = {
    "event": "gathering",
    "parties": [
        {"name": "Alice", "state": "here", "mediator": "mediator.example.org", "rtt_ms": None, "you": True},
        {"name": "Bob", "state": "joined", "mediator": "mediator.example.org", "rtt_ms": 31.2},
        {"name": "田中", "state": "deciding", "mediator": "other.example", "rtt_ms": 4, "away": True},
    ],
    "free": 1,
    "ready": False,
    "seconds_left": 540,
}
WAITING = {"event": "waiting", "for": ["田中"], "seconds_left": 540}
PROGRESS = {
    "event": "progress",
    "seconds": 4.0,
    "rounds": 1204,
    "messages": 2408,
    "bytes": 2_100_000,
    "crypto_us_per_message": 1.1,
    "envelopes": 0,
    "state": "waiting",
    "waiting": {"for": ["Bob"], "seconds": 3.2},
    "peers": [
        {
            "pid": 1,
            "name": "Bob",
            "path": "relay",
            "relay": "mediator.example.org",
            "presence": "connected",
            "rtt_ms": 31.0,
            "sent": 1_000_000,
            "received": 1_100_000,
            "records_sent": 9,
            "records_received": 9,
            "reconnects": 2,
            "silent": 0.1,
        },
        {
            "pid": 2,
            "name": "Carol",
            "path": "messages",
            "relay": "",
            "presence": "connected",
            "rtt_ms": None,
            "records_sent": 7,
            "records_received": 8,
            "reconnects": 0,
        },
    ],
}


def after(*events: dict, now: float = 0.0) -> panel.State:
    return reduce(lambda state, event: panel.take(state, event, now), events, None)


def texts(state: panel.State, now: float = 0.0, columns: int = 120) -> list[str]:
    return [text for text, _ in panel.lines(state, now, columns)]


def test_the_lobby_shows_who_is_there_through_which_mediator_how_far_and_how_long_still() -> None:
    shown = texts(after(GATHERING, WAITING), now=60)
    assert shown == [
        "  1   Alice (you)   ready   mediator.example.org",
        "  2   Bob           ready   mediator.example.org   31 ms",
        "  3   田中          away    other.example          4.0 ms",
        "  1 place free, for whoever comes by the link",
        "  Waiting for 田中 (8 min left)",
    ]


def test_a_run_shows_its_figures_each_path_and_who_is_waited_for_since_when() -> None:
    state = after({"event": "started"}, PROGRESS)
    assert texts(state, now=12.4) == [
        "  Running 12.0 s   round 1,204   2,408 messages   2.1 MB   1.1 us of cryptography per message",
        "  Bob     relay mediator.example.org   31 ms   1.0 MB sent, 1.1 MB received   reconnected 2x",
        "  Carol   ordinary messages            -       7 sent, 8 received",
        "  Waiting for Bob since 3.2 s",
    ]


def test_rates_are_those_of_the_last_seconds_and_nothing_is_said_of_the_end() -> None:
    pictures = [
        {**PROGRESS, "seconds": float(second), "rounds": 100 * second, "bytes": 5_000 * second}
        for second in range(1, 11)
    ]
    slower = {**PROGRESS, "seconds": 16.0, "rounds": 1_060, "bytes": 50_000}
    assert (
        "round 1,000 (100/s)   2,408 messages   50.0 kB (5.0 kB/s)"
        in texts(after({"event": "started"}, *pictures))[0]
    )
    assert (
        "round 1,060 (10/s)   2,408 messages   50.0 kB (0 bytes/s)"
        in texts(after({"event": "started"}, *pictures, slower))[0]
    )


def test_a_party_that_cannot_be_reached_is_shown_with_the_time_that_is_left() -> None:
    lost = {"event": "peer", "name": "Bob", "state": "unreachable", "seconds_left": 115.0}
    state = after({"event": "started"}, PROGRESS, lost)
    assert "unreachable for 0.1 s, 1 min 45 s left" in texts(state, now=10)[1]
    assert "unreachable" not in texts(panel.take(state, {**lost, "state": "back"}, 11), now=11)[1]


def test_a_panel_keeps_its_height_whatever_is_waited_for() -> None:
    state = after({"event": "started"}, PROGRESS)
    calm = panel.take(state, {**PROGRESS, "state": "computing", "waiting": {"for": [], "seconds": 0}}, 0)
    reading = panel.take(state, {**PROGRESS, "state": "reading", "waiting": {"for": [], "seconds": 0}}, 0)
    assert len(texts(state)) == len(texts(calm)) == len(texts(reading))
    assert "reads what you type" in texts(reading)[-1]


@pytest.mark.parametrize("columns", [1, 2, 10, 40, 79])
def test_no_line_fills_the_width_of_a_terminal(columns: int) -> None:
    for state in (after(GATHERING, WAITING), after({"event": "started"}, PROGRESS)):
        assert all(width(text) < max(columns, 2) for text in texts(state, columns=columns))


def test_names_of_others_cannot_steer_the_terminal_nor_fill_it() -> None:
    evil = {"name": "\x1b[2J" + "x" * 500, "state": "\x1b[31m", "mediator": "m\r\n"}
    shown = "".join(texts(after({**GATHERING, "parties": [evil] * 40}), columns=10_000))
    assert "\x1b" not in shown and "\n" not in shown and "x" * 30 not in shown
    assert "and 28 more" in shown


def test_the_panel_goes_when_all_have_come_and_when_the_run_has_ended() -> None:
    assert texts(after(GATHERING, {"event": "all-joined"})) == []
    assert texts(after({"event": "started"}, PROGRESS, {"event": "ended"})) == []
    assert texts(after({"event": "started"}, PROGRESS, WAITING)) != []


# --- drawing


def test_lines_are_drawn_in_place_and_the_cursor_with_what_is_typed_there_stays() -> None:
    area = Area(lambda text, style: text)
    assert area.draw([("a", ""), ("b", "")], 24) == "\ra\x1b[K\n\rb\x1b[K\n"
    assert area.draw([("a", ""), ("b", "")], 24) == ""
    assert (
        area.draw([("a", ""), ("c", "")], 24) == f"{SAVE}\x1b[2A\ra\x1b[K\x1b[1B\rc\x1b[K\x1b[1B\r{RESTORE}"
    )
    assert area.draw([("d", "")], 24) == "\r\x1b[2A\x1b[J\rd\x1b[K\n"
    assert area.erase(typed=1) == "\r\x1b[2A\x1b[J"
    assert area.erase() == ""


def test_a_small_terminal_gets_no_more_lines_than_it_has() -> None:
    area = Area(lambda text, style: text)
    assert area.draw([("a", ""), ("b", ""), ("c", "")], 4).count("\n") == 2
    assert area.draw([("a", "")], 2).count("\n") == 0


async def test_a_terminal_that_is_stopped_holds_up_nobody_who_writes_there() -> None:
    mine, theirs = pty.openpty()
    writer = Writer(theirs)
    for _ in range(64):
        writer.write("x" * 65_536)
    assert writer.busy
    writer.drain(0.01)
    os.close(mine)  # whoever does not read has gone
    await writer.flushed()
    assert not writer.busy
    os.close(theirs)


# --- what the channel process tells


def test_waiting_is_told_by_name_and_since_when_it_began() -> None:
    progress = Progress({0: "Alice", 1: "Bob", 2: "Carol"}, 0)
    stats = {"seconds": 1, "rounds": 2, "messages": 3, "bytes": 4, "crypto_us_per_message": 5, "envelopes": 6}
    progress.own_state({"state": "waiting", "for": {"2": 1, "7": 1}}, 10.25)
    assert progress.picture(stats, [], [], 13.0)["waiting"] == {"for": ["Carol"], "seconds": 3.0}
    progress.own_state({"state": "waiting", "for": {"2": 4}}, 12.0)
    assert progress.picture(stats, [], [], 13.0)["waiting"]["seconds"] == 3.0
    progress.own_state({"state": "computing"}, 14.0)
    assert progress.picture(stats, [], [], 15.0)["waiting"] == {"for": [], "seconds": 0.0}


def test_pictures_are_told_a_few_times_a_second_at_most() -> None:
    assert interval(0) == interval(-5) == 0.2
    assert interval(1e9) == 60
    assert host_of("wss://mediator.example.org:8443/relay") == "mediator.example.org"


async def test_what_is_said_while_output_is_on_its_way_to_the_terminal_begins_a_line() -> None:
    ours, theirs = pty.openpty()
    output = Output(theirs)
    writing = asyncio.create_task(output.write(b"Your salary: "))
    await asyncio.sleep(0)  # the terminal may have it by now
    assert not output.at_line_start
    await writing
    assert not output.at_line_start
    await output.write(b"3412\n")
    assert output.at_line_start
    for end in (ours, theirs):
        os.close(end)
