"""Sessions between contacts, by the public API: real agents, real mediators, programs that are killed."""

import asyncio
import hashlib
import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.api import (
    Agent,
    DidmpcError,
    LocalMisuse,
    Session,
    SessionAborted,
    SessionLimits,
    SessionLost,
    SessionRefused,
)
from didmpc.bench.cluster import Cluster

ROOT = Path(__file__).parents[2]
ECHO = "https://example.org/echo/1.0"
SMALL = SessionLimits(unsent=2**20, unread=2**20)
WITHIN = 180.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Alice and Bob, contacts at two mediators."""
    with Cluster(tmp_path_factory.mktemp("pair"), names=("Alice", "Bob")) as started:
        yield started.start()


@pytest.fixture
async def agents(pair: Cluster) -> AsyncIterator[tuple[Agent, Agent]]:
    alice, bob = pair.parties
    async with Agent.connect(alice.home) as here, Agent.connect(bob.home) as there:
        yield here, there


async def meet(
    alice: Agent, bob: Agent, wire: str = "auto", limits: SessionLimits | None = None
) -> tuple[Session, Session]:
    async with asyncio.timeout(WITHIN), bob.sessions(ECHO, limits=limits) as listener:
        theirs = asyncio.create_task(anext(listener))
        ours = await alice.open("Bob", protocol=ECHO, wire=wire, limits=limits)
        return ours, await theirs


async def together(*work) -> None:
    async with asyncio.timeout(WITHIN):
        await asyncio.gather(*work)


@pytest.mark.parametrize("wire", ["binary", "json"])
async def test_messages_arrive_whole_in_order_and_both_ways(agents, wire):
    ours, theirs = await meet(*agents, wire)
    seeded = random.Random(1)
    messages = [b"", b"x", *(seeded.randbytes(size) for size in (1000, 262_127, 262_128, 700_000)), b"end"]

    async def echo():
        async with theirs:
            async for message in theirs:
                await theirs.send(message)

    async def say():
        async with ours:
            for message in messages:
                await ours.send(message)
            await ours.end()
            assert [message async for message in ours] == messages

    await together(echo(), say())
    assert (ours.contact, theirs.contact) == ("Bob", "Alice")
    assert ours.id == theirs.id
    assert (ours.role, theirs.role) == ("initiator", "responder")
    assert ours.export("https://example.org/x") == theirs.export("https://example.org/x")
    assert ours.stats.messages_sent == ours.stats.messages_received == len(messages)
    assert ours.stats.wire == wire
    assert ours.stats.unacknowledged_bytes == 0
    assert ours.did == next(iter(await agents[0].contacts())).did
    with pytest.raises(LocalMisuse):
        await ours.send(b"late")


async def test_a_slow_reader_holds_up_the_sender_and_holds_little(agents):
    ours, theirs = await meet(*agents, limits=SMALL)
    total, message = 0, bytes(200_000)

    async def send_for_ever():
        nonlocal total
        while True:
            await ours.send(message)
            total += len(message)

    sending = asyncio.create_task(send_for_ever())
    async with asyncio.timeout(WITHIN):  # nobody reads: what is on its way comes to rest
        before = -1
        while total != before or theirs.stats.bytes_received < 800_000:
            before = total
            await asyncio.sleep(0.3)
    assert theirs.stats.bytes_received <= SMALL.unread
    assert total <= SMALL.unread + SMALL.unsent
    for _ in range(20):  # and goes on as it is read
        assert await theirs.receive() == message
    async with asyncio.timeout(WITHIN):
        while total <= before:
            await asyncio.sleep(0.05)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await together(ours.abort("enough"), theirs.abort())


async def test_a_send_that_is_cancelled_has_sent_all_or_nothing(agents):
    ours, theirs = await meet(*agents, limits=SMALL)
    sending = asyncio.create_task(ours.send(bytes(4_000_000)))
    async with asyncio.timeout(WITHIN):
        while not theirs.stats.bytes_received:
            await asyncio.sleep(0.01)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    async def finish():
        await ours.send(b"after")
        await ours.close()

    async def read():
        assert [message async for message in theirs] == [b"after"]
        await theirs.close()

    await together(finish(), read())


async def test_what_is_too_long_is_not_sent(agents):
    ours, theirs = await meet(*agents, limits=SessionLimits(message=1000))
    with pytest.raises(LocalMisuse, match="1,000 bytes"):
        await ours.send(bytes(1001))
    await together(ours.close(), theirs.close())


async def test_a_message_beyond_the_readers_limit_ends_the_session_for_both(agents):
    async with agents[1].sessions(ECHO, limits=SessionLimits(message=1000)) as listener:
        accepted = asyncio.create_task(anext(listener))
        ours = await agents[0].open("Bob", protocol=ECHO)
        theirs = await accepted
    await ours.send(bytes(1001))
    async with asyncio.timeout(WITHIN):
        with pytest.raises(SessionLost, match="longer than the limit"):
            await theirs.receive()
        with pytest.raises(SessionAborted, match="longer than the limit"):
            await ours.receive()
    await together(ours.abort(), theirs.abort())


async def test_a_program_that_fails_aborts_for_its_peer(agents):
    ours, theirs = await meet(*agents)
    with pytest.raises(ZeroDivisionError):
        async with ours:
            await ours.send(b"part of it")
            assert await theirs.receive() == b"part of it"
            raise ZeroDivisionError
    async with asyncio.timeout(WITHIN):
        with pytest.raises(SessionAborted, match="Alice's program aborted"):
            await theirs.receive()
    with pytest.raises(SessionAborted):
        await theirs.close()


async def test_who_closes_without_reading_says_so(agents):
    ours, theirs = await meet(*agents)
    await ours.send(b"never read")
    async with asyncio.timeout(WITHIN):
        while not theirs.stats.bytes_received:
            await asyncio.sleep(0.01)
        await theirs.close()
        with pytest.raises(SessionAborted, match="closed the session before it had read everything"):
            await ours.receive()
            await ours.close()


async def test_both_sides_open_at_once(agents):
    alice, bob = agents
    async with asyncio.timeout(WITHIN), alice.sessions(ECHO), bob.sessions(ECHO):
        ours, theirs = await asyncio.gather(
            alice.open("Bob", protocol=ECHO), bob.open("Alice", protocol=ECHO)
        )
        assert ours.id == theirs.id
        assert {ours.role, theirs.role} == {"initiator", "responder"}
    await together(ours.close(), theirs.close())


async def test_who_does_not_take_the_session_is_named_with_a_reason(agents):
    alice, bob = agents
    with pytest.raises(LocalMisuse, match="no contact called 'Mallory'"):
        await alice.open("Mallory", protocol=ECHO)
    with pytest.raises(LocalMisuse, match="URI"):
        await alice.open("Bob", protocol="echo")
    with pytest.raises(SessionRefused, match="Bob takes no sessions now") as refused:
        await alice.open("Bob", protocol=ECHO)
    assert refused.value.code == "unavailable"
    async with bob.sessions("https://example.org/other/1.0"):
        with pytest.raises(SessionRefused, match="Bob declined") as refused:
            await alice.open("Bob", protocol=ECHO)
        assert refused.value.code == "policy"
        assert "start the program" in refused.value.fix


async def test_keys_are_renewed_in_mid_session(agents):
    ours, theirs = await meet(*agents)
    ours.renew()
    with pytest.raises(LocalMisuse):
        theirs.renew()
    count = 0

    async def exchange():
        nonlocal count
        while ours.stats.sessions < 2 or theirs.stats.sessions < 2:
            count += 1
            await ours.send(b"%d" % count)
            assert await theirs.receive() == b"%d" % count
        await asyncio.gather(ours.close(), theirs.close())

    await together(exchange())


async def test_streams_and_transports_above_a_session(agents):
    ours, theirs = await meet(*agents)
    done = asyncio.get_running_loop().create_future()

    class Shout(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            assert transport.get_extra_info("peername")[0] == "Alice"

        def data_received(self, data):
            self.transport.write(data.upper())

        def connection_lost(self, error):
            done.set_result(error)

    await theirs.transport(Shout)
    reader, writer = await ours.streams()
    text = b"hello\n" * 200_000

    async def write():
        for offset in range(0, len(text), 100_000):
            writer.write(text[offset : offset + 100_000])
            await writer.drain()
        writer.write_eof()

    async def read():
        assert await reader.read(-1) == text.upper()

    await together(write(), read())
    writer.close()
    await together(writer.wait_closed(), done)
    assert done.result() is None


SENDER = """
import asyncio, sys
from didmpc.agent.api import Agent

