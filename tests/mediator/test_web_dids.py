"""did:web over real TLS: what is fetched, how often, and what is never connected to."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from zone import Zone

from didmpc.mediator.limits import Limits, Rate
from didmpc.mediator.refusals import Unavailable
from didmpc.mediator.resolving.dialing import Dialer, Outside
from didmpc.mediator.resolving.web_dids import NotNow, WebDids
from didmpc.protocols.addresses import is_public
from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.errors import DidError, RemoteViolation

PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"
"""Both are this machine; the first stands for the internet."""
HOST = "wallet.example"
LIMITS = Limits(web_did_seconds=30.0, web_did_bytes=4096)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def one_port_at(*addresses: str) -> list[socket.socket]:
    """Sockets that are bound to a port that is free at all of these addresses."""
    while True:
        bound = [socket.socket() for _ in addresses]
        try:
            port = 0
            for listener, address in zip(bound, addresses, strict=True):
                listener.bind((address, port))
                port = listener.getsockname()[1]
            return bound
        except OSError:  # somebody else has it at the next address
            for listener in bound:
                listener.close()


class Wallet:
    """A web server with a certificate, at an address that counts as public."""

    def __init__(self, authority: trustme.CA, zone: Zone) -> None:
        self.zone = zone
        self.requests: list[str] = []
        self.handler: Handler = self.document
        self.port = 0
        self.key = PrivateKey.generate("X25519").public
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(self._tls)

    @property
    def did(self) -> str:
        return f"did:web:{HOST}%3A{self.port}"

    def json(self, **members: Any) -> dict[str, Any]:
        method = {"id": "#a", "type": "JsonWebKey2020", "publicKeyJwk": self.key.jwk()}
        return {"id": self.did, "verificationMethod": [method], "keyAgreement": ["#a"], **members}

    async def document(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.json(), content_type="application/did+json")

    async def start(self, stack: AsyncExitStack) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.requests.append(request.path)
            return await self.handler(request)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        listeners = one_port_at(PUBLIC, PRIVATE)
        self.port = listeners[0].getsockname()[1]
        for listener in listeners:
            server = TestServer(app, scheme="https", socket_factory=lambda *_, listener=listener: listener)
            await server.start_server(ssl=self._tls)
            stack.push_async_callback(server.close)
        self.zone.addresses[HOST] = [PUBLIC]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def wallet(authority: trustme.CA, stack: AsyncExitStack) -> Wallet:
    wallet = Wallet(authority, Zone())
    await wallet.start(stack)
    return wallet


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    return tls


New = Callable[..., WebDids]


@pytest.fixture
async def new(trusting: ssl.SSLContext, stack: AsyncExitStack, wallet: Wallet, clock: Clock) -> New:
    def make(
        allows: Callable[[str], bool] = lambda a: a == PUBLIC, trusts: bool = True, **limits: Any
    ) -> WebDids:
        dialer = Dialer(allows, names=wallet.zone, tls=trusting if trusts else None)
        stack.push_async_callback(dialer.close)
        web_dids = WebDids(dialer.http, replace(LIMITS, **limits), clock)
        stack.push_async_callback(web_dids.close)
        return web_dids

    return make


async def test_a_did_is_resolved_from_its_server(new: New, wallet: Wallet) -> None:
    found = await new().resolve(wallet.did)
    assert found.did == wallet.did and found.key_agreement[0].public == wallet.key
    assert wallet.requests == ["/.well-known/did.json"]


async def test_a_did_with_a_path_too(new: New, wallet: Wallet) -> None:
    did = f"{wallet.did}:people:bob"

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(wallet.json(id=did))

    wallet.handler = handler
    assert (await new().resolve(f"{did}#a")).did == did
    assert wallet.requests == ["/people/bob/did.json"]


async def test_it_is_kept_for_a_while_and_then_fetched_again(new: New, wallet: Wallet, clock: Clock) -> None:
    web_dids = new(web_did_age_seconds=100.0)
    first = await web_dids.resolve(wallet.did)
    clock.now += 99
    assert web_dids.known(wallet.did) is first is await web_dids.resolve(wallet.did)
    clock.now += 1
    assert web_dids.known(wallet.did) is None
    await web_dids.resolve(wallet.did)
    assert len(wallet.requests) == 2


async def test_many_who_ask_at_once_make_one_request(new: New, wallet: Wallet) -> None:
    go = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        await go.wait()
        return await wallet.document(request)

    wallet.handler = handler
    web_dids = new()
    asking = [asyncio.create_task(web_dids.resolve(wallet.did)) for _ in range(20)]
    while not wallet.requests:
        await asyncio.sleep(0.01)
    asking[0].cancel()  # one who goes away ends it for nobody else
    go.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {each.did for each in found[1:] if not isinstance(each, BaseException)} == {wallet.did}
    assert len(wallet.requests) == 1


async def test_a_failure_is_remembered_for_a_while(new: New, wallet: Wallet, clock: Clock) -> None:
    async def handler(request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    wallet.handler = handler
    web_dids = new(web_did_failure_seconds=10.0)
    for _ in range(3):
        with pytest.raises(DidError, match="cannot be had") as caught:
            await web_dids.resolve(wallet.did)
        assert caught.value.code == "e.p.did.unresolvable"
    assert len(wallet.requests) == 1
    wallet.handler = wallet.document
    clock.now += 10
    assert await web_dids.resolve(wallet.did)


async def test_what_is_kept_is_bounded(new: New, wallet: Wallet) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(wallet.json(id=f"{wallet.did}:{request.path.split('/')[1]}"))

    wallet.handler = handler
    web_dids = new(web_dids=2)
    for name in "abc":
        await web_dids.resolve(f"{wallet.did}:{name}")
    assert [web_dids.known(f"{wallet.did}:{name}") is not None for name in "abc"] == [False, True, True]


async def test_another_documents_id_is_refused(new: New, wallet: Wallet) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(wallet.json(id="did:web:bank.example"))

    wallet.handler = handler
    with pytest.raises(DidError, match="not that of this DID"):
        await new().resolve(wallet.did)


async def test_an_endless_document_is_not_read(new: New, wallet: Wallet) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 1024)
        except ConnectionError:
            return response

    wallet.handler = handler
    with pytest.raises(DidError) as caught:
        await new().resolve(wallet.did)
    assert "larger than 4096 bytes" in caught.value.why


async def test_a_compressed_document_cannot_grow(new: New, wallet: Wallet) -> None:
    async def handler(request: web.Request) -> web.Response:
        response = web.json_response(wallet.json(note=" " * 100_000))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    wallet.handler = handler
    with pytest.raises(RemoteViolation):
        await new().resolve(wallet.did)


async def test_a_server_that_is_silent_is_not_waited_for(new: New, wallet: Wallet) -> None:
    ended = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await ended.wait()
        return response

    wallet.handler = handler
    with pytest.raises(NotNow) as caught:
        await new(web_did_seconds=0.2).resolve(wallet.did)
    ended.set()
    assert "in time" in caught.value.why and caught.value.retry_after


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(new: New, wallet: Wallet, status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    wallet.handler = handler
    with pytest.raises(DidError):
        await new().resolve(wallet.did)
    assert wallet.requests == ["/.well-known/did.json"]


async def test_a_failing_server_may_be_asked_later(new: New, wallet: Wallet) -> None:
    async def handler(request: web.Request) -> web.Response:
        raise web.HTTPServiceUnavailable

    wallet.handler = handler
    with pytest.raises(NotNow):
        await new().resolve(wallet.did)


async def test_while_names_cannot_be_looked_up_nothing_is_said_to_be_unknown(
    new: New, wallet: Wallet
) -> None:
    wallet.zone.fails = True
    with pytest.raises(NotNow):
        await new().resolve(wallet.did)


async def test_a_certificate_that_nobody_vouches_for_is_refused(new: New, wallet: Wallet) -> None:
    with pytest.raises(DidError) as caught:
        await new(trusts=False).resolve(wallet.did)
    assert "certificate" in caught.value.why and not wallet.requests


async def test_a_certificate_for_another_name_is_refused(new: New, wallet: Wallet) -> None:
    wallet.zone.addresses["bank.example"] = [PUBLIC]
    with pytest.raises(DidError) as caught:
        await new().resolve(f"did:web:bank.example%3A{wallet.port}")
    assert "certificate" in caught.value.why and not wallet.requests


async def test_a_name_at_a_private_address_is_not_connected_to(new: New, wallet: Wallet) -> None:
    wallet.zone.addresses[HOST] = [PRIVATE]
    with pytest.raises(DidError) as private:
        await new().resolve(wallet.did)
    assert not wallet.requests
    with pytest.raises(DidError) as unknown:
        await new().resolve("did:web:nowhere.example")
    assert private.value.why == unknown.value.why  # nothing is said about the network around us


async def test_a_name_that_changes_its_address_is_checked_each_time(
    new: New, wallet: Wallet, clock: Clock
) -> None:
    """What was checked is what is connected to: there is no second look-up in between."""
    wallet.zone.addresses[HOST] = [PUBLIC, PRIVATE]
    connected: list[str] = []

    def allows(address: str) -> bool:
        connected.append(address)
        return address == PUBLIC

    await new(allows).resolve(wallet.did)
    assert wallet.zone.asked == [HOST] and connected == [PUBLIC]
    with pytest.raises(DidError):
        await new(allows).resolve(wallet.did)  # another client: no connection is kept, the name resolves anew
    assert connected == [PUBLIC, PRIVATE] and len(wallet.requests) == 1


async def test_one_host_is_not_asked_without_end(new: New, wallet: Wallet, clock: Clock) -> None:
    async def handler(request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    wallet.handler = handler
    web_dids = new(web_did_fetches=Rate(1, 2))
    for name in ("a", "b"):
        with pytest.raises(DidError):
            await web_dids.resolve(f"{wallet.did}:{name}")
    with pytest.raises(Unavailable):
        await web_dids.resolve(f"{wallet.did}:c")
    assert len(wallet.requests) == 2


async def test_those_who_wait_are_bounded(new: New, wallet: Wallet) -> None:
    go = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        await go.wait()
        return await wallet.document(request)

    wallet.handler = handler
    web_dids = new(web_did_waiters=2)
    waiting = [asyncio.create_task(web_dids.resolve(wallet.did)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await web_dids.resolve(wallet.did)
    go.set()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize(
    ("listening", "url", "allow", "may"),
    [
        ("127.0.0.1", "http://127.0.0.1:8765", False, True),
        ("127.0.0.1", "http://localhost:8765", False, True),
        ("::1", "http://[::1]:8765", False, True),
        ("127.0.0.1", "https://mediator.example.org", False, False),  # behind a proxy: for everybody
        ("0.0.0.0", "http://192.168.1.5:8765", False, False),
        ("192.168.1.5", "http://192.168.1.5:8765", False, False),
        ("0.0.0.0", "http://192.168.1.5:8765", True, True),
    ],
)
async def test_private_addresses_are_for_mediators_of_one_machine(
    wallet: Wallet,
    stack: AsyncExitStack,
    authority: trustme.CA,
    listening: str,
    url: str,
    allow: bool,
    may: bool,
) -> None:
    assert not is_public(PUBLIC)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    dialer = Outside(allow_private=allow, names=wallet.zone, tls=tls).dialer(listening, url)
    stack.push_async_callback(dialer.close)
    web_dids = WebDids(dialer.http, LIMITS)
    if may:
        assert (await web_dids.resolve(wallet.did)).did == wallet.did
    else:
        with pytest.raises(DidError):
            await web_dids.resolve(wallet.did)
    assert bool(wallet.requests) is may


async def test_the_document_served_must_be_json_of_a_document(new: New, wallet: Wallet) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=json.dumps(["not", "a", "document"]).encode())

    wallet.handler = handler
    with pytest.raises(RemoteViolation):
        await new().resolve(wallet.did)
