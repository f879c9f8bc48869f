"""GET /ws: envelopes both ways, live delivery, and hop packets once a hop session is open.

A message that starts with `{` is an envelope, in text or binary frames alike; envelopes go out as text.
Anything else is a hop packet, once a hop session is open. Messages of one socket are handled one after
the other, so a peer that does not read its replies is not read either.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from math import inf

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http_websocket import WebSocketReader, WebSocketWriter, WSMessageTextBytes
from aiohttp.web_request import BaseRequest

from didmpc.mediator.deliveries import Deliveries
from didmpc.mediator.limits import KIB, Buckets, Limits
from didmpc.mediator.metrics import Metrics
from didmpc.mediator.relay import Leg, Relay
from didmpc.mediator.service import Service
from didmpc.protocols.errors import SessionError
from didmpc.protocols.message import Message
from didmpc.protocols.relay import hop
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
TRANSPORT = "websocket"
READ_QUEUE = 256 * KIB
"""Bytes of messages that wait, from which a socket is not read."""
_OPENED = "opened hop frame"


class Socket:
    """One WebSocket: a `Connection` for the protocols, and perhaps a leg of the relay."""

    def __init__(
        self,
        ws: "_WebSocket",
        transport: asyncio.Transport,
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
        self._transport = transport
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
        ws.tap(self._tap)
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
                    await self._binary(message)
                elif message.type == WSMsgType.ERROR:  # and aiohttp has closed it
                    self._note(message.data)
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
        await self._send(await self._service.pack(message, to, self._mediator))

    def start_hop(self, established: Established) -> None:
        if self._leg is not None:
            self._relay.leave(self._leg)
        self._leg = Leg(
            established,
            write=self._ws.send_bytes,
            write_now=self._ws.write_now,
            has_room=self._has_room,
            abort=self._abort,
            limits=self._limits,
            address=self._address,
        )
        self._relay.join(self._leg)

    async def end(self, code: int, reason: str) -> None:
        """Close it, and say why."""
        await self._close(code, reason)

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()

    # --- inner

    async def _send(self, envelope: bytes) -> None:
        self._metrics.sent(TRANSPORT, len(envelope))
        try:
            async with asyncio.timeout(self._limits.write_seconds):
                await self._ws.send_str(envelope.decode())
        except TimeoutError:
            # It may well send something meanwhile, so that the heartbeat takes it for alive.
            self._abort("did not read in time")
            raise ConnectionError("the peer does not read") from None

    def _note(self, error: object) -> None:
        if isinstance(error, WebSocketError) and error.code == WSCloseCode.MESSAGE_TOO_BIG:
            self._metrics.limits_hit.labels("message-bytes").inc()

    def _tap(self, message: WSMessage) -> WSMessage | None:
        """See each binary message as it is read: None where it was dealt with, else what waits for its turn.

        A packet for another leg passes here, without a task or a queue in between, unless something that came
        before it still waits.
        """
        leg = self._leg
        if leg is None or message.data[:1] == b"{":
            return message
        try:
            frame = leg.open(message.data)
        except SessionError:
            return message  # which is refused in its turn
        if self._waits_since == inf or self._ws.has_waiting or not hop.is_data(frame):
            return WSMessage(WSMsgType.BINARY, frame, _OPENED)
        self._waits_since = time.monotonic()
        self._relay.pass_on(leg, frame)
        return None

    async def _binary(self, message: WSMessage) -> None:
        leg, data = self._leg, message.data
        opened = message.extra is _OPENED
        if leg is None or (not opened and data[:1] == b"{"):
            await self._envelope(data)
            return
        try:
            await self._relay.receive(leg, data if opened else leg.open(data), time.time())
        except SessionError as error:
            # WebSockets keep order and content, so this is no accident of the network.
            await self._close(WSCloseCode.POLICY_VIOLATION, error.what)

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
            await self._close(WSCloseCode.POLICY_VIOLATION, what)

    async def _close(self, code: int, reason: str) -> None:
        log.info("closing a WebSocket: %s", reason)
        # RFC 6455, section 5.5: a close frame holds at most 125 bytes, two of them the code.
        await self._ws.close(code=code, message=reason.encode()[:120])

    def _has_room(self, size: int) -> bool:
        """Whether so much more stays below the mark, or nothing waits: then a write has none waiting."""
        waiting = self._transport.get_write_buffer_size()
        return not waiting or waiting + size <= LOW_WATER

    def _abort(self, reason: str) -> None:
        log.info("dropping a WebSocket: its peer %s", reason)
        self._transport.abort()


_REASONS: dict[int, bytes] = {
    WSCloseCode.PROTOCOL_ERROR: b"What came is no WebSocket frame.",
    WSCloseCode.INVALID_TEXT: b"A text message is not UTF-8.",
    WSCloseCode.MESSAGE_TOO_BIG: b"The message is larger than this mediator takes.",
}


class _Messages(WebSocketDataQueue):
    """What was read and waits for its turn. Binary messages are seen by `tap` first."""

    tap: Callable[[WSMessage], WSMessage | None] | None = None

    def feed_data(self, data: WSMessage | WSMessageTextBytes, size: int) -> None:
        if self.tap is not None and isinstance(data, WSMessage) and data.type is WSMsgType.BINARY:
            kept = self.tap(data)
            if kept is None:
                return
            data = kept
        super().feed_data(data, size)


class _WebSocket(web.WebSocketResponse):
    """Says why also where aiohttp itself closes; and has ways past its queue and its writers' task."""

    def _post_start(self, request: BaseRequest, protocol: str | None, writer: WebSocketWriter) -> None:
        """As aiohttp's own, but with our queue: it offers no place to put one."""
        self._ws_protocol = protocol
        self._writer = writer
        self._reset_heartbeat()
        assert self._loop is not None
        self._messages = _Messages(request.protocol, READ_QUEUE, loop=self._loop)
        self._reader = self._messages
        self._parser = WebSocketReader(self._messages, self._max_msg_size, compress=False, decode_text=True)
        request.protocol.set_parser(self._parser, data_received_cb=self._on_data_received)
        request.protocol.keep_alive(False)

    def tap(self, tap: Callable[[WSMessage], WSMessage | None]) -> None:
        """Have each binary message shown to `tap` as it is read; only what that returns is received."""
        self._messages.tap = tap

    @property
    def has_waiting(self) -> bool:
        """Whether messages wait to be received."""
        return self._messages._size > 0

    def write_now(self, message: bytes) -> None:
        """Write a binary message, whatever waits. Raises ConnectionError."""
        if self._writer is None:
            raise ConnectionResetError
        self._writer._write_websocket_frame(message, WSMsgType.BINARY, 0)

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        return await super().close(code=code, message=message or _REASONS.get(code, b""), drain=drain)


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
        self._open: set[Socket] = set()
        self._per_address: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return len(self._open)

    async def handle(self, request: web.Request, address: str) -> web.StreamResponse:
        if self._per_address[address] >= self._limits.connections_per_address:
            self._metrics.limits_hit.labels("connections-per-address").inc()
            raise web.HTTPTooManyRequests(headers={"Retry-After": "10"}, text="Too many connections.")
        ws = _WebSocket(
            heartbeat=self._limits.heartbeat_seconds,
            autoping=False,
            max_msg_size=self._limits.message_bytes,
            compress=False,
            timeout=CLOSE_SECONDS,
        )
        self._per_address[address] += 1
        socket: Socket | None = None
        try:
            await ws.prepare(request)
            transport = request.transport
            if transport is None:
                return ws
            socket = Socket(
                ws,
                transport,
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
            return ws
        finally:
            if socket is not None:
                self._open.discard(socket)
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    async def end(self, sockets: Iterable[object], reason: str) -> int:
        """Close some of them for good; how many that were."""
        closing = [one.end(WSCloseCode.POLICY_VIOLATION, reason) for one in self._open & set(sockets)]
        await asyncio.gather(*closing, return_exceptions=True)
        return len(closing)

    async def close(self) -> None:
        """Tell everybody that the mediator stops, and that they may come back."""
        sockets = list(self._open)
        if not sockets:
            return
        reason = "The mediator stops. Connect again."
        closing = [asyncio.create_task(one.end(WSCloseCode.SERVICE_RESTART, reason)) for one in sockets]
        await asyncio.wait(closing, timeout=CLOSE_SECONDS + 1)
        for task, socket in zip(closing, sockets, strict=True):
            if not task.done():  # it does not even read
                task.cancel()
                socket.abort()
        await asyncio.gather(*closing, return_exceptions=True)
