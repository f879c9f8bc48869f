"""From a request to a WebSocket: what is refused, and that nothing is lost on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from mediator_parts import PATIENCE, SMALL

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.sockets.frames import CLOSE, PING, PONG, close_payload, head, unmask

ASKS = {
    "Host": "a",
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",  # of RFC 6455, section 1.3, as is its answer
}
ANSWER = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.fixture
async def mediator(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(Home(tmp_path / "m"), port=0, limits=SMALL) as started:
        yield started


@asynccontextmanager
async def raw(mediator: Running) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(mediator.settings.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.close()


def request(**other: str) -> bytes:
    headers = ASKS | {name.replace("_", "-"): value for name, value in other.items()}
    return "".join(["GET /ws HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in headers.items()), "\r\n"]).encode()


def masked(opcode: int, payload: bytes) -> bytes:
    first, *rest = head(opcode, len(payload))
    body = bytearray(payload)
    unmask(b"mask", body)
    return bytes((first, rest[0] | 0x80, *rest[1:])) + b"mask" + bytes(body)


async def test_what_comes_with_the_request_is_read_and_a_goodbye_is_answered(mediator: Running) -> None:
    async with raw(mediator) as (reader, writer):
        writer.write(request() + masked(PING, b"early"))
        said = await reader.readuntil(b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 101") and ANSWER in said
        assert await reader.readexactly(7) == head(PONG, 5) + b"early"
        writer.write(masked(CLOSE, close_payload(1000, "bye")) + masked(PING, b"after it nothing counts"))
        assert await reader.read() == head(CLOSE, 2) + (1000).to_bytes(2, "big")


UNSOUND = (
    {"Connection": "keep-alive"},
    {"Upgrade": "h2c"},
    {"Sec_WebSocket_Version": "8"},
    {"Sec_WebSocket_Key": "short"},
    {"Sec_WebSocket_Key": "!" * 24},
)


async def test_a_request_that_is_no_sound_one_is_refused(
    mediator: Running, http: aiohttp.ClientSession
) -> None:
    for other in UNSOUND:
        async with raw(mediator) as (reader, writer):
            writer.write(request(**other))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400"), other
    async with http.get(f"{mediator.settings.url}/ws") as answer:  # a browser
        assert answer.status == 400 and "WebSocket" in await answer.text()