async def main():
    async with Agent.connect(sys.argv[1]) as agent:
        async with agent.session("Bob", protocol=sys.argv[2], wire=sys.argv[3]) as session:
            await session.send(b'{"name": "big.bin", "size": 1000000}')
            await session.send(bytes(1000))
            while session.stats.unacknowledged_bytes:
                await asyncio.sleep(0.01)
            print("half", flush=True)
            await asyncio.sleep(600)

asyncio.run(main())
"""


def run(*arguments: str | Path, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        text=True,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def ends(process: subprocess.Popen[str]) -> tuple[str, str]:
    return await asyncio.to_thread(process.communicate, timeout=WITHIN)


async def test_a_sender_that_is_killed_leaves_an_error_and_no_part_of_a_file(pair, tmp_path):
    alice, bob = pair.parties
    example = ROOT / "examples" / "file_transfer.py"

    async def transfer(wire: str) -> None:
        into = tmp_path / wire
        into.mkdir()
        receiver = run(example, "--home", bob.home, "receive", "--into", into)
        sender = None
        try:
            assert await asyncio.to_thread(receiver.stdout.readline) == "waiting\n"
            file_protocol = "https://w3id.org/didmpc/examples/file/1.0"
            sender = run("-c", SENDER, alice.home, file_protocol, wire)
            assert await asyncio.to_thread(sender.stdout.readline) == "half\n"
            sender.send_signal(signal.SIGKILL)
            _, said = await ends(receiver)
            assert receiver.returncode == 1
            assert "The session with Alice is lost" in said
            assert not list(into.iterdir())
        finally:
            for process in filter(None, (sender, receiver)):
                process.kill()
                process.communicate()

    await transfer("binary")


async def test_the_examples_send_a_file_and_chat(pair, tmp_path):
    alice, bob = pair.parties
    example, chat = ROOT / "examples" / "file_transfer.py", ROOT / "examples" / "chat.py"
    source, into = tmp_path / "notes.bin", tmp_path / "in"
    into.mkdir()
    source.write_bytes(random.Random(2).randbytes(3_000_000))
    processes = [run(example, "--home", bob.home, "receive", "--into", into)]
    try:
        assert await asyncio.to_thread(processes[0].stdout.readline) == "waiting\n"
        processes.append(run(example, "--home", alice.home, "send", source, "--to", "Bob"))
        (received, _), (sent, shown) = await asyncio.gather(*map(ends, processes))
        assert sent == "Bob has notes.bin\n", shown
        assert received == f"{into / 'notes.bin'}\n"
        assert (into / "notes.bin").read_bytes() == source.read_bytes()

        talkers = [
            run(chat, "--home", party.home, name, stdin=subprocess.PIPE)
            for party, name in ((alice, "Bob"), (bob, "Alice"))
        ]
        processes += talkers
        for talker, name in zip(talkers, ("Bob", "Alice"), strict=True):
            while (line := await asyncio.to_thread(talker.stdout.readline)) != f"{name} is here\n":
                assert line == f"waiting for {name}\n"
        talkers[0].stdin.write("hello Bob\n")
        talkers[0].stdin.flush()
        assert await asyncio.to_thread(talkers[1].stdout.readline) == "Alice: hello Bob\n"
        talkers[1].stdin.write("hello Alice\n")
        talkers[1].stdin.close()
        talkers[1].stdin = None
        for said in ("Bob: hello Alice\n", "Bob has left\n"):
            assert await asyncio.to_thread(talkers[0].stdout.readline) == said
        await asyncio.gather(*map(ends, talkers))
        assert [talker.returncode for talker in talkers] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_an_agent_that_is_killed_ends_the_sessions_through_its_mailbox_only(pair, agents):
    alice, _ = pair.parties
    bound, bounds_peer = await meet(*agents, "json")
    free, frees_peer = await meet(*agents, "binary")
    alice.daemon.send(signal.SIGKILL)
    alice.daemon.wait()

    async def go_on():
        await free.send(b"still here")
        assert await frees_peer.receive() == b"still here"
        await asyncio.gather(free.close(), frees_peer.close())
        with pytest.raises(SessionLost, match="agent of this program was stopped"):
            await bound.receive()
        await asyncio.gather(bound.abort(), bounds_peer.abort())

    try:
        await together(go_on())
    finally:
        alice.start_daemon()
        await asyncio.to_thread(alice.ready)


def snippet(name: str) -> dict[str, Any]:
    """What the block of this name in docs/session-api.md defines."""
    page = ROOT / "docs" / "session-api.md"
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert found, name
    defined: dict[str, Any] = {}
    exec(compile(found[1], f"{page.name} ({name})", "exec"), defined)
    return defined


async def test_the_programs_of_the_documentation_talk_to_each_other(pair, agents):
    alice, bob = pair.parties
    bobs = asyncio.create_task(snippet("bob")["take_sessions"](bob.home))
    page = snippet("alice")
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                assert await page["ask"]("hello", alice.home) == "HELLO"
                break
            except page["SessionRefused"]:
                await asyncio.sleep(0.1)  # Bob's program has just begun
        session = await agents[0].open("Bob", protocol=page["PROTOCOL"])
        assert await snippet("streams")["ask_by_stream"](session, "by stream") == "BY STREAM"
    bobs.cancel()
    await asyncio.gather(bobs, return_exceptions=True)
    assert snippet("limits")["limits"].message == 64 * 2**20


@pytest.mark.parametrize(
    "killed",
    [pytest.param(0, id="initiators", marks=pytest.mark.soak), pytest.param(1, id="responders")],
)
async def test_a_mediator_that_is_killed_in_mid_transfer_costs_no_byte(pair, agents, killed):
    ours, theirs = await meet(*agents)
    content = random.Random(3).randbytes(20_000_000)
    pieces = [content[at : at + 250_000] for at in range(0, len(content), 250_000)]
    old, gone = pair.mediators[killed], asyncio.Event()

    async def send():
        async with ours:
            for number, piece in enumerate(pieces):
                if number == len(pieces) // 2:
                    old.process.send(signal.SIGKILL)
                    old.process.wait()
                    gone.set()
                await ours.send(piece)

    async def bring_back():
        await gone.wait()
        port = int(re.search(r":(\d+)", old.url.partition("//")[2])[1])
        new = pair.start_mediator("back", port=port, home=old.home)
        pair.mediators[killed] = pair.mediators.pop()
        await asyncio.to_thread(new.ready)

    async def receive():
        digest = hashlib.sha256()
        async with theirs:
            async for piece in theirs:
                digest.update(piece)
        assert digest.digest() == hashlib.sha256(content).digest()

    await together(send(), receive(), bring_back())


async def test_without_a_running_agent_the_next_command_is_named(tmp_path):
    with pytest.raises(DidmpcError, match="didmpc agent start"):
        async with Agent.connect(tmp_path):
            pass
