"""Wallets whose DIDs are of every kind: each registers, receives and picks up."""

import asyncio
import base64
import hashlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from mediator_parts import PATIENCE, SMALL, Client, Documented, in_short_form

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home, Settings
from didmpc.mediator.resolving.dialing import Outside
from didmpc.protocols import did as dids
from didmpc.protocols import jwt
from didmpc.protocols.crypto.keys import Curve, PrivateKey
from didmpc.protocols.did import Service, canonical
from didmpc.protocols.did.document import from_json
from didmpc.protocols.envelope import pack_anoncrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.messages import mediation, pickup, trust_ping
from didmpc.protocols.messages.routing import FORWARD, forward, route

WALLET = "wallet.example"


async def is_served(client: Client, sender: Client, recipient: Identity) -> None:
    """Everything a wallet wants of a mediator, with `recipient` as the DID that others write to."""
    assert (await client.ask(mediation.mediate_request())).type == mediation.MEDIATE_GRANT
    assert await client.register(recipient.did) == ["success"]
    listed = mediation.parse_keylist(await client.ask(mediation.keylist_query()))
    assert recipient.did in listed.recipient_dids
    envelope = pack_anoncrypt(trust_ping.ping(sender.identity.did, recipient.did), recipient.document)
    assert await sender.send(recipient.did, envelope) == 202
    ((name, body),) = await client.fetch()
    assert body == envelope
    assert unpack(body, Identities(recipient)).message.type == trust_ping.PING
    await client.acknowledge(name)
    async with client.line() as line:
        await line.go_live()
        assert await sender.send(recipient.did, b'{"pushed":1}') == 202
        ((name, body),) = await line.pushed()
        assert body == b'{"pushed":1}'
        await line.acknowledge(name)
        assert (await line.hear()).type == pickup.STATUS
    assert await client.waiting() == 0


def peer2(*services: str) -> Identity:
    """A did:peer:2 that begins with its X25519 key, with service segments as they stand there."""
    keys = [PrivateKey.generate("X25519"), PrivateKey.generate("Ed25519")]
    did = f"did:peer:2.E{keys[0].public.multikey()}.V{keys[1].public.multikey()}" + "".join(services)
    return Identity(did, {f"{did}#key-{number}": key for number, key in enumerate(keys, start=1)})


def segment(value: object) -> str:
    return ".S" + base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def new_form(mediator: str) -> Identity:
    return peer2(segment({"t": "dm", "s": {"uri": mediator, "a": ["didcomm/v2"], "r": []}}))


def old_form(mediator: str) -> Identity:
    return peer2(segment({"t": "dm", "s": mediator, "r": [], "a": ["didcomm/v2"]}))


def array_form(mediator: str) -> Identity:
    return peer2(segment([{"t": "dm", "s": mediator, "a": ["didcomm/v2"]}]))


def ed25519_key(mediator: str) -> Identity:
    """A did:key of Ed25519, which agrees by the X25519 key that derives from it."""
    signing = PrivateKey.generate("Ed25519")
    agreeing = PrivateKey("X25519", hashlib.sha512(signing.raw).digest()[:32])
    did = dids.key.create(signing.public)
    keys = {f"{did}#{key.public.multikey()}": key for key in (signing, agreeing)}
    return Identity(did, keys)


