"""The WebSocket data path: what RFC 6455 asks of a client, whatever pieces the bytes come in."""

import asyncio
import os
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from didmpc.agent.channel.paths import websocket
from didmpc.agent.channel.paths.websocket import BINARY, PING, TEXT, WebSocket, WebSocketError, masked_frame


class Wire(asyncio.Transport):
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def get_write_buffer_size(self) -> int:
        return 0


def opened(limit: int = 1 << 20) -> tuple[WebSocket, Wire, list[bytes], list[int]]:
    messages: list[bytes] = []
    reads: list[int] = []
    socket = WebSocket(
        on_message=messages.append,
        on_read=lambda: reads.append(len(messages)),
        on_writable=lambda: None,
        on_lost=lambda reason: None,
        frame_limit=limit,
        buffer_limit=limit,
    )
    socket._transport = wire = Wire()
    return socket, wire, messages, reads


def server_frame(payload: bytes, opcode: int = BINARY, final: bool = True) -> bytes:
    size = len(payload)
    head = bytes((0x80 * final | opcode,))
    if size < 126:
        return head + bytes((size,)) + payload
    if size < 65536:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload


def unmask(frame: bytes) -> tuple[int, bytes]:
    size, start = frame[1] & 0x7F, 2
    assert frame[1] & 0x80, "a client's frames are masked"
    if size == 126:
        size, start = int.from_bytes(frame[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(frame[2:10], "big"), 10
    key, data = frame[start : start + 4], frame[start + 4 :]
    assert len(data) == size
    return frame[0] & 0x0F, bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 127, 65535, 65536, 262144])
def test_a_frame_is_masked_and_says_its_length(size: int):
    payload = os.urandom(size)
    assert unmask(masked_frame(payload)) == (BINARY, payload)


def test_masks_are_fresh():
    assert len({masked_frame(b"same") for _ in range(50)}) == 50


def test_the_mask_without_the_compiled_one_is_the_same(monkeypatch: pytest.MonkeyPatch):
    def slow(mask: bytes, data: bytearray) -> None:
        data[:] = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))

    payload = os.urandom(1001)
    monkeypatch.setattr(websocket, "_mask", slow)
    assert unmask(masked_frame(payload)) == (BINARY, payload)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1000, 1 << 20])
def test_messages_are_whole_in_whatever_pieces_they_come(step: int):
    socket, _, messages, _ = opened()
    sent = [b"", b"a", os.urandom(125), os.urandom(126), os.urandom(3000), b"{}"]
    stream = b"".join(map(server_frame, sent))
    for start in range(0, len(stream), step):
        socket.data_received(stream[start : start + step])
    assert messages == sent


def test_a_large_frame_in_many_reads():
    socket, _, messages, reads = opened()
    payload = os.urandom(300_000)
    stream = server_frame(payload) + server_frame(b"next")
    for start in range(0, len(stream), 65536):
        socket.data_received(stream[start : start + 65536])
    assert messages == [payload, b"next"]
    assert reads == [0, 2]  # one pass over what one read completed


def test_fragments_are_joined_with_a_ping_in_between():
    socket, wire, messages, _ = opened()
    socket.data_received(
        server_frame(b"one ", TEXT, final=False)
        + server_frame(b"hello", PING)
        + server_frame(b"two", websocket.CONTINUATION)
    )
    assert messages == [b"one two"]
    assert unmask(wire.written) == (websocket.PONG, b"hello")


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(masked_frame(b"masked"), id="masked"),
        pytest.param(b"\xc2\x01x", id="reserved bit"),
        pytest.param(server_frame(b"x", websocket.CONTINUATION), id="continuation of nothing"),
        pytest.param(server_frame(b"x", final=False) + server_frame(b"y"), id="interleaved messages"),
        pytest.param(server_frame(b"x", 0x3), id="unknown opcode"),
        pytest.param(server_frame(b"x" * 126, PING), id="long control frame"),
        pytest.param(server_frame(b"x", PING, final=False), id="fragmented control frame"),
        pytest.param(b"\x82\x7f" + (1 << 40).to_bytes(8, "big"), id="larger than the limit"),
        pytest.param(server_frame(b"x" * 600_000, final=False) * 2, id="fragments beyond the limit"),
        pytest.param(server_frame(b"", websocket.CLOSE), id="goodbye"),
    ],
)
def test_what_breaks_the_rules_closes_the_socket(stream: bytes):
    socket, wire, messages, _ = opened()
    socket.data_received(stream)
    assert wire.closing and not socket.writable and messages == []
    opcode, _ = unmask(wire.written)
    assert opcode == websocket.CLOSE


async def test_it_talks_to_a_real_server_and_notices_its_end(aiohttp_server):
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data)
            if message.data == b"stop":
                await socket.close()
        return socket

    application = web.Application()
    application.router.add_get("/ws", echo)
    server = await aiohttp_server(application)
    got: asyncio.Queue[bytes] = asyncio.Queue()
    lost = asyncio.get_running_loop().create_future()
    socket = WebSocket(
        on_message=got.put_nowait,
        on_read=lambda: None,
        on_writable=lambda: None,
        on_lost=lost.set_result,
        frame_limit=1 << 20,
        buffer_limit=1 << 20,
    )
    async with aiohttp.ClientSession() as http:
        await socket.dial(http, str(server.make_url("/ws")), 60)
        for payload in (b"small", os.urandom(300_000), b"stop"):
            socket.write([masked_frame(payload)])
            assert await asyncio.wait_for(got.get(), 60) == payload
        await asyncio.wait_for(lost, 60)


@pytest.mark.parametrize("status", [200, 302, 404, 101])
async def test_what_is_no_websocket_is_refused(aiohttp_server, status: int):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "/elsewhere", "Sec-WebSocket-Accept": "x"})

    application = web.Application()
    application.router.add_get("/ws", answer)
    server = await aiohttp_server(application)
    socket, *_ = opened()
    async with aiohttp.ClientSession() as http:
        with pytest.raises((WebSocketError, aiohttp.ClientError)):
            await socket.dial(http, str(server.make_url("/ws")), 5)
