"""GET /ws: envelopes both ways, live delivery, and hop packets once a hop session is open.

A message that starts with `{` is an envelope, in text or binary frames alike; envelopes go out as text.
Anything else is a hop packet, once a hop session is open. Messages of one socket are handled one after
the other, so a peer that does not read its replies is not read either.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from math import inf

from aiohttp import WSCloseCode, WSMsgType, web

from didmpc.mediator.deliveries import Deliveries
from didmpc.mediator.limits import KIB, Buckets, Limits
from didmpc.mediator.relay import Leg, Relay
from didmpc.mediator.service import Service
from didmpc.protocols.errors import SessionError
from didmpc.protocols.message import Message
from didmpc.protocols.session.handshake import Established

log = logging.getLogger(__name__)

WRITE_BUFFER = 256 * KIB
"""Bytes in a socket's buffer from which writers wait."""
LOW_WATER = WRITE_BUFFER // 4
REMEMBERED_THREADS = 256
CLOSE_SECONDS = 2.0
"""How long a peer has to answer a close."""
PAUSE = 0.1
"""Seconds between looks whether an address is within its rate again."""
_JSON = ord("{")


class Socket:
    """One WebSocket: a `Connection` for the protocols, and perhaps a leg of the relay."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        address: str,
        *,
        service: Service,
        deliveries: Deliveries,
        relay: Relay,
        requests: Buckets,
        limits: Limits,
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._address = address
        self._service = service
        self._deliveries = deliveries
        self._relay = relay
        self._requests = requests
        self._limits = limits
        self._routes_all = False
        self._threads: OrderedDict[str, None] = OrderedDict()
        self._mediator: str | None = None
        """The DID of ours that was spoken to last."""
        self._faults = 0
        self._leg: Leg | None = None
        self._watching: asyncio.TimerHandle
        self._waits_since = time.monotonic()  # for the next message; `inf` while one is handled
        transport.set_write_buffer_limits(high=WRITE_BUFFER, low=LOW_WATER)

    async def run(self) -> None:
        """Serve until the socket ends."""
        self._watch()
        try:
            async for message in self._ws:
                self._waits_since = inf
                if message.type == WSMsgType.TEXT:
                    await self._envelope(message.data.encode())
                elif message.type == WSMsgType.BINARY:
                    await self._binary(message.data)
                elif message.type == WSMsgType.PING:
                    await self._ws.pong(message.data)
                self._waits_since = time.monotonic()
        except ConnectionError:
            pass  # it ended while a reply was being written
        finally:
            self._watching.cancel()
            self._deliveries.close(self)
            if self._leg is not None:
                self._relay.leave(self._leg)

    # --- Connection

    def wants(self, thread: str) -> bool:
        return self._routes_all or thread in self._threads

    def set_route(self, message: Message, mediator: str | None) -> None:
        self._mediator = mediator or self._mediator
        match message.return_route:
            case "all":
                self._routes_all = True
            case "none":
                self._routes_all = False
                self._threads.clear()
            case "thread":
                self._threads[message.thread] = None
                if len(self._threads) > REMEMBERED_THREADS:
                    self._threads.popitem(last=False)

    async def send(self, message: Message, to: str) -> None:
        await self._ws.send_str((await self._service.pack(message, to, self._mediator)).decode())

    def start_hop(self, established: Established) -> None:
        if self._leg is not None:
            self._relay.leave(self._leg)
        self._leg = Leg(
            established,
            write=self._ws.send_bytes,
            has_room=self._has_room,
            abort=self._abort,
            limits=self._limits,
            address=self._address,
        )
        self._relay.join(self._leg)

    # --- inner

    async def _binary(self, data: bytes) -> None:
        if self._leg is None or data[:1] == b"{":
            await self._envelope(data)
        else:
            try:
                await self._relay.receive(self._leg, data, time.time())
            except SessionError as error:
                # WebSockets keep order and content, so this is no accident of the network.
                await self._close(WSCloseCode.POLICY_VIOLATION, error.what)

    async def _envelope(self, envelope: bytes) -> None:
        while not self._requests.take(self._address, time.monotonic()):  # noqa: ASYNC110
            await asyncio.sleep(PAUSE)  # not read meanwhile: TCP holds the peer back
        answer = await self._service.handle(envelope, connection=self, address=self._address)
        if answer.reply is not None:
            await self._ws.send_str(answer.reply.decode())
        if answer.then is not None:
            answer.then()
        if answer.problem is not None:
            await self._fault(answer.problem.what)

    def _watch(self) -> None:
        """End a socket on which neither a whole message nor a pong comes while it is read.

        aiohttp's heartbeat asks a silent peer; one that says a byte now and then keeps it from asking.
        """
        patience = 1.5 * self._limits.heartbeat_seconds + self._limits.body_seconds
        if time.monotonic() - self._waits_since > patience:
            self._abort("sent no whole message in time")
        else:
            self._watching = asyncio.get_running_loop().call_later(patience / 2, self._watch)

    async def _fault(self, what: str) -> None:
        self._faults += 1
        if self._faults >= self._limits.faults_per_socket:
            await self._close(WSCloseCode.POLICY_VIOLATION, what)

    async def _close(self, code: int, reason: str) -> None:
        log.info("closing a WebSocket: %s", reason)
        # RFC 6455, section 5.5: a close frame holds at most 125 bytes, two of them the code.
        await self._ws.close(code=code, message=reason.encode()[:120])

    def _has_room(self, size: int) -> bool:
        """Whether so much more stays below the mark: then a write neither waits nor has others waiting."""
        return self._transport.get_write_buffer_size() + size <= LOW_WATER

    def _abort(self, reason: str) -> None:
        log.info("dropping a WebSocket: its peer %s", reason)
        self._transport.abort()


class WebSockets:
    """The handler of the route, and all sockets that are open."""

    def __init__(
        self, service: Service, deliveries: Deliveries, relay: Relay, requests: Buckets, limits: Limits
    ) -> None:
        self._service = service
        self._deliveries = deliveries
        self._relay = relay
        self._requests = requests
        self._limits = limits
        self._open: set[web.WebSocketResponse] = set()
        self._per_address: Counter[str] = Counter()

    async def handle(self, request: web.Request, address: str) -> web.StreamResponse:
        if self._per_address[address] >= self._limits.connections_per_address:
            raise web.HTTPTooManyRequests(headers={"Retry-After": "10"}, text="Too many connections.")
        ws = web.WebSocketResponse(
            heartbeat=self._limits.heartbeat_seconds,
            autoping=False,
            max_msg_size=self._limits.message_bytes,
            compress=False,
            timeout=CLOSE_SECONDS,
        )
        self._per_address[address] += 1
        try:
            await ws.prepare(request)
            transport = request.transport
            if transport is None:
                return ws
            self._open.add(ws)
            await Socket(
                ws,
                transport,
                address,
                service=self._service,
                deliveries=self._deliveries,
                relay=self._relay,
                requests=self._requests,
                limits=self._limits,
            ).run()
            return ws
        finally:
            self._open.discard(ws)
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    async def close(self) -> None:
        """Tell everybody that the mediator goes away, and that they may come back."""
        closing = [ws.close(code=WSCloseCode.GOING_AWAY, message=b"The mediator stops.") for ws in self._open]
        await asyncio.gather(*closing, return_exceptions=True)
