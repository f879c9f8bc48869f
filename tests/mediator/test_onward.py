"""Mail for elsewhere: over several mediators, to all kinds of services; replies to a sender's own service."""

import asyncio
import contextlib
import itertools
import signal
import socket
import sqlite3
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from mediator_parts import Client, Documented, Process, code_of
from zone import Zone

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import KIB, Limits, Rate
from didmpc.mediator.resolving.dialing import Outside
from didmpc.protocols import did as dids
from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.did import DIDDocument, Service, VerificationMethod
from didmpc.protocols.envelope import pack_anoncrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import mediation, pickup, problem_report, trust_ping
from didmpc.protocols.messages.routing import parse_forward, route, wrap

LIMITS = Limits(forward_bytes=64 * KIB, outgoing_retry_seconds=0.01)
PATIENCE = 60.0
PING = Message(type=trust_ping.PING, body={"response_requested": True})

NewMediator = Callable[..., Awaitable[Running]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def mediator_at(stack: AsyncExitStack, tmp_path: Path) -> NewMediator:
    async def start(
        name: str, *, outside: Outside | None = None, url: str | None = None, **limits: Any
    ) -> Running:
        home = Home(tmp_path / name)
        mediator = running(
            home,
            port=0,
            public_url=url,
            limits=replace(LIMITS, **limits),
            outside=outside or Outside(names=Zone()),
        )
        return await stack.enter_async_context(mediator)

    return start


@pytest.fixture
async def near(mediator_at: NewMediator) -> Running:
    return await mediator_at("near")


@pytest.fixture
async def far(mediator_at: NewMediator) -> Running:
    return await mediator_at("far")


class Agent:
    """Takes messages at a service of its own."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.paths: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            self.got.append(await request.read())
            return web.Response(status=202)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for frame in socket:
            self.got.append(frame.data.encode())
        return socket

    async def has(self, count: int = 1) -> list[bytes]:
        async with asyncio.timeout(PATIENCE):
            while len(self.got) < count:
                await asyncio.sleep(0.005)
        return self.got


NewAgent = Callable[..., Awaitable[Agent]]


@pytest.fixture
def agent_at(stack: AsyncExitStack) -> NewAgent:
    async def start(port: int | None = None, tls: ssl.SSLContext | None = None) -> Agent:
        agent = Agent()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", agent.handle)
        server = TestServer(app, port=port)
        await server.start_server()
        stack.push_async_callback(server.close)
        agent.url = str(server.make_url("/"))
        return agent

    return start


@pytest.fixture
async def agent(agent_at: NewAgent) -> Agent:
    return await agent_at()


HOST = "wallet.example"


class WebAgent(Agent):
    """An agent with a did:web, which takes messages where its document lies."""

    def __init__(self) -> None:
        super().__init__()
        self.zone = Zone()
        self.outside = Outside()
        self.documents: Iterator[DIDDocument] = iter(())
        self.identity: Documented
        self.passes_to: dict[str, str] = {}

    async def document(self, request: web.Request) -> web.Response:
        return web.json_response(next(self.documents).to_json())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path not in self.passes_to:
            return await super().handle(request)
        envelope = await request.read()
        async with aiohttp.ClientSession() as http:
            status, _ = await post(http, self.passes_to[request.path], envelope)
        self.paths.append(request.path)
        self.got.append(envelope)
        return web.Response(status=status)

    async def start(self, stack: AsyncExitStack) -> Self:
        authority = trustme.CA()
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(served)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        self.outside = Outside(names=self.zone, tls=trusting)
        self.zone.addresses[HOST] = ["127.0.0.1"]
        app = web.Application()
        app.router.add_get("/.well-known/did.json", self.document)
        app.router.add_post("/{path:.*}", self.handle)
        server = TestServer(app, scheme="https", host="127.0.0.1")
        await server.start_server(ssl=served)
        stack.push_async_callback(server.close)
        self.url = f"https://{HOST}:{server.port}/"
        did, key = f"did:web:{HOST}%3A{server.port}", PrivateKey.generate("X25519")
        method = VerificationMethod(f"{did}#k", key.public)
        document = DIDDocument(did, (method,), services=(Service(self.url),))
        self.identity = Documented(did, {method.kid: key}, document)
        self.documents = itertools.repeat(document)
        return self


@pytest.fixture
async def web_agent(stack: AsyncExitStack) -> WebAgent:
    return await WebAgent().start(stack)


async def mail(client: Client, count: int = 1) -> list[bytes]:
    """Wait until so much is in the mailboxes of a client."""
    async with asyncio.timeout(PATIENCE):
        while await client.waiting() < count:
            await asyncio.sleep(0.01)
    return [body for _, body in await client.fetch()]


def sealed(to: Identity | DIDDocument, text: str = "hello") -> bytes:
    document = to.document if isinstance(to, Identity) else to
    return pack_anoncrypt(Message(type="https://example.org/1.0/text", body={"text": text}), document)


async def post(http: aiohttp.ClientSession, url: str, envelope: bytes) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/didcomm-encrypted+json"}
    async with http.post(url, data=envelope, headers=headers) as response:
        return response.status, await response.read()


async def figures(http: aiohttp.ClientSession, mediator: Running) -> str:
    async with http.get(mediator.metrics_url) as response:
        return await response.text()


async def nothing_leaves(home: Path) -> None:
    """Wait until the store of a mediator holds nothing more that is on its way out."""
    with contextlib.closing(sqlite3.connect(home / "mediator.sqlite3")) as db:
        async with asyncio.timeout(PATIENCE):
            while db.execute("SELECT count(*) FROM outgoing").fetchone()[0]:
                await asyncio.sleep(0.01)


# --- onward


async def test_a_message_passes_two_mediators(
    near: Running, far: Running, http: aiohttp.ClientSession
) -> None:
    """A wraps for both: near peels one wrap and passes on, far peels the other and keeps."""
    bob = await Client(http, far.did).enrol()
    to = Identity.peer4([Service(near.settings.url, routing_keys=(near.did, far.did))])
    assert await bob.register(to.did) == ["success"]
    envelope = sealed(to)
    outbound = route(envelope, to.document)
    assert outbound.uri == near.settings.url
    assert await post(http, outbound.uri, outbound.envelope) == (202, b"")
    assert await mail(bob) == [envelope]


async def test_a_mediator_wraps_for_the_hops_that_a_recipient_names(
    near: Running, far: Running, http: aiohttp.ClientSession
) -> None:
    bob = await Client(http, far.did).enrol()
    to = Identity.peer4([Service(far.did)])
    assert await bob.register(to.did) == ["success"]
    alice = Client(http, near.did)
    assert await alice.send(to.did, envelope := sealed(to)) == 202
    assert await mail(bob) == [envelope]


async def test_many_envelopes_over_added_hops_do_not_hold_up_others(
    near: Running, far: Running, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await Client(http, far.did).enrol()
    to = Identity.peer4([Service(far.did)])
    assert await bob.register(to.did) == ["success"]
    alice, turns, wrapped_in = Client(http, near.did), 0, list[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def watched(*args: Any, **options: Any) -> bytes:
        wrapped_in.append(turns)
        return wrap(*args, **options)

    monkeypatch.setattr("didmpc.mediator.mail.onward.wrap", watched)
    task = asyncio.create_task(others())
    assert await alice.send(to.did, *(sealed(to, str(number)) for number in range(8))) == 202
    task.cancel()
    assert len(set(wrapped_in)) == len(wrapped_in) == 8


async def test_a_mediator_behind_a_mediator_takes_its_mail_from_a_mailbox(
    near: Running, http: aiohttp.ClientSession
) -> None:
    behind = Identity.peer2([Service(near.did)])
    keeper = await Client(http, near.did).enrol()
    assert await keeper.register(behind.did) == ["success"]
    to = Identity.peer4([Service(behind.did)])
    outbound = route(sealed(to), to.document)
    assert await post(http, outbound.uri, outbound.envelope) == (202, b"")
    (wrapped,) = await mail(keeper)
    assert parse_forward(unpack(wrapped, Identities(behind)).message).next == to.did


async def test_a_forward_says_at_the_next_mediator_too_when_it_is_over(
    near: Running, agent: Agent, http: aiohttp.ClientSession
) -> None:
    hop = Identity.peer2()
    to = Identity.peer4([Service(agent.url, routing_keys=(f"{hop.did}#key-1",))])
    until = int(time.time()) + 3600
    assert await Client(http, near.did).send(to.did, envelope := sealed(to), expires_time=until) == 202
    (wrapped,) = await agent.has()
    inside = parse_forward(unpack(wrapped, Identities(hop)).message)
    assert (inside.next, inside.envelopes, inside.expires_time) == (to.did, (envelope,), until)


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_an_agent_gets_its_mail_at_its_own_service(
    near: Running, agent: Agent, http: aiohttp.ClientSession, scheme: str
) -> None:
    to = Identity.peer4([Service(agent.url.replace("http", scheme))])
    envelopes = [sealed(to, text) for text in "abc"]
    assert await Client(http, near.did).send(to.did, *envelopes) == 202
    assert sorted(await agent.has(3)) == sorted(envelopes)
    async with asyncio.timeout(PATIENCE):
        while "didmpc_mediator_outgoing_sent_total 3.0" not in await figures(http, near):
            await asyncio.sleep(0.01)


async def test_a_key_may_be_the_next(near: Running, agent: Agent, http: aiohttp.ClientSession) -> None:
    to = Identity.peer2([Service(agent.url)])
    assert await Client(http, near.did).send(f"{to.did}#key-1", envelope := sealed(to)) == 202
    assert await agent.has() == [envelope]


@pytest.mark.parametrize(
    "to",
    [
        Identity.key().did,
        Identity.peer4().did,
        dids.canonical(Identity.peer4().did),
        Identity.peer4([Service("mailto:a@b.example")]).did,
        Identity.peer4([Service("http://u:p@b.example")]).did,
        Identity.peer4([Service("https://b.example", routing_keys=("did:web:127.0.0.1",))]).did,
        "did:web:nowhere.invalid",
        "did:example:123",
        "did:peer:4nonsense",
    ],
    ids=[
        "key",
        "peer4",
        "short",
        "mail",
        "credentials",
        "via a private name",
        "nowhere",
        "example",
        "nonsense",
    ],
)
async def test_who_cannot_be_found_is_not_enrolled(
    near: Running, http: aiohttp.ClientSession, to: str
) -> None:
    status, body = await post(
        http, near.settings.url, Client(http, near.did).forward(to, sealed(Identity.key()))
    )
    assert status == 404 and b"e.p.req.not_enroll" in body


async def test_who_names_us_and_has_no_mailbox_here_is_not_enrolled(
    near: Running, http: aiohttp.ClientSession
) -> None:
    for service in (
        Service(near.did),
        Service(near.settings.url),
        Service(near.settings.url, routing_keys=(near.did, near.did, near.did, near.did)),
    ):
        to = Identity.peer4([service])
        assert await Client(http, near.did).send(to.did, sealed(to)) == 404


async def test_a_way_that_leads_round_ends(near: Running, far: Running, http: aiohttp.ClientSession) -> None:
    """Each hop asks for the other one: what comes by a mediator again goes no further."""
    for hops in ((far.did, near.did), (near.did, far.did, near.did), (far.did, near.did, far.did, near.did)):
        to = Identity.peer4([Service(far.settings.url, routing_keys=hops)])
        assert await Client(http, near.did).send(to.did, sealed(to)) == 404


async def test_a_did_that_says_something_else_each_time_leads_round_only_once(
    mediator_at: NewMediator, web_agent: WebAgent, http: aiohttp.ClientSession
) -> None:
    """To the one mediator it names the other, and the reverse: neither sees that it goes round."""
    near = await mediator_at("near", outside=web_agent.outside)
    far = await mediator_at("far", outside=web_agent.outside)
    me = web_agent.identity
    ways = itertools.cycle((("far", far), ("near", near)))
    web_agent.documents = (
        replace(me.document, services=(Service(f"{web_agent.url}{path}", routing_keys=(to.did,)),))
        for path, to in ways
    )
    web_agent.passes_to = {"/far": far.settings.url, "/near": near.settings.url}
    assert await Client(http, near.did).send(me.did, sealed(me)) == 202
    assert len(await web_agent.has(2)) == 2
    assert await Client(http, near.did).send(me.did, other := sealed(me)) == 202
    await web_agent.has(4)
    assert other and web_agent.paths == ["/far", "/near", "/far", "/near"]


async def test_passing_on_can_be_switched_off(
    mediator_at: NewMediator, agent: Agent, http: aiohttp.ClientSession
) -> None:
    mediator = await mediator_at("own", outside=Outside(onward=False, names=Zone()))
    to = Identity.peer4([Service(agent.url)])
    assert await Client(http, mediator.did).send(to.did, sealed(to)) == 404
    alice = await Client(http, mediator.did).enrol()
    assert await alice.send(await alice.new_did(), sealed(to)) == 202


async def test_nothing_but_envelopes_is_passed_on(
    near: Running, agent: Agent, http: aiohttp.ClientSession
) -> None:
    to = Identity.peer4([Service(agent.url)])
    alice = Client(http, near.did)
    assert await alice.send(to.did, b'{"cmd":"SET x"}') == 400
    assert await alice.send(to.did, sealed(to, "x" * 65 * KIB)) == 413
    assert await alice.send(to.did, envelope := sealed(to)) == 202
    assert await agent.has() == [envelope]


async def test_one_address_passes_on_so_much_and_no_more(
    mediator_at: NewMediator, agent: Agent, http: aiohttp.ClientSession
) -> None:
    mediator = await mediator_at("own", onwards=Rate(0.001, 2))
    to = Identity.peer4([Service(agent.url)])
    alice = Client(http, mediator.did)
    assert [await alice.send(to.did, sealed(to, text)) for text in "abc"] == [202, 202, 429]
    await agent.has(2)


async def test_a_forward_that_is_over_is_not_passed_on(
    near: Running, agent: Agent, http: aiohttp.ClientSession
) -> None:
    to = Identity.peer4([Service(agent.url)])
    alice = Client(http, near.did)
    assert await alice.send(to.did, sealed(to), expires_time=1) == 400
    assert await alice.send(to.did, sealed(to, "late"), delay_milli=3_600_000) == 202
    assert await alice.send(to.did, soon := sealed(to), delay_milli=-20) == 202
    assert await agent.has() == [soon]


async def test_what_was_taken_in_outlives_a_kill(
    tmp_path: Path, agent_at: NewAgent, http: aiohttp.ClientSession, stack: AsyncExitStack
) -> None:
    held = stack.enter_context(socket.socket())  # nobody else gets the port, and nobody listens there yet
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    options = ("--port", "0", "--limit", "outgoing-retry-seconds=0.05s")
    first = await Process(tmp_path / "m").start(*options)
    to = Identity.peer4([Service(f"http://127.0.0.1:{port}/")])
    alice = Client(http, first.ready["did"])
    envelopes = [sealed(to, f"{number}") for number in range(5)]
    assert [await alice.send(to.did, each) for each in envelopes] == [202] * 5
    await first.stop(signal.SIGKILL)
    agent = await agent_at(port)
    second = await Process(tmp_path / "m").start(*options)
    try:
        assert sorted(await agent.has(5)) == sorted(envelopes)
    finally:
        await second.stop(signal.SIGKILL)


async def test_a_private_address_gets_nothing_from_a_mediator_of_the_internet(
    mediator_at: NewMediator, agent: Agent, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """It listens on loopback behind a proxy: its public name says that it is for everybody."""
    mediator = await mediator_at("public", url="https://mediator.example")
    local = f"http://127.0.0.1:{mediator.settings.port}"
    to = Identity.peer4([Service(agent.url)])
    alice = Client(http, mediator.did, to)
    assert (await post(http, local, alice.forward(to.did, sealed(to))))[0] == 202  # the same as for any other
    assert (await post(http, local, alice.pack(PING)))[0] == 202
    await nothing_leaves(tmp_path / "public")
    assert not agent.got


# --- forwards for ourselves


async def test_a_forward_for_the_mediator_itself_is_opened_in_place(
    near: Running, http: aiohttp.ClientSession
) -> None:
    bob = await Client(http, near.did).enrol()
    did = await bob.new_did()
    envelope = sealed(Identity.key())
    wrapped = bob.forward(did, envelope)
    for _ in range(3):
        wrapped = bob.forward(near.did, wrapped)
    assert (await bob.post(wrapped))[0] == 202
    assert await mail(bob) == [envelope]


async def test_but_not_without_end(near: Running, http: aiohttp.ClientSession) -> None:
    bob = await Client(http, near.did).enrol()
    wrapped = bob.forward(await bob.new_did(), sealed(Identity.key()))
    for _ in range(4):
        wrapped = bob.forward(near.did, wrapped)
    status, body = await bob.post(wrapped)
    assert status == 400 and b"e.p.req.hops" in body
    assert await bob.waiting() == 0


async def test_what_is_wrong_inside_the_forwarder_is_told(near: Running, http: aiohttp.ClientSession) -> None:
    bob = Client(http, near.did)
    status, body = await bob.post(
        bob.forward(near.did, bob.forward(Identity.key().did, sealed(Identity.key())))
    )
    assert status == 404 and b"e.p.req.not_enroll" in body
    status, body = await bob.post(bob.forward(near.did, sealed(Identity.key())))
    assert status == 400 and b"e.p.trust.crypto" in body


async def test_who_asks_from_inside_a_forward_is_answered_at_its_service(
    near: Running, agent: Agent, http: aiohttp.ClientSession
) -> None:
    """return_route does not pass through whoever forwards."""
    me = Identity.peer4([Service(agent.url)])
    alice = Client(http, near.did, me)
    inside = alice.pack(mediation.mediate_request(), return_route="all")
    assert await alice.post(alice.forward(near.did, inside)) == (202, b"")
    (answer,) = await agent.has()
    assert alice.unpack(answer).message.type == mediation.MEDIATE_GRANT


# --- replies


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_reply_goes_to_the_senders_own_service(
    near: Running, agent: Agent, http: aiohttp.ClientSession, scheme: str
) -> None:
    alice = Client(http, near.did, Identity.peer4([Service(agent.url.replace("http", scheme))]))
    assert await alice.post(alice.pack(PING)) == (202, b"")
    (answer,) = await agent.has()
    pong = alice.unpack(answer).message
    assert pong.type == trust_ping.PING_RESPONSE and pong.thid == PING.id


async def test_a_reply_on_the_way_back_goes_nowhere_else(
    near: Running, agent: Agent, http: aiohttp.ClientSession
) -> None:
    alice = Client(http, near.did, Identity.peer4([Service(agent.url)]))
    assert (await alice.ask(PING)).type == trust_ping.PING_RESPONSE
    assert await alice.post(alice.pack(other := replace(PING, id="other"))) == (202, b"")
    (answer,) = await agent.has()
    assert alice.unpack(answer).message.thid == other.id


async def test_a_reply_finds_a_sender_behind_another_mediator(
    near: Running, far: Running, http: aiohttp.ClientSession
) -> None:
    at_far = await Client(http, far.did).enrol()
    me = Identity.peer4([Service(far.did)])
    assert await at_far.register(me.did) == ["success"]
    alice = Client(http, near.did, me)
    assert await alice.post(alice.pack(PING)) == (202, b"")
    (answer,) = await mail(at_far)
    assert alice.unpack(answer).message.type == trust_ping.PING_RESPONSE


async def test_a_reply_to_a_sender_whose_mailbox_is_here_is_put_into_it(
    near: Running, http: aiohttp.ClientSession
) -> None:
    me = Identity.peer4([Service(near.did)])
    alice = await Client(http, near.did, me).enrol()
    assert await alice.register(me.did) == ["success"]
    assert await alice.post(alice.pack(PING)) == (202, b"")
    (answer,) = await mail(alice)
    assert alice.unpack(answer).message.type == trust_ping.PING_RESPONSE


async def test_a_status_is_never_put_into_a_mailbox(near: Running, http: aiohttp.ClientSession) -> None:
    me = Identity.peer4([Service(near.did)])
    alice = await Client(http, near.did, me).enrol()
    assert await alice.register(me.did) == ["success"]
    assert await alice.send(me.did, sealed(me)) == 202
    ((name, _),) = await alice.fetch()
    for request in (pickup.status_request(), pickup.delivery_request(1), pickup.messages_received([name])):
        assert await alice.post(alice.pack(request, return_route="none")) == (202, b"")
    assert await alice.waiting() == 0


async def test_a_problem_report_goes_to_a_sender_who_is_proven_and_to_no_other(
    near: Running, agent: Agent, http: aiohttp.ClientSession
) -> None:
    me = Identity.peer4([Service(agent.url)])
    alice = Client(http, near.did, me)
    unknown = Message(type="https://example.org/nonsense/1.0/ask")
    anonymous = replace(unknown, from_=me.did, to=(near.did,))
    assert (await alice.post(pack_anoncrypt(anonymous, alice.mediator)))[0] == 400
    report = problem_report.report(problem_report.ProblemReport("e.p.x", "a report is not reported on"))
    await alice.post(alice.pack(replace(report, type=report.type.replace("2.0", "2.1"), body={})))
    assert (await alice.post(alice.pack(unknown)))[0] == 400
    (answer,) = await agent.has()
    report = alice.unpack(answer).message
    assert code_of(report) == "e.p.msg.unsupported" and report.pthid == unknown.id
    assert len(agent.got) == 1


@pytest.mark.parametrize("limit", ["replies_per_did", "replies_per_address"])
async def test_replies_are_bounded_and_who_is_over_is_not_told(
    mediator_at: NewMediator, agent: Agent, http: aiohttp.ClientSession, tmp_path: Path, limit: str
) -> None:
    mediator = await mediator_at("own", **{limit: Rate(0.001, 2)})
    alice = Client(http, mediator.did, Identity.peer4([Service(agent.url)]))
    for number in range(4):
        assert await alice.post(alice.pack(replace(PING, id=f"{number}"))) == (202, b"")
    await agent.has(2)
    await nothing_leaves(tmp_path / "own")
    assert len(agent.got) == 2


async def test_a_sender_without_a_service_gets_202(near: Running, http: aiohttp.ClientSession) -> None:
    for services in ([], [Service("did:web:nowhere.invalid")], [Service("http://[")]):
        alice = Client(http, near.did, Identity.peer4(services))
        assert await alice.post(alice.pack(PING)) == (202, b"")


# --- did:web


async def test_a_did_web_asks_is_answered_and_gets_mail(
    mediator_at: NewMediator, web_agent: WebAgent, http: aiohttp.ClientSession
) -> None:
    agent, me = web_agent, web_agent.identity
    mediator = await mediator_at("own", outside=agent.outside)
    alice = Client(http, mediator.did, me)

    def opened(envelope: bytes) -> Message:
        return unpack(
            envelope, Identities(me), lambda did: me.document if did == me.did else dids.resolve(did)
        ).message

    status, body = await alice.post(alice.pack(mediation.mediate_request(), return_route="all"))
    assert status == 200 and opened(body).type == mediation.MEDIATE_GRANT
    assert await alice.post(alice.pack(PING)) == (202, b"")
    (answer,) = await agent.has()
    assert opened(answer).type == trust_ping.PING_RESPONSE
    assert await Client(http, mediator.did).send(me.did, envelope := sealed(me)) == 202
    assert (await agent.has(2))[1] == envelope


async def test_a_key_that_its_document_does_not_have_proves_nothing(
    mediator_at: NewMediator, web_agent: WebAgent, http: aiohttp.ClientSession
) -> None:
    me = web_agent.identity
    mediator = await mediator_at("own", outside=web_agent.outside)
    forger = PrivateKey.generate("X25519")
    method = VerificationMethod(f"{me.did}#k", forger.public)
    thief = Documented(me.did, {method.kid: forger}, DIDDocument(me.did, (method,)))
    alice = Client(http, mediator.did, thief)
    status, body = await alice.post(alice.pack(mediation.mediate_request(), return_route="all"))
    assert status == 400 and b"e.p.trust.crypto" in body


async def test_a_did_web_that_nobody_serves_is_told(near: Running, http: aiohttp.ClientSession) -> None:
    key = PrivateKey.generate("X25519")
    did = "did:web:nowhere.invalid"
    method = VerificationMethod(f"{did}#k", key.public)
    alice = Client(http, near.did, Documented(did, {method.kid: key}, DIDDocument(did, (method,))))
    status, body = await alice.post(alice.pack(PING))
    assert status == 400 and b"e.p.did.unresolvable" in body
