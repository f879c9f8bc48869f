"""Envelopes that leave: they arrive, are tried again, survive a crash, and flood nobody."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from didmpc.mediator.limits import Limits, Rate
from didmpc.mediator.mail.outgoing import Outgoing, host_of
from didmpc.mediator.refusals import Refusal, TooBig, TooMuchOutgoing
from didmpc.mediator.resolving.dialing import Dialer
from didmpc.mediator.store import Parcel, Store
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.addresses import is_public
from didmpc.protocols.errors import DidError

LIMITS = Limits(outgoing_retry_seconds=0.01)
PATIENCE = 60.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def parcel(uri: str, body: bytes = b'{"a":1}') -> Parcel:
    return Parcel(uri, host_of(uri), body, b"digest of " + uri.encode() + body)


class Other:
    """Another server: what it was sent, and how it answers."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.headers: list[Any] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        self.answer: dict[str, str] = {}
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        if request.headers.get("Upgrade", "").lower() == "websocket" and not self.statuses:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for frame in socket:
                assert frame.type is WSMsgType.TEXT
                self.got.append(frame.data.encode())
            return socket
        body = await request.read()
        status = self.statuses.pop(0) if self.statuses else 202
        if status == 202:
            self.got.append(body)
            self.headers.append(request.headers)
        return web.Response(status=status, headers=self.answer)

    async def has(self, count: int) -> list[bytes]:
        """Wait until so many envelopes have come."""
        async with asyncio.timeout(PATIENCE):
            while len(self.got) < count:
                await asyncio.sleep(0.005)
        return self.got


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


NewServer = Callable[..., Awaitable[Other]]


@pytest.fixture
def serve(stack: AsyncExitStack) -> NewServer:
    async def serve(handler: Handler | None = None, port: int | None = None) -> Other:
        other = Other()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler or other.handle)
        server = TestServer(app, port=port)
        await server.start_server()
        stack.push_async_callback(server.close)
        other.url = str(server.make_url("/"))
        return other

    return serve


@pytest.fixture
async def other(serve: NewServer) -> Other:
    return await serve()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def silent_port(stack: AsyncExitStack) -> int:
    """One that nobody else gets, and where nobody listens until somebody does on purpose."""
    held = stack.enter_context(socket.socket())
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return int(held.getsockname()[1])


New = Callable[..., Awaitable[Outgoing]]


@pytest.fixture
def new(folder: Path, stack: AsyncExitStack) -> New:
    async def new(
        allows: Callable[[str], bool] = lambda _: True, *, runs: bool = True, **limits: Any
    ) -> Outgoing:
        store = SqliteStore(folder, replace(LIMITS, **limits))
        dialer = Dialer(allows)
        outgoing = Outgoing(store, dialer.http, replace(LIMITS, **limits))
        stack.push_async_callback(store.close)
        stack.push_async_callback(dialer.close)
        if runs:
            task = asyncio.create_task(outgoing.run())
            stack.push_async_callback(asyncio.gather, task, return_exceptions=True)
            stack.callback(task.cancel)
        return outgoing

    return new


async def put(outgoing: Outgoing, *parcels: Parcel, due: float = 0.0, lasts: float = 3600.0) -> None:
    now = time.time()
    await outgoing.put(parcels, due=now + due, expires=now + lasts)


def store_of(outgoing: Outgoing) -> Store:
    return outgoing._store


async def waiting(outgoing: Outgoing) -> int:
    return await store_of(outgoing).outgoing()


async def is_empty(outgoing: Outgoing, *, but: int = 0) -> None:
    """Wait until nothing is on its way, or so many."""
    async with asyncio.timeout(PATIENCE):
        while await waiting(outgoing) != but:
            await asyncio.sleep(0.005)


async def test_an_envelope_arrives_as_it_is(new: New, other: Other) -> None:
    outgoing = await new()
    await put(outgoing, parcel(other.url, b'{"a": "\xc3\xa4" }'))
    assert await other.has(1) == [b'{"a": "\xc3\xa4" }']
    assert other.headers[0]["Content-Type"] == "application/didcomm-encrypted+json"
    await is_empty(outgoing)
    assert outgoing.traffic.sent == 1


async def test_on_a_websocket_it_goes_as_text(new: New, other: Other) -> None:
    outgoing = await new()
    await put(outgoing, parcel(other.url.replace("http", "ws") + "ws"))
    assert await other.has(1) == [b'{"a":1}']
    await is_empty(outgoing)


async def test_many_arrive_oldest_first_where_one_goes_after_the_other(new: New, other: Other) -> None:
    outgoing = await new(outgoing_at_once_per_host=1)
    bodies = [b'{"n":%d}' % number for number in range(20)]
    for body in bodies:
        await put(outgoing, parcel(other.url, body))
    assert await other.has(20) == bodies


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 507])
async def test_a_server_that_cannot_now_is_asked_again(new: New, other: Other, status: int) -> None:
    other.statuses = [status, status]
    outgoing = await new()
    await put(outgoing, parcel(other.url))
    await other.has(1)
    assert len(other.paths) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 308, 400, 403, 404, 413])
