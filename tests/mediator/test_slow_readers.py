"""A peer that asks and does not read: it costs little, holds up nobody, and is let go in the end."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import uuid4

import aiohttp
import pytest
from mediator_parts import PATIENCE, SMALL, Client, Line, Process

from didmpc.mediator.app import running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import KIB
from didmpc.protocols.messages import pickup, trust_ping

BODY = b'{"x":"' + b"x" * 100_000 + b'"}'


def bodies(count: int) -> list[bytes]:
    return [BODY.replace(b'"x"', b'"%d"' % n, 1) for n in range(count)]


@pytest.fixture
async def narrow() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections whose receive buffer is small, so that what is not read stays with the sender."""

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = info
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
        return made

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=make)) as session:
        yield session


def stop_reading(line: Line) -> asyncio.Transport:
    connection = line.ws._response.connection
    assert connection is not None
    transport = cast("asyncio.Transport", connection.transport)  # uvloop's are of no such class
    transport.pause_reading()
    return transport


async def use(one: Client, other: Client, did: str, times: int) -> None:
    """Others go on: mail, live delivery and acknowledgements."""
    async with other.line() as line:
        await line.go_live()
        for _ in range(times):
            sent = b'{"n":"%s"}' % uuid4().hex.encode()
            assert await one.send(did, sent) == 202
            ((name, body),) = await line.pushed()
            assert body == sent
            await line.acknowledge(name)
            assert (await line.hear()).type == pickup.STATUS


async def test_it_is_let_go_although_it_still_sends_and_its_mail_waits_for_the_next_socket(
    tmp_path: Path, narrow: aiohttp.ClientSession, http: aiohttp.ClientSession
) -> None:
    limits = replace(SMALL, write_seconds=0.3, mailbox_messages=100, mailbox_bytes=1 << 30, live_messages=100)
    async with running(Home(tmp_path / "m"), port=0, limits=replace(limits, live_bytes=1 << 30)) as mediator:
        alice = await Client(narrow, mediator.did).enrol()
        bob, carol = [await Client(http, mediator.did).enrol() for _ in range(2)]
        did, of_carol = await alice.new_did(), await carol.new_did()
        async with alice.line() as line:
            await line.go_live()
            transport = stop_reading(line)
            for body in bodies(48):
                assert await bob.send(did, body) == 202
            async with asyncio.timeout(PATIENCE):
                while not transport.is_closing():
                    await line.tell(trust_ping.ping("", ""))
                    await use(bob, carol, of_carol, 1)
        async with alice.line() as line:
            assert (await line.go_live()).message_count == 48
            answer = await line.ask(pickup.delivery_request(1))
            ((_, first),) = pickup.parse_delivery(answer).messages
            assert first == bodies(1)[0]


async def test_one_that_has_died_without_a_word_loses_its_mail_to_the_next(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A push into a dead socket: nobody answers its pings, and nobody has closed it."""
    limits = replace(SMALL, heartbeat_seconds=0.4, lease_seconds=3600.0)
    async with running(Home(tmp_path / "m"), port=0, limits=limits) as mediator:
        alice, bob = [await Client(http, mediator.did).enrol() for _ in range(2)]
        did = await alice.new_did()
        async with alice.line() as dead:
            await dead.go_live()
            transport = stop_reading(dead)
            assert await bob.send(did, b'{"n":1}') == 202  # pushed there, and leased for an hour
            async with asyncio.timeout(PATIENCE):
                while not (mail := await alice.fetch()):
                    await asyncio.sleep(0.02)
            assert [body for _, body in mail] == [b'{"n":1}']
            transport.abort()


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks /proc for the memory of a process")
async def test_it_costs_bounded_memory_however_much_it_asks_for(
    tmp_path: Path, narrow: aiohttp.ClientSession, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path / "m").start("--port", "0")
    alice = await Client(narrow, process.ready["did"]).enrol()
    bob, carol = [await Client(http, process.ready["did"]).enrol() for _ in range(2)]
    did, of_carol = await alice.new_did(), await carol.new_did()
    for body in bodies(10):
        assert await bob.send(did, body) == 202
    await alice.fetch()  # what one answer takes is taken once
    await use(bob, carol, of_carol, 3)
    before = resident(process.pid)
    async with alice.line() as line:
        transport = stop_reading(line)
        for _ in range(40):
            await line.tell(pickup.delivery_request(10))  # a megabyte each
        await use(bob, carol, of_carol, 10)
        assert resident(process.pid) - before < 16 << 20
        status, _ = await process.stop(signal.SIGTERM)  # it waits for this one no longer than for others
        assert status == 0
        transport.abort()
