"""How envelopes leave: POST, and what redirects are followed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from didmpc.agent.transport import Transport, host_of
from didmpc.protocols.errors import DidmpcError

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with aiohttp.ClientSession() as http:
        yield Transport(http)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def serve(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            server = TestServer(app)
            await server.start_server()
            stack.push_async_callback(server.close)
            return str(server.make_url("/"))

        yield serve


async def test_the_media_type_has_no_charset(transport: Transport, serve: Serve) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.headers["Content-Type"], await request.read()))
        return web.Response(status=202)

    await transport.post(await serve(handler), b"{}")
    assert seen == [("POST", "application/didcomm-encrypted+json", b"{}")]


async def test_307_is_followed_with_the_same_message(transport: Transport, serve: Serve) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.path, await request.read()))
        return web.Response(status=307, headers={"Location": "/b"}) if request.path == "/" else web.Response()

    await transport.post(await serve(handler), b"{}")
    assert seen == [("/", b"{}"), ("/b", b"{}")]


@pytest.mark.parametrize("status", [301, 302, 303, 308])
async def test_other_redirects_are_not(transport: Transport, serve: Serve, status: int) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=status, headers={"Location": "/b"})

    with pytest.raises(DidmpcError, match="refused"):
        await transport.post(await serve(handler), b"{}")
    assert seen == ["/"]


@pytest.mark.parametrize("location", ["/", "file:///etc/passwd", "ftp://example.org/", "ws://example.org/"])
async def test_redirects_end(transport: Transport, serve: Serve, location: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": location})

    with pytest.raises(DidmpcError, match="redirects"):
        await transport.post(await serve(handler), b"{}")


async def test_an_endless_answer_is_not_read(transport: Transport, serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=400)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            return response

    with pytest.raises(DidmpcError, match="refused") as caught:
        await transport.post(await serve(handler), b"{}")
    assert len(str(caught.value)) < 1000


async def test_words_of_a_server_cannot_move_the_cursor(transport: Transport, serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=400, text="no\x1b[2J\nno")

    with pytest.raises(DidmpcError) as caught:
        await transport.post(await serve(handler), b"{}")
    assert str(caught.value).isprintable()


async def test_a_server_that_says_when_is_waited_for(transport: Transport, serve: Serve) -> None:
    answers = [web.Response(status=429, headers={"Retry-After": "30"})]

    async def handler(request: web.Request) -> web.Response:
        return answers.pop()

    with pytest.raises(DidmpcError, match="cannot be reached"):
        await transport.post(await serve(handler), b"{}", timeout=1.0)
    assert answers == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/", "http://nowhere.invalid/", "https://127.0.0.1:1/"])
async def test_who_cannot_be_reached_is_named(transport: Transport, uri: str) -> None:
    with pytest.raises(DidmpcError) as caught:
        await transport.post(uri, b"{}", timeout=0.3)
    assert host_of(uri) in caught.value.what and caught.value.why


async def test_a_websocket_endpoint_gets_the_envelope_as_text(transport: Transport, serve: Serve) -> None:
    seen = []

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        seen.extend([frame.data async for frame in socket])
        return socket

    uri = (await serve(handler)).replace("http", "ws")
    await transport.post(uri, b'{"a":1}')
    assert seen == ['{"a":1}']