async def test_a_server_that_refuses_is_not(new: New, other: Other, status: int) -> None:
    other.statuses, other.answer = [status], {"Location": "/b"}
    outgoing = await new()
    await put(outgoing, parcel(other.url))
    await is_empty(outgoing)
    assert other.paths == ["/"] and outgoing.traffic.refused == 1


async def test_a_server_that_says_when_is_asked_then(new: New, other: Other) -> None:
    other.statuses, other.answer = [429], {"Retry-After": "3600"}
    outgoing = await new()
    await put(outgoing, parcel(other.url))
    async with asyncio.timeout(PATIENCE):
        while (due := await store_of(outgoing).next_outgoing(time.time())) is None:
            await asyncio.sleep(0.005)
    assert due > time.time() + 3000


async def test_307_is_followed_with_the_same_envelope(new: New, serve: NewServer, other: Other) -> None:
    first = await serve()
    first.statuses, first.answer = [307], {"Location": f"{other.url}b"}
    await put(await new(), parcel(first.url))
    assert await other.has(1) == [b'{"a":1}'] and other.paths == ["/b"]


@pytest.mark.parametrize("location", ["/", "file:///etc/passwd", "ws://x/", "http://u:p@x/", "http://[", ""])
async def test_redirects_end(new: New, other: Other, location: str) -> None:
    other.statuses, other.answer = [307] * 10, {"Location": location}
    outgoing = await new()
    await put(outgoing, parcel(other.url))
    await is_empty(outgoing)
    assert 1 <= len(other.paths) <= 4 and not other.got


async def test_a_redirected_websocket_is_not_followed(new: New, serve: NewServer, other: Other) -> None:
    first = await serve()
    first.statuses, first.answer = [307], {"Location": other.url}
    outgoing = await new()
    await put(outgoing, parcel(first.url.replace("http", "ws")))
    await is_empty(outgoing)
    assert first.paths == ["/"] and not other.paths


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_not_connected_to(new: New, other: Other, scheme: str, host: str) -> None:
    outgoing = await new(is_public)
    await put(outgoing, parcel(other.url.replace("http", scheme).replace("127.0.0.1", host)))
    await is_empty(outgoing)
    assert not other.paths


async def test_a_redirect_is_checked_like_the_first_address(new: New, serve: NewServer, other: Other) -> None:
    first = await serve()
    first.statuses, first.answer = [307], {"Location": other.url, "Connection": "close"}
    answers = iter([True, False])
    outgoing = await new(lambda _: next(answers))
    await put(outgoing, parcel(first.url))
    await is_empty(outgoing)
    assert first.paths == ["/"] and not other.paths


async def test_a_server_that_comes_back_gets_what_waited(
    new: New, serve: NewServer, silent_port: int
) -> None:
    port = silent_port
    outgoing = await new()
    for number in range(3):
        await put(outgoing, parcel(f"http://127.0.0.1:{port}/", b'{"n":%d}' % number))
    async with asyncio.timeout(PATIENCE):
        while outgoing.traffic.retried < 3:
            await asyncio.sleep(0.005)
    other = await serve(port=port)
    assert sorted(await other.has(3)) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


async def test_a_host_that_is_down_is_not_hammered_and_holds_up_nobody(
    new: New, other: Other, silent_port: int
) -> None:
    dead = f"http://127.0.0.1:{silent_port}/"
    outgoing = await new(outgoing_retry_seconds=600.0, outgoing_at_once=4)
    for number in range(50):
        await put(outgoing, parcel(dead, b'{"n":%d}' % number))
    await put(outgoing, parcel(other.url))
    await other.has(1)
    # What was being tried when it turned out, and not one more.
    await is_empty(outgoing, but=50)
    assert outgoing.traffic.retried <= LIMITS.outgoing_at_once_per_host


async def test_a_host_that_never_answers_holds_up_nobody(new: New, serve: NewServer, other: Other) -> None:
    ended = asyncio.Event()
    reached: list[str] = []

    async def silent(request: web.Request) -> web.Response:
        reached.append(request.path)
        await ended.wait()
        return web.Response()

    slow = await serve(silent)
    outgoing = await new(outgoing_at_once=8)
    for number in range(20):
        await put(outgoing, parcel(slow.url, b'{"n":%d}' % number))
    async with asyncio.timeout(PATIENCE):
        while len(reached) < LIMITS.outgoing_at_once_per_host:
            await asyncio.sleep(0.005)
    await put(outgoing, parcel(other.url))
    await other.has(1)
    assert len(reached) == LIMITS.outgoing_at_once_per_host
    ended.set()
    await is_empty(outgoing)


