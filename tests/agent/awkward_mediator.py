"""A mediator in memory that can be made to misbehave: the real one is too well-behaved for some tests."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from didmpc.protocols.did import Service, canonical, resolve
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import discover_features, mediation, pickup, routing, trust_ping
from didmpc.protocols.messages.discover_features import Feature
from didmpc.protocols.messages.out_of_band import Invitation


@dataclass
class Box:
    """What is held for one account."""

    did: str
    dids: dict[str, str] = field(default_factory=dict)
    mail: dict[str, bytes] = field(default_factory=dict)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)


class AwkwardMediator:
    """Start it with `start`; the switches are its public attributes."""

    def __init__(self) -> None:
        self.refuse_posts: list[int] = []  # HTTP statuses for the next posts
        self.posts = 0
        self.ignore: Callable[[Message], bool] = lambda message: False
        self.live = True
        self.acknowledged: list[str] = []
        self.boxes: dict[str, Box] = {}
        self._number = 0
        self._server: TestServer | None = None
        self.identity: Identity

    async def start(self) -> str:
        """Listen; returns the DID."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/", self._post)
        app.router.add_get("/", self._page)
        app.router.add_get("/ws", self._websocket)
        self._server = TestServer(app)
        await self._server.start_server()
        url = str(self._server.make_url("")).rstrip("/")
        self.identity = Identity.peer2((Service(url), Service(url.replace("http", "ws") + "/ws")))
        return self.identity.did

    async def close(self) -> None:
        if self._server is not None:
            await self.hang_up()
            await self._server.close()

    def invitation(self) -> str:
        goal = {"goal_code": "request-mediate", "goal": "Mediate"}
        return Invitation(from_=self.identity.did, **goal).to_url("http://127.0.0.1/")

    async def hang_up(self) -> None:
        """Break every WebSocket."""
        for box in self.boxes.values():
            for socket in list(box.sockets):
                await socket.close()

    def registered(self) -> set[str]:
        return {did for box in self.boxes.values() for did in box.dids}

    async def deliver(self, envelope: bytes, did: str) -> str:
        """Put an envelope into the box of a DID, as if it had been posted."""
        for account, box in self.boxes.items():
            if canonical(did) in box.dids:
                self._number += 1
                name = str(self._number)
                box.mail[name] = envelope
                if self.live:
                    await self.push(account, [name])
                return name
        raise KeyError(did)

    async def push(self, account: str, names: list[str]) -> None:
        box = self.boxes[account]
        for socket in box.sockets:
            message = pickup.delivery(
                [(name, box.mail[name]) for name in names], from_=self.identity.did, to=box.did
            )
            await self._send(socket, message)

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text="a mediator")

    async def _post(self, request: web.Request) -> web.Response:
        self.posts += 1
        if self.refuse_posts:
            return web.Response(status=self.refuse_posts.pop(0))
        unpacked = unpack(await request.read(), Identities(self.identity))
        forward = routing.parse_forward(unpacked.message)
        try:
            for envelope in forward.envelopes:
                await self.deliver(envelope, forward.next)
        except KeyError:
            return web.Response(status=202)
        return web.Response(status=202)

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        account: str | None = None
        try:
            async for frame in socket:
                if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                data = frame.data.encode() if isinstance(frame.data, str) else frame.data
                unpacked = unpack(data, Identities(self.identity))
                assert unpacked.sender is not None
                account = canonical(unpacked.sender)
                self.boxes.setdefault(account, Box(unpacked.sender))
                if self.ignore(unpacked.message):
                    continue
                answer = self._answer(account, unpacked.message, socket)
                if answer is not None:
                    await self._send(socket, answer)
        finally:
            if account is not None and socket in self.boxes[account].sockets:
                self.boxes[account].sockets.remove(socket)
        return socket

    def _answer(self, account: str, message: Message, socket: web.WebSocketResponse) -> Message | None:
        box = self.boxes[account]
        match message.type:
            case mediation.MEDIATE_REQUEST:
                return mediation.mediate_grant(message, self.identity.did)
            case mediation.KEYLIST_UPDATE:
                outcome = []
                for update in mediation.parse_keylist_update(message):
                    did = canonical(update.recipient_did)
                    if update.action == "add":
                        box.dids[did] = update.recipient_did
                    else:
                        box.dids.pop(did, None)
                    outcome.append(mediation.Updated(update.recipient_did, update.action, "success"))
                return mediation.keylist_update_response(message, outcome)
            case mediation.KEYLIST_QUERY:
                return mediation.keylist(
                    message, list(box.dids.values()), mediation.parse_keylist_query(message)
                )
            case discover_features.QUERIES:
                return discover_features.disclose(message, [Feature("protocol", pickup.PROTOCOL)])
            case trust_ping.PING:
                return trust_ping.respond(message)
            case pickup.LIVE_DELIVERY_CHANGE:
                box.sockets.append(socket)
            case pickup.DELIVERY_REQUEST:
                limit = pickup.parse_delivery_request(message).limit
                if box.mail:
                    return pickup.delivery(list(box.mail.items())[:limit], request=message)
            case pickup.MESSAGES_RECEIVED:
                for name in pickup.parse_messages_received(message):
                    self.acknowledged.append(name)
                    box.mail.pop(name, None)
        return pickup.status(message, pickup.Status(len(box.mail), live_delivery=self.live))

    async def _send(self, socket: web.WebSocketResponse, message: Message) -> None:
        addressed = replace(message, from_=self.identity.did)
        envelope = pack_authcrypt(addressed, self.identity, resolve(message.to[0]))
        with contextlib.suppress(ConnectionError):  # a socket that is just going away
            await socket.send_str(envelope.decode())
