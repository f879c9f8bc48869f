"""How envelopes leave: POST, and what redirects are followed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from didmpc.agent.mailbox import dialing
from didmpc.agent.mailbox.dialing import ALLOW_PRIVATE
from didmpc.agent.mailbox.transport import Transport, host_of
from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.messages.shorten_url import ShortLink

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(near="ws://127.0.0.1/ws")
    yield transport
    await transport.close()


@pytest.fixture
async def far(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transport]:
    """That of an agent whose mediator is somewhere on the internet."""
    monkeypatch.delenv(ALLOW_PRIVATE, raising=False)
    transport = Transport(near="wss://mediator.example/ws")
    yield transport
    await transport.close()


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


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_mail_does_not_lead_onto_our_own_machine(
    far: Transport, serve: Serve, scheme: str, host: str
) -> None:
    reached = []

    async def handler(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    uri = (await serve(handler)).replace("http", scheme).replace("127.0.0.1", host)
    with pytest.raises(DidmpcError, match="no public address"):
        await far.post(uri, b"{}")
    assert reached == []


async def test_nor_does_a_short_link(far: Transport, serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        raise AssertionError

    link = ShortLink.to(Invitation(from_=Identity.key().did), await serve(handler) + "?_oobid=abc")
    with pytest.raises(DidmpcError, match="no public address"):
        await far.invitation(str(link))


async def test_an_invitation_may_come_in_pieces(transport: Transport, serve: Serve) -> None:
    invitation = Invitation(from_=Identity.key().did)
    text = Invitation.to_url(invitation, "https://x/").partition("_oob=")[2]

    async def handler(request: web.Request) -> web.StreamResponse:
        content = unb64url(text)
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (content[:10], content[10:]):
            await response.write(piece)
            await asyncio.sleep(0.02)  # so that they do not travel as one
        return response

    link = ShortLink.to(invitation, await serve(handler) + "?_oobid=abc")
    assert (await transport.invitation(str(link))).from_ == invitation.from_


async def test_each_connection_is_checked_not_only_the_first(
    far: Transport, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a redirect or a name that resolves anew leads to is an address like any other."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": inside, "Connection": "close"})

    outside, inside = await serve(handler), await serve(handler)
    answers = iter([True, False])
    monkeypatch.setattr(dialing, "is_public", lambda address: next(answers))
    with pytest.raises(DidmpcError, match="no public address"):
        await far.post(outside, b"{}")


async def test_an_agent_whose_mediator_is_near_writes_to_its_neighbours(far: Transport, serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    far.near(("192.168.1.7", 8765))
    await far.post(await serve(handler), b"{}")


async def test_a_person_may_allow_private_addresses(
    far: Transport, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    monkeypatch.setenv(ALLOW_PRIVATE, "1")
    await far.post(await serve(handler), b"{}")