async def test_an_attempt_has_an_end(new: New, serve: NewServer) -> None:
    ended = asyncio.Event()
    attempts: list[str] = []

    async def silent(request: web.Request) -> web.Response:
        attempts.append(request.path)
        if len(attempts) == 1:
            await ended.wait()
        return web.Response()

    slow = await serve(silent)
    outgoing = await new(outgoing_seconds=0.1)
    await put(outgoing, parcel(slow.url))
    await is_empty(outgoing)
    ended.set()
    assert len(attempts) >= 2


async def test_an_endless_answer_is_not_read(new: New, serve: NewServer) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            return response

    outgoing = await new()
    await put(outgoing, parcel((await serve(endless)).url))
    await is_empty(outgoing)
    assert outgoing.traffic.sent == 1


async def test_what_has_not_arrived_is_there_after_a_crash(
    new: New, other: Other, folder: Path, stack: AsyncExitStack
) -> None:
    first = await new(runs=False)
    await put(first, parcel(other.url))
    # Nothing is closed: another one opens what is on disk, as after a kill.
    await new()
    assert await other.has(1) == [b'{"a":1}']


async def test_the_same_twice_is_one(new: New, other: Other) -> None:
    outgoing = await new(runs=False)
    for _ in range(3):
        await put(outgoing, parcel(other.url))
    assert await waiting(outgoing) == 1


async def test_what_was_sent_is_not_sent_again_for_a_while(new: New, other: Other) -> None:
    """A sender that lost our answer repeats itself, and mail that goes round comes by again."""
    outgoing = await new()
    await put(outgoing, parcel(other.url))
    await other.has(1)
    await is_empty(outgoing)
    await put(outgoing, parcel(other.url), parcel(other.url, b'{"new":1}'))
    await other.has(2)
    await is_empty(outgoing)
    assert other.got == [b'{"a":1}', b'{"new":1}']


async def test_what_is_over_is_not_sent(new: New, other: Other) -> None:
    outgoing = await new(runs=False)
    await put(outgoing, parcel(other.url, b'{"over":1}'), lasts=-1.0)
    task = asyncio.create_task(outgoing.run())
    await put(outgoing, parcel(other.url, b'{"new":1}'))
    assert await other.has(1) == [b'{"new":1}']
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_delayed_waits(new: New, other: Other) -> None:
    outgoing = await new()
    await put(outgoing, parcel(other.url, b'{"later":1}'), due=3600.0)
    await put(outgoing, parcel(other.url, b'{"soon":1}'), due=0.05)
    assert await other.has(1) == [b'{"soon":1}']
    await is_empty(outgoing, but=1)
    assert other.got == [b'{"soon":1}']


@pytest.mark.parametrize(
    "limits",
    [
        {"outgoing_messages": 2},
        {"outgoing_messages_per_host": 2},
        {"outgoing_bytes": 20},
        {"outgoing_bytes_per_host": 20},
        {"outgoing_per_host": Rate(0.001, 2)},
    ],
)
async def test_what_waits_is_bounded(new: New, limits: dict[str, Any]) -> None:
    outgoing = await new(runs=False, **limits)
    uri = "http://nowhere.example/"
    for number in range(2):
        await put(outgoing, parcel(uri, b'{"n":%d}' % number))
    with pytest.raises(TooMuchOutgoing):
        await put(outgoing, parcel(uri, b'{"n":2}'))
    assert await waiting(outgoing) == 2


async def test_of_several_all_or_none_are_kept(new: New) -> None:
    outgoing = await new(runs=False, outgoing_messages=2)
    with pytest.raises(Refusal):
        await put(outgoing, *(parcel("http://nowhere.example/", b'{"n":%d}' % number) for number in range(3)))
    assert await waiting(outgoing) == 0


async def test_an_envelope_that_has_grown_too_large_is_refused(new: New) -> None:
    outgoing = await new(runs=False, outgoing_message_bytes=10)
    with pytest.raises(TooBig):
        await put(outgoing, parcel("http://nowhere.example/", b"x" * 11))


@pytest.mark.parametrize(
    "uri",
    (
        "ftp://a/ mailto:a@b file:///etc/passwd http:// http:///x http://a:0/ http://a:99999/ http://u:p@a/"
        " http://[ javascript:x did:web:a nothing"
    ).split(),
)
def test_what_cannot_be_sent_to_is_told_apart(uri: str) -> None:
    with pytest.raises(DidError):
        host_of(uri)


@pytest.mark.parametrize(
    ("uri", "host"),
    [("https://A.example/x", "a.example:443"), ("ws://a:81", "a:81"), ("http://[::1]/", "::1:80")],
)
def test_what_is_one_server_has_one_name(uri: str, host: str) -> None:
    assert host_of(uri) == host
