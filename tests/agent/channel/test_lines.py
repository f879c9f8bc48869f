"""Lines of JSON, the user interface's socket and the program's pipes."""

import asyncio
import base64
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from didmpc.agent.channel.bridge import Bridge
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.lines import Lines
from didmpc.agent.channel.pipes import InputPipe
from didmpc.agent.channel.ui import UserInterface
from didmpc.agent.program.wire import Decoder, FrameType
from didmpc.local import unix_socket


def reader(limit: int = 100) -> tuple[Lines, list[dict], list[str]]:
    lines: list[dict] = []
    ends: list[str] = []
    return Lines(lines.append, ends.append, limit=limit), lines, ends


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_lines_are_whole_in_whatever_pieces_they_come(step: int):
    conversation, lines, ends = reader()
    stream = b'{"a":1}\n{"b":"\xc3\xa4"}\n{"c":{}}\n'
    for start in range(0, len(stream), step):
        conversation.data_received(stream[start : start + step])
    assert lines == [{"a": 1}, {"b": "ä"}, {"c": {}}] and ends == []


@pytest.mark.parametrize(
    "stream",
    [
        b"[1]\n",
        b"nonsense\n",
        b"\n",
        b'{"a":"' + b"x" * 99,
        b'{"a":"' + b"x" * 99 + b'"}\n',
        b'{"a":"\xff"}\n',
        b'{"":' * 20 + b"\n",
    ],
)
def test_what_is_no_line_ends_the_conversation_once(stream: bytes):
    conversation, lines, ends = reader()
    conversation.data_received(stream)
    conversation.connection_lost(None)
    assert lines == [] and len(ends) == 1 and ends[0]


def test_a_plain_end_has_no_reason():
    conversation, _, ends = reader()
    conversation.eof_received()
    conversation.connection_lost(None)
    assert ends == [""]


class Person:
    """A user interface, and what it said."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.said: list[object] = []
        self.ui = UserInterface(
            on_input=self.said.append,
            on_input_end=lambda: self.said.append("end"),
            on_interrupt=self.said.append,
            on_gone=lambda: self.said.append("gone"),
            on_room=lambda: self.said.append("room"),
            on_progress=self.said.append,
            limits=limits or Limits(),
        )


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def attach(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = unix_socket.connect(path)
    connection.setblocking(False)
    return await asyncio.open_connection(sock=connection)


async def test_output_before_anybody_attached_is_kept_and_bounded(tmp_path: Path):
    person = Person(Limits(ui_output=1000))
    await person.ui.listen(tmp_path / "ui.sock")
    assert (tmp_path / "ui.sock").stat().st_mode & 0o777 == 0o600
    person.ui.output("stdout", b"early")
    assert not person.ui.full
    person.ui.output("stderr", b"x" * 1000)
    assert person.ui.full
    stream, writer = await attach(tmp_path / "ui.sock")
    assert json.loads(await stream.readline()) == {
        "out": "stdout",
        "data": base64.b64encode(b"early").decode(),
    }
    assert "room" in person.said and not person.ui.full
    writer.close()


async def test_only_one_may_attach(tmp_path: Path):
    person = Person()
    await person.ui.listen(tmp_path / "ui.sock")
    first, first_writer = await attach(tmp_path / "ui.sock")
    await asyncio.sleep(0.05)
    second, second_writer = await attach(tmp_path / "ui.sock")
    assert await second.read() == b""
    person.ui.tell("started")
    assert json.loads(await first.readline()) == {"event": "started"}
    first_writer.close()
    second_writer.close()


async def test_what_a_person_does_is_heard_and_nonsense_is_not(tmp_path: Path):
    person = Person()
    await person.ui.listen(tmp_path / "ui.sock")
    _, writer = await attach(tmp_path / "ui.sock")
    said = [{"in": "aGk="}, {"in": "%%%"}, {"in": 5}, {"what": 1}, {"in_eof": True}, {"interrupt": "Ctrl-C"}]
    writer.write(b"".join(json.dumps(line).encode() + b"\n" for line in said))
    await until(lambda: "Ctrl-C" in person.said)
    writer.close()
    await until(lambda: "gone" in person.said)
    assert [item for item in person.said if item != "room"] == [b"hi", "end", "Ctrl-C", "gone"]


async def test_the_end_is_told_and_going_away_after_it_is_no_fault(tmp_path: Path):
    person = Person()
    await person.ui.listen(tmp_path / "ui.sock")
    stream, writer = await attach(tmp_path / "ui.sock")
    person.ui.tell("started")
    assert json.loads(await stream.readline()) == {"event": "started"}
    ending = asyncio.create_task(person.ui.end({"ok": True}, 60))
    assert json.loads(await stream.readline()) == {"event": "ended", "ok": True}
    assert await stream.read() == b""
    writer.close()
    assert await ending
    assert "gone" not in person.said and not (tmp_path / "ui.sock").exists()


async def test_typed_input_is_bounded(tmp_path: Path):
    overflowed: list[bool] = []
    pipe = InputPipe(1000, lambda: overflowed.append(True))
    pipe.write(b"x" * 1000)
    assert not overflowed
    pipe.write(b"x")
    assert overflowed


async def test_input_may_come_and_end_before_the_program_is_there():
    read, write = os.pipe()
    pipe = InputPipe(1000, lambda: None)
    pipe.write(b"hello")
    pipe.end()
    await pipe.connect(os.fdopen(write, "wb", 0))
    assert [await asyncio.to_thread(os.read, read, 100) for _ in range(2)] == [b"hello", b""]
    os.close(read)


async def test_a_program_that_does_not_read_its_input_harms_nothing(tmp_path: Path):
    path = tmp_path / "input"
    path.write_bytes(b"x" * 1_000_000)
    read, write = os.pipe()
    pipe = InputPipe(1000, lambda: None)
    pipe.take_from(path)
    await pipe.connect(os.fdopen(write, "wb", 0))
    os.close(read)
    await asyncio.sleep(0.05)
    pipe.write(b"too late")
    pipe.end()


async def test_a_peers_data_that_is_faster_than_the_programs_start_is_kept_and_comes_after_config():
    ours, theirs = socket.socketpair()
    bridge = Bridge(lambda frames: None, lambda what: None)
    bridge.data(1, 1, b"early")
    bridge.flush()
    await bridge.connect(ours)
    bridge.flush()
    bridge.config({"pid": 0})
    bridge.go()
    decoder, frames = Decoder(), []
    while len(frames) < 3:
        frames += decoder.feed(await asyncio.to_thread(theirs.recv, 1000))
    assert [frame.type for frame in frames] == [FrameType.CONFIG, FrameType.DATA, FrameType.GO]
    bridge.abort()
    theirs.close()