KINDS: dict[str, Callable[[str], Identity]] = {
    "did:peer:2": new_form,
    "did:peer:2, old services": old_form,
    "did:peer:2, services in an array": array_form,
    "did:peer:2 without a service": lambda mediator: Identity.peer2(),
    "did:peer:4": lambda mediator: Identity.peer4((Service(mediator),)),
    "did:key of X25519": lambda mediator: Identity.key(),
    "did:key of Ed25519": ed25519_key,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wallet_is_served_under_any_did(
    mediator: Running, http: aiohttp.ClientSession, bob: Client, kind: str
) -> None:
    make = KINDS[kind]
    client = Client(http, mediator.did, make(mediator.did))
    await is_served(client, bob, make(mediator.did))
    await is_served(Client(http, mediator.did, make(mediator.did)), bob, client.identity)


async def test_a_did_with_this_mediator_as_its_service_is_routed_to(
    mediator: Running, http: aiohttp.ClientSession, alice: Client, bob: Client
) -> None:
    for kind in ("did:peer:2", "did:peer:2, old services", "did:peer:2, services in an array", "did:peer:4"):
        recipient = KINDS[kind](mediator.did)
        await alice.register(recipient.did)
        outbound = route(b'{"n":1}', recipient.document)
        assert outbound.uri == alice.url
        assert await bob.post(outbound.envelope) == (202, b"")
        await alice.acknowledge(*(name for name, _ in await alice.fetch()))


# --- curves


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
@pytest.mark.parametrize("kind", ["did:peer:2", "did:peer:4", "did:key"])
async def test_a_wallet_with_keys_of_one_nist_curve_alone_is_served(
    mediator: Running, http: aiohttp.ClientSession, bob: Client, curve: Curve, kind: str
) -> None:
    """By a DID of the mediator of its own, since there are wallets that cannot read one with such a key."""
    make = {
        "did:peer:2": lambda: Identity.peer2(curves=(curve,)),
        "did:peer:4": lambda: Identity.peer4(curves=(curve,)),
        "did:key": lambda: Identity.key(curve),
    }[kind]
    client = Client(http, nist_did(mediator), make())
    await is_served(client, bob, make())
    grant = await client.ask(mediation.mediate_request(version=mediation.V3))
    assert mediation.parse_mediate_grant(grant) == nist_did(mediator)  # its senders can use it
    await is_served(bob, client, Identity.peer4())


async def test_an_account_is_one_behind_both_dids_of_the_mediator(
    mediator: Running, http: aiohttp.ClientSession, bob: Client
) -> None:
    both = Identity.peer4(curves=("P-256", "X25519"))
    one, other = Client(http, mediator.did, both), Client(http, nist_did(mediator), both)
    await one.enrol()
    did = await one.new_did()
    await bob.send(did, b'{"n":1}')
    assert await other.register(did) == ["no_change"]
    assert [body for _, body in await other.fetch()] == [b'{"n":1}']
    envelope = pack_anoncrypt(forward(did, [b'{"n":2}'], other.mediator.did), other.mediator, "A256GCM")
    assert await bob.post(envelope) == (202, b"")
    assert await one.waiting() == 2


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
@pytest.mark.parametrize("enc", ["A256CBC-HS512", "A256GCM", "XC20P"])
async def test_anonymous_forwards_come_on_every_curve_in_every_encryption(
    mediator: Running, alice: Client, curve: Curve, enc: str
) -> None:
    did, document = await alice.new_did(), dids.resolve(nist_did(mediator))
    kid = next(method.kid for method in document.key_agreement if method.public.curve == curve)
    envelope = pack_anoncrypt(forward(did, [b'{"n":1}'], document.did), document, enc, kid)
    assert await alice.post(envelope) == (202, b"")
    assert [body for _, body in await alice.fetch()] == [b'{"n":1}']


def test_a_mediator_from_before_keeps_its_did() -> None:
    keys = tuple(PrivateKey.generate(curve) for curve in ("Ed25519", "X25519"))
    before = replace(Settings.new(), keys=keys, url="https://m.example")
    again = Settings.from_json(json.loads(json.dumps(before.to_json())))
    assert (again.identity.did, again.nist_identity) == (before.identity.did, None)


def nist_did(mediator: Running) -> str:
    identity = mediator.settings.nist_identity
    assert identity is not None
    return identity.did


# --- did:peer:4: two forms, one party


async def test_the_short_form_of_a_sender_is_known_after_a_restart(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home = Home(tmp_path / "mediator")
    async with running(home, port=0, limits=SMALL) as mediator:
        by_long = await Client(http, mediator.did).enrol()
        by_short = Client(http, mediator.did)
        await by_short.ask(trust_ping.ping("", ""))  # seen in long form, then enrolled by the short one
        by_short.identity = in_short_form(by_short.identity)
        await by_short.enrol()
        dids_ = [await client.new_did() for client in (by_long, by_short)]
        port = mediator.settings.port
    by_long.identity = in_short_form(by_long.identity)
    async with running(home, port=port, limits=SMALL):
        for client, did in zip((by_long, by_short), dids_, strict=True):
            assert await client.send(canonical(did), b'{"n":1}') == 202
            assert [body for _, body in await client.fetch()] == [b'{"n":1}']
            assert await client.register(canonical(did)) == ["no_change"]


async def test_a_short_form_that_was_never_seen_is_refused(
    mediator: Running, http: aiohttp.ClientSession
) -> None:
    stranger = Client(http, mediator.did)
    stranger.identity = in_short_form(stranger.identity)
    status, body = await stranger.post(stranger.pack(mediation.mediate_request(), return_route="all"))
    assert (status, json.loads(body)["code"]) == (400, "e.p.did.unresolvable")


async def test_both_forms_are_one_key(alice: Client, bob: Client) -> None:
    did = Identity.peer4().did
    assert await alice.register(did) == ["success"]
    assert await alice.register(canonical(did)) == ["no_change"]
    assert await bob.register(canonical(did), did) == ["client_error", "client_error"]
    removal = await alice.ask(mediation.keylist_update([(canonical(did), "remove")]))
    assert mediation.parse_keylist_update_response(removal)[0].result == "success"
    assert await bob.register(canonical(did)) == ["success"]
    assert await alice.send(did, b"{}") == 202


# --- did:web


class Names(AbstractResolver):
    """Finds the wallet's host on this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        assert host == WALLET
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=6, flags=0)]

    async def close(self) -> None:
        pass


class WebWallet:
    """A wallet's own web server, with the documents of its DIDs."""

    def __init__(self, port: int, authority: trustme.CA) -> None:
        self.host = f"did:web:{WALLET}%3A{port}"
        self.documents: dict[str, dict[str, object]] = {}
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.tls = ssl.create_default_context()
        authority.configure_trust(self.tls)

    def identity(self, name: str) -> Identity:
        """A DID that anyone can resolve from now on."""
        private = Identity.peer4()
        keys = list(private.keys.values())
        did = f"{self.host}:{name}"
        methods = [
            {
                "id": f"{did}#key-{number}",
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": key.public.multikey(),
            }
            for number, key in enumerate(keys, start=1)
        ]
        document: dict[str, object] = {
            "@context": ["https://www.w3.org/ns/did/v1"],
            "id": did,
            "verificationMethod": methods,
            "keyAgreement": [f"{did}#key-1"],
            "authentication": [f"{did}#key-2"],
        }
        self.documents[name] = document
        named = {f"{did}#key-{number}": key for number, key in enumerate(keys, start=1)}
        return Documented(did, named, from_json(did, document))


@pytest.fixture
async def web_wallet() -> AsyncIterator[WebWallet]:
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(WALLET).configure_cert(server_tls)
    wallet: WebWallet

    async def give(request: web.Request) -> web.Response:
        wallet.asked.append(request.match_info["name"])
        await wallet.answers.wait()
        return web.json_response(wallet.documents[request.match_info["name"]])

    app = web.Application()
    app.router.add_get("/{name}/did.json", give)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls)
    await site.start()
    wallet = WebWallet(runner.addresses[0][1], authority)
    yield wallet
    await runner.cleanup()


async def test_a_did_web_is_served(
    tmp_path: Path, http: aiohttp.ClientSession, web_wallet: WebWallet
) -> None:
    outside = Outside(names=Names(), tls=web_wallet.tls)
    async with running(Home(tmp_path / "mediator"), port=0, limits=SMALL, outside=outside) as mediator:
        bob = await Client(http, mediator.did).enrol()
        account, recipient = web_wallet.identity("account"), web_wallet.identity("recipient")
        await is_served(Client(http, mediator.did, account), bob, recipient)


async def test_who_waits_for_a_slow_web_server_holds_up_nobody_else(
    tmp_path: Path, http: aiohttp.ClientSession, web_wallet: WebWallet
) -> None:
    outside = Outside(names=Names(), tls=web_wallet.tls)
    limits = replace(SMALL, handled_at_once=2)
    async with (
        running(Home(tmp_path / "mediator"), port=0, limits=limits, outside=outside) as mediator,
        asyncio.TaskGroup() as group,
    ):
        clients = [await Client(http, mediator.did).enrol() for _ in range(4)]
        web_wallet.answers.clear()
        waiting = [group.create_task(claim_for_the_web(client, web_wallet)) for client in clients]
        async with asyncio.timeout(PATIENCE):
            while len(web_wallet.asked) < len(clients):
                await asyncio.sleep(0.01)
            answer = await (await Client(http, mediator.did).enrol()).ask(trust_ping.ping("", ""))
        assert answer.type == trust_ping.PING_RESPONSE
        assert not any(task.done() for task in waiting)
        web_wallet.answers.set()
    assert [task.result() for task in waiting] == [["success"]] * 4


async def claim_for_the_web(client: Client, wallet: WebWallet) -> list[str]:
    recipient = wallet.identity(f"of-{canonical(client.identity.did)[-8:]}")
    proof = jwt.sign(
        recipient,
        {
            "iss": recipient.did,
            "sub": client.identity.did,
            "aud": client.mediator.did,
            "iat": int(time.time()),
        },
    )
    update = mediation.keylist_update([mediation.Update(recipient.did, "add", proof)])
    answer = await client.ask(update)
    return [item.result for item in mediation.parse_keylist_update_response(answer)]


async def test_proofs_make_the_mediator_ask_only_few_servers_and_none_but_the_dids_own(
    tmp_path: Path, http: aiohttp.ClientSession, web_wallet: WebWallet
) -> None:
    outside = Outside(names=Names(), tls=web_wallet.tls)
    limits = replace(SMALL, keys_per_account=100)
    async with running(Home(tmp_path / "mediator"), port=0, limits=limits, outside=outside) as mediator:
        client = await Client(http, mediator.did).enrol()
        dids_ = [web_wallet.identity(f"{number}").did for number in range(30)]
        signer = Identity.peer4()
        elsewhere = jwt.sign(signer, {"iss": dids_[0], "sub": "x"}, kid=f"{web_wallet.host}:other#key-2")
        updates = [mediation.Update(Identity.peer4().did, "add", elsewhere) for _ in range(10)]
        for did in dids_:
            forged = jwt.sign(signer, {"iss": did, "sub": client.identity.did}, kid=f"{did}#key-2")
            updates.append(mediation.Update(did, "add", forged))
        answer = await client.ask(mediation.keylist_update(updates))
        assert len(mediation.parse_keylist_update_response(answer)) == 40
        assert len(web_wallet.asked) == 8 and "other" not in web_wallet.asked


# --- content encryption


@pytest.mark.parametrize("enc", ["A256CBC-HS512", "A256GCM", "XC20P"])
async def test_forwards_come_in_every_content_encryption(alice: Client, bob: Client, enc: str) -> None:
    did = await alice.new_did()
    message = forward(did, [b'{"n":1}'], bob.mediator.did)
    assert await bob.post(pack_anoncrypt(message, bob.mediator, enc)) == (202, b"")
    assert [body for _, body in await alice.fetch()] == [b'{"n":1}']


# --- forwards


async def test_no_forward_is_answered_whatever_it_asks_for(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    asking = replace(forward(did, [b'{"n":1}'], bob.mediator.did), please_ack=("",), return_route="all")
    assert asking.type == FORWARD
    assert await bob.post(pack_anoncrypt(asking, bob.mediator)) == (202, b"")
    assert await bob.post(bob.pack(replace(asking, attachments=asking.attachments), return_route="all")) == (
        202,
        b"",
    )
    async with bob.line() as line:
        await line.ws.send_str(pack_anoncrypt(asking, bob.mediator).decode())
        assert await line.stays_silent()
