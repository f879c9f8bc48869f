"""GET /ws: envelopes both ways, live delivery, and hop packets once a hop session is open.

A message that starts with `{` is an envelope, in text or binary frames alike; envelopes go out as text.
Anything else is a hop packet, once a hop session is open. Messages of one socket are handled one after
the other, so a peer that does not read its replies is not read either.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from math import inf

from aiohttp import web

from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.metrics import Metrics
from didmpc.mediator.relay.legs import Leg
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.service.service import Service
from didmpc.mediator.sockets.batch import Batch
from didmpc.mediator.sockets.frames import BINARY, PING, PONG, TEXT, CloseCode, FrameError
from didmpc.mediator.sockets.upgrade import CLOSE_SECONDS, Incoming, WebSocket, upgrade
from didmpc.protocols.errors import SessionError
from didmpc.protocols.message import Message
from didmpc.protocols.relay import hop
from didmpc.protocols.session.handshake import Established

log = logging.getLogger(__name__)

REMEMBERED_THREADS = 256
PAUSE = 0.1
"""Seconds between looks whether an address is within its rate again."""
TRANSPORT = "websocket"
_OPENED = -1
"""The kind of a hop packet that was opened in place, as it was read."""


class Socket:
    """One WebSocket: a `Connection` for the protocols, and perhaps a leg of the relay."""

    def __init__(
        self,
        ws: WebSocket,
        address: str,
        *,
        service: Service,
        deliveries: Deliveries,
        relay: Relay,
        requests: Buckets,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._ws = ws
        self._address = address
        self._service = service
        self._deliveries = deliveries
        self._relay = relay
        self._requests = requests
        self._metrics = metrics
        self._limits = limits
        self._routes_all = False
        self._threads: OrderedDict[str, None] = OrderedDict()
        self._mediator: str | None = None
        """The DID of ours that was spoken to last."""
        self._faults = 0
        self._leg: Leg | None = None
        self._watching: asyncio.TimerHandle
        self._waits_since = time.monotonic()  # for the next message; `inf` while one is handled

    async def run(self) -> None:
        """Serve until the socket ends."""
        self._watch()
        try:
            while (message := await self._ws.receive()) is not None:
                self._waits_since = inf
                if message.kind == PING:
                    await self._ws.send(PONG, message.data)
                elif message.kind == _OPENED:
                    await self._hop(message.data)
                else:
                    await self._envelope(bytes(message.data))
                self._waits_since = time.monotonic()
            await self._say_goodbye()
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
        await self._send(await self._service.pack(message, to, self._mediator))

    def start_hop(self, established: Established) -> None:
        if self._leg is not None:
            self._relay.leave(self._leg)
        self._leg = Leg(
            established,
            write=self._ws.send_packet,
            write_now=self._ws.write_now,
            has_room=self._ws.has_room,
            abort=self._abort,
            limits=self._limits,
            address=self._address,
        )
        self._relay.join(self._leg)
        self._ws.show(self._packet)

    async def end(self, code: int, reason: str) -> None:
        """Close it, and say why."""
        await self._close(code, reason)

    def abort(self) -> None:
        """End it at once."""
        self._ws.abort()

    # --- inner

    async def _send(self, envelope: bytes) -> None:
        self._metrics.sent(TRANSPORT, len(envelope))
        try:
            async with asyncio.timeout(self._limits.write_seconds):
                await self._ws.send(TEXT, envelope)
        except TimeoutError:
            # It may well send something meanwhile, so that the heartbeat takes it for alive.
            self._abort("did not read in time")
            raise ConnectionError("the peer does not read") from None

    async def _say_goodbye(self) -> None:
        """Nothing more comes: the peer has closed, is gone, or sent what is no message."""
        fault = self._ws.fault
        if fault is None:
            await self._ws.close(CloseCode.OK, "")
            return
        if fault.code == CloseCode.TOO_BIG:
            self._metrics.limits_hit.labels("message-bytes").inc()
        await self._close(fault.code, fault.reason)

    def _packet(self, packet: bytearray) -> None:
        """See each binary message of a leg as it is read.

        A packet for another leg passes here, without a task or a queue in between, unless something that came
        before it still waits.
        """
        leg, ws = self._leg, self._ws
        if leg is None or packet.startswith(b"{"):
            ws.queue(Incoming(BINARY, packet))
            return
        try:
            frame = leg.open(packet)
        except SessionError as error:
            # WebSockets keep order and content, so this is no accident of the network.
            raise FrameError(CloseCode.POLICY_VIOLATION, error.what) from None
        if self._waits_since == inf or ws.waiting or not hop.is_data(frame):
            ws.queue(Incoming(_OPENED, packet))
        else:
            self._waits_since = ws.heard
            self._relay.pass_on(leg, packet, frame, ws.heard)

    async def _hop(self, packet: bytes | bytearray) -> None:
        leg = self._leg
        if leg is None or not isinstance(packet, bytearray):
            return
        try:
            await self._relay.receive(leg, packet, time.time())
        except SessionError as error:
            await self._close(CloseCode.POLICY_VIOLATION, error.what)

    async def _envelope(self, envelope: bytes) -> None:
        if not self._requests.take(self._address, time.monotonic()):
            self._metrics.limits_hit.labels("requests").inc()
            await asyncio.sleep(PAUSE)  # not read meanwhile: TCP holds the peer back
            while not self._requests.take(self._address, time.monotonic()):  # noqa: ASYNC110
                await asyncio.sleep(PAUSE)
        self._metrics.received(TRANSPORT, len(envelope))
        with self._metrics.answer_seconds.time():
            answer = await self._service.handle(envelope, connection=self, address=self._address)
        if answer.reply is not None:
            await self._send(answer.reply)
        if answer.then is not None:
            answer.then()
        if answer.problem is not None:
            self._metrics.refused(answer.problem)
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
            self._metrics.limits_hit.labels("faults-per-socket").inc()
            await self._close(CloseCode.POLICY_VIOLATION, what)

    async def _close(self, code: int, reason: str) -> None:
        log.info("closing a WebSocket: %s", reason)
        await self._ws.close(code, reason)

    def _abort(self, reason: str) -> None:
        log.info("dropping a WebSocket: its peer %s", reason)
        self._ws.abort()


class WebSockets:
    """The handler of the route, and all sockets that are open."""

    def __init__(
        self,
        service: Service,
        deliveries: Deliveries,
        relay: Relay,
        requests: Buckets,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._service = service
        self._deliveries = deliveries
        self._relay = relay
        self._requests = requests
        self._metrics = metrics
        self._limits = limits
        self._batch = Batch()
        self._open: set[Socket] = set()
        self._per_address: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return len(self._open)

    async def handle(self, request: web.Request, address: str) -> web.StreamResponse:
        if self._per_address[address] >= self._limits.connections_per_address:
            self._metrics.limits_hit.labels("connections-per-address").inc()
            raise web.HTTPTooManyRequests(headers={"Retry-After": "10"}, text="Too many connections.")
        self._per_address[address] += 1
        socket: Socket | None = None
        try:
            response, ws = await upgrade(
                request,
                batch=self._batch,
                limit=self._limits.message_bytes,
                heartbeat=self._limits.heartbeat_seconds,
            )
            if ws is None:
                return response
            socket = Socket(
                ws,
                address,
                service=self._service,
                deliveries=self._deliveries,
                relay=self._relay,
                requests=self._requests,
                metrics=self._metrics,
                limits=self._limits,
            )
            self._open.add(socket)
            await socket.run()
            return response
        finally:
            if socket is not None:
                self._open.discard(socket)
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    @property
    def batch(self) -> Batch:
        """Of all that is written while one socket is read."""
        return self._batch

    async def move(self, sockets: Iterable[object]) -> None:
        """Send some of them to another node of this mediator."""
        reason = "This node is cut off. Connect again: another one takes over."
        moving = [one.end(CloseCode.SERVICE_RESTART, reason) for one in self._open & set(sockets)]
        await asyncio.gather(*moving, return_exceptions=True)

    async def end(self, sockets: Iterable[object], reason: str) -> int:
        """Close some of them for good; how many that were."""
        closing = [one.end(CloseCode.POLICY_VIOLATION, reason) for one in self._open & set(sockets)]
        await asyncio.gather(*closing, return_exceptions=True)
        return len(closing)

    async def close(self) -> None:
        """Tell everybody that the mediator stops, and that they may come back."""
        sockets = list(self._open)
        if not sockets:
            return
        reason = "The mediator stops. Connect again."
        closing = [asyncio.create_task(one.end(CloseCode.SERVICE_RESTART, reason)) for one in sockets]
        await asyncio.wait(closing, timeout=CLOSE_SECONDS + 1)
        for task, socket in zip(closing, sockets, strict=True):
            if not task.done():  # it does not even read
                task.cancel()
                socket.abort()
        await asyncio.gather(*closing, return_exceptions=True)
