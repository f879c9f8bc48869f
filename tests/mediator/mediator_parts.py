"""What tests of the mediator need: an account that talks to it, and a leg of its relay."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from didmpc.mediator.limits import KIB, Limits
from didmpc.mediator.relay import legs, relay
from didmpc.protocols import did as dids
from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.did import DIDDocument, Service, canonical
from didmpc.protocols.envelope import Unpacked, pack_anoncrypt, pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import ENCRYPTED, Message
from didmpc.protocols.messages import mediation, pickup, problem_report, relay_control
from didmpc.protocols.messages.routing import forward
from didmpc.protocols.relay import hop
from didmpc.protocols.session.handshake import OPEN, Initiation, Party
from didmpc.protocols.session.packet import PacketOpener, PacketSealer, inside, unsealed

SMALL = Limits(
    message_bytes=256 * KIB,
    forward_bytes=128 * KIB,
    keys_per_account=4,
    mailbox_messages=12,
    mailbox_bytes=512 * KIB,
    delivery_messages=3,
    live_messages=6,
    channels_per_account=8,
    channels_per_leg=3,
    credit_bytes=64 * KIB,
    faults_per_socket=3,
)
"""Limits that tests can reach."""

PATIENCE = 60.0
SHORT_WHILE = 0.15
"""How long something that must not happen is waited for."""


def code_of(message: Message) -> str:
    """The code of a problem report."""
    return problem_report.parse(message).code


class Documented(Identity):
    """An identity whose document stands elsewhere than in its DID."""

    def __init__(self, did: str, keys: Mapping[str, PrivateKey], document: DIDDocument) -> None:
        super().__init__(did, keys)
        object.__setattr__(self, "_document", document)

    @property
    def document(self) -> DIDDocument:
        document: DIDDocument = self._document  # type: ignore[attr-defined]
        return document


def in_short_form(identity: Identity) -> Identity:
    """The same did:peer:4, as one writes that takes its long form to be known."""
    short = canonical(identity.did)
    keys = {kid.replace(identity.did, short): key for kid, key in identity.keys.items()}
    return Documented(short, keys, dids.resolve(short, lambda _: identity.did))


class Client:
    """An account at a mediator: asks over HTTP, or on a `Line`."""

    def __init__(
        self, http: aiohttp.ClientSession, mediator_did: str, identity: Identity | None = None
    ) -> None:
        self.http = http
        self.mediator = dids.resolve(mediator_did)
        self.identity = identity or Identity.peer4()
        self.secrets = Identities(self.identity)
        self.url, self.ws_url = (service.uri for service in self.mediator.services)

    def pack(self, message: Message, **headers: Any) -> bytes:
        addressed = replace(message, from_=self.identity.did, to=(self.mediator.did,), **headers)
        return pack_authcrypt(addressed, self.identity, self.mediator)

    def unpack(self, envelope: bytes) -> Unpacked:
        unpacked = unpack(envelope, self.secrets)
        assert dids.same_party(unpacked.sender or unpacked.signer or "", self.mediator.did)
        return unpacked

    async def post(self, envelope: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": ENCRYPTED}
        async with self.http.post(self.url, data=envelope, headers=headers) as response:
            return response.status, await response.read()

    async def ask(self, message: Message, **headers: Any) -> Message:
        status, body = await self.post(self.pack(message, return_route="all", **headers))
        assert status == 200, body
        return self.unpack(body).message

    async def enrol(self) -> Self:
        await self.ask(mediation.mediate_request())
        return self

    async def register(self, *dids_: str) -> list[str]:
        """Add DIDs to the key list; what became of each."""
        answer = await self.ask(mediation.keylist_update([(did, "add") for did in dids_]))
        return [item.result for item in mediation.parse_keylist_update_response(answer)]

    async def new_did(self) -> str:
        did = Identity.peer4((Service(self.mediator.did),)).did
        assert await self.register(did) == ["success"]
        return did

    def forward(self, to: str, *envelopes: bytes, **options: Any) -> bytes:
        return pack_anoncrypt(forward(to, envelopes, self.mediator.did, **options), self.mediator)

    async def send(self, to: str, *envelopes: bytes, **options: Any) -> int:
        status, _ = await self.post(self.forward(to, *envelopes, **options))
        return status

    async def waiting(self) -> int:
        return pickup.parse_status(await self.ask(pickup.status_request())).message_count

    async def fetch(self, limit: int = 10) -> list[tuple[str, bytes]]:
        answer = await self.ask(pickup.delivery_request(limit))
        return list(pickup.parse_delivery(answer).messages) if answer.type == pickup.DELIVERY else []

    async def acknowledge(self, *names: str) -> None:
        await self.ask(pickup.messages_received(names))

    async def channels(self, count: int = 1) -> list[relay_control.Channel]:
        answer = await self.ask(relay_control.channel_create(count, int(time.time()) + 3600))
        return list(relay_control.parse_channel_created(answer))

    @contextlib.asynccontextmanager
    async def line(self) -> AsyncIterator["Line"]:
        async with self.http.ws_connect(self.ws_url, compress=0, max_msg_size=0) as ws:
            yield Line(self, ws)


class Line:
    """A WebSocket of a client."""

    def __init__(self, client: Client, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.client = client
        self.ws = ws

    async def tell(self, message: Message, **headers: Any) -> None:
        await self.ws.send_str(self.client.pack(message, **{"return_route": "all", **headers}).decode())

    async def hear(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            text = await self.ws.receive_str()
        return self.client.unpack(text.encode()).message

    async def ask(self, message: Message, **headers: Any) -> Message:
        await self.tell(message, **headers)
        return await self.hear()

    async def go_live(self) -> pickup.Status:
        return pickup.parse_status(await self.ask(pickup.live_delivery_change(True)))

    async def pushed(self) -> list[tuple[str, bytes]]:
        message = await self.hear()
        assert message.type == pickup.DELIVERY
        return list(pickup.parse_delivery(message).messages)

    async def acknowledge(self, *names: str) -> None:
        """Acknowledge; the status that answers it may come after mail that is pushed meanwhile."""
        await self.tell(pickup.messages_received(names), return_route="all")

    async def stays_silent(self) -> bool:
        try:
            await self.ws.receive(timeout=SHORT_WHILE)
        except TimeoutError:
            return True
        return False


class Leg:
    """A hop session under a throwaway DID, and the frames on it."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.rebind_key = PrivateKey.generate("Ed25519")
        self.exporter = b""
        self._sealer: PacketSealer
        self._opener: PacketOpener

    async def open(self, mediator_did: str) -> Self:
        me, mediator = Identity.key(), dids.resolve(mediator_did)
        request = Message(type=OPEN, from_=me.did, to=(mediator.did,), return_route="all")
        initiation = Initiation(Party.of(me), Party.of(mediator), request.id, link={})
        request.body.update(initiation.body)
        await self.ws.send_str(pack_authcrypt(request, me, mediator).decode())
        answer = unpack((await self.ws.receive_str(timeout=PATIENCE)).encode(), Identities(me))
        established = initiation.finish(answer.message.body)
        self.exporter = established.exporter
        self._sealer = PacketSealer(established.secret_send, established.sid_out, ordered=True)
        self._opener = PacketOpener(established.secret_receive, established.sid_in)
        return self

    async def send(self, frame: bytes) -> None:
        await self.ws.send_bytes(self._sealer.seal(frame))

    async def hear(self) -> hop.Frame:
        async with asyncio.timeout(PATIENCE):
            return hop.decode(self._opener.open(await self.ws.receive_bytes()))

    async def bind(self, number: int, capability: bytes) -> None:
        frame = hop.bind(number, capability, self.rebind_key, self.exporter)
        await self.send(hop.encode_bind(frame))

    async def data(self, number: int, packet: bytes) -> None:
        await self.send(hop.encode_data(number, packet))

    async def synchronise(self) -> None:
        """Wait until everything sent so far was acted on; nothing else may come meanwhile."""
        await self.send(hop.encode_ping(b"12345678"))
        assert await self.hear() == hop.Pong(b"12345678")


def pass_on(through: relay.Relay, leg: legs.Leg, frame: bytes) -> None:
    """As when a packet with this frame came on the leg."""
    packet = unsealed(frame)
    through.pass_on(leg, packet, inside(packet), time.monotonic())


async def figures(http: aiohttp.ClientSession, url: str) -> dict[str, float]:
    """What `/metrics` says, without the prefix that all have."""
    async with http.get(f"{url}/metrics") as response:
        assert response.status == 200, await response.text()
        return {
            sample.name.removeprefix("didmpc_mediator_") + "".join(f" {v}" for v in sample.labels.values()): (
                sample.value
            )
            for family in text_string_to_metric_families(await response.text())
            for sample in family.samples
        }


class Process:
    """`didmpc mediator start` as a process that can be killed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ready: dict[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *options: str) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "didmpc.mediator.cli", "start", "--json", "--home", str(self.home)),
            *options,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            self.ready = json.loads(await self._process.stdout.readline())
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; the exit status, and what it said on stderr."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            _, said = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, said.decode()
