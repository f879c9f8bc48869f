"""relay/1.0 with the second implementation: a link runs through our mediator, dialled from both sides."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from interop_parts import PATIENCE, Child, Json
from js_session_parts import JS, blocks, find_node
from mediated import OurMailbox

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.did import DIDDocument, resolve
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.errors import SessionError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import relay_control
from didmpc.protocols.relay import hop
from didmpc.protocols.session.handshake import ACCEPT, OPEN, WIRE_BINARY, Initiation, Party, respond
from didmpc.protocols.session.link import Closed, Data, Link
from didmpc.protocols.session.packet import PacketOpener, PacketSealer

CHANNEL = 9
COMPUTATION = {"attempt": "a", "manifest_sha256": "00" * 32, "pid_i": 0, "pid_r": 1}


node = pytest.fixture(scope="session")(find_node)


class OurEnd:
    """A link of ours on the near end of a channel: a WebSocket, a hop session, one channel."""

    def __init__(self, link: Link, capability: bytes) -> None:
        self.link = link
        self.data = bytearray()
        self.closed = False
        self._capability = capability
        self._rebind_key = PrivateKey.generate("Ed25519")
        self._credit = 0
        self.reasons: list[hop.UnboundReason] = []

    async def dial(self, http: aiohttp.ClientSession, mediator: DIDDocument, url: str) -> None:
        self._ws = await http.ws_connect(url, max_msg_size=1 << 20)
        me = Identity.key()
        opening = Message(type=OPEN, body={}, from_=me.did, to=(mediator.did,), return_route="all")
        initiation = Initiation(Party.of(me), Party.of(mediator), opening.id)
        opening.body.update(initiation.body)
        await self._ws.send_str(pack_authcrypt(opening, me, mediator).decode())
        answer = unpack((await self._ws.receive_str()).encode(), Identities(me))
        session = initiation.finish(answer.message.body)
        self._sealer = PacketSealer(session.secret_send, session.sid_out, ordered=True)
        self._opener = PacketOpener(session.secret_receive, session.sid_in)
        bind = hop.bind(CHANNEL, self._capability, self._rebind_key, session.exporter)
        await self._say(hop.encode_bind(bind))

    async def _say(self, frame: bytes) -> None:
        await self._ws.send_bytes(self._sealer.seal(frame))

    async def run(self) -> None:
        """Until the socket ends."""
        while not self._ws.closed:
            with contextlib.suppress(TimeoutError):
                packet = await self._ws.receive_bytes(timeout=0.05)
                self._take(hop.decode(self._opener.open(packet)))
            await self.speak()

    def _take(self, frame: hop.Frame) -> None:
        match frame:
            case hop.Bound():
                self._credit = frame.credit
                self.link.path_up(time.monotonic())
            case hop.Credit():
                self._credit += frame.bytes
            case hop.Unbound():
                self.reasons.append(frame.reason)
                self._credit = 0
                self.link.path_down(time.monotonic())
            case hop.Data():
                with contextlib.suppress(SessionError):  # it may have been sealed for the path as it was
                    for event in self.link.receive(frame.packet, time.monotonic()):
                        if isinstance(event, Data):
                            self.data += event.data
                        self.closed |= isinstance(event, Closed)

    async def speak(self) -> None:
        if self._credit > 0:
            for packet in self.link.packets(time.monotonic(), self._credit):
                self._credit -= len(packet)
                await self._say(hop.encode_data(CHANNEL, packet))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_link_runs_through_our_mediator_and_survives_a_broken_socket(
    node: str,
    mediator: Json,
    tmp_path: Path,
) -> None:
    account = await asyncio.to_thread(OurMailbox, mediator["did"])
    request = relay_control.channel_create(1, int(time.time()) + 600)
    (channel,) = relay_control.parse_channel_created(await asyncio.to_thread(account._ask, request))
    document = resolve(mediator["did"])
    (url,) = [service.uri for service in document.services if service.uri.startswith("ws")]
    command = [node, "--no-warnings", "--experimental-websocket", "peer.mjs"]
    with Child(command, tmp_path / "log", JS) as child:

        async def ask(name: str, **options: Any) -> Json:
            child.tell({"do": name, **options})
            answer = await asyncio.to_thread(child.hear)
            assert "failed" not in answer, answer["failed"]
            return answer

        me, peer = Identity.peer4(), resolve((await ask("identity"))["did"])
        asked = await ask(
            "open", peer=me.did, wires=[WIRE_BINARY], link=COMPUTATION, expires_time=int(time.time()) + 60
        )
        opened = unpack(json.dumps(asked["envelope"]).encode(), Identities(me)).message
        far = {"type": "relay/1.0", "mediator": mediator["did"], "capability": b64url(channel.far)}
        body, session = respond(
            Party.of(me), Party.of(peer), opened.id, opened.body, link=COMPUTATION, caps=[far]
        )
        accept = opened.reply(ACCEPT, body)
        envelope = json.loads(pack_authcrypt(accept, me, peer))
        await ask("message", envelope=envelope, peer=me.did, wires=[], link=COMPUTATION, now=0)

        ours = OurEnd(Link(session, now=time.monotonic()), channel.near)
        async with aiohttp.ClientSession() as http:
            await ours.dial(http, document, url)
            running = asyncio.create_task(ours.run())
            await ask("dial", url=url)
            out, back = blocks("out", 40), blocks("back", 40)
            received = bytearray()

            async def collect() -> Json:
                taken = await ask("taken")
                for event in taken["events"]:
                    if event["type"] == "data":
                        received.extend(bytes.fromhex(event["data"]))
                return taken

            for sent, (there, here) in enumerate(zip(out, back, strict=True)):
                ours.link.send(1, there)
                await ask("send", start=1, data=here.hex())
                if sent == 20:
                    await until(lambda: len(ours.data) > 0)
                    await ask("hang_up")
                    await until(lambda: ours.reasons == [hop.UnboundReason.LEFT])
                    await ask("dial", url=url)
            ours.link.close()
            await ask("close")
            await until(lambda: ours.closed)
            async with asyncio.timeout(PATIENCE):
                while not (taken := await collect())["settled"] or ours.link.unacknowledged:
                    await asyncio.sleep(0.02)
            assert taken["bound"] == 2, "once at first, and again with the same key on a new socket"
            assert ours.data == b"".join(back)
            assert received == b"".join(out)
            running.cancel()
