"""The processes between which something is relayed: `python -m didmpc.bench.session.ends` (jobs, see `turn`).

`far` and `near` are the two ends of every connection that is compared: TCP streams, with and without TLS, and
a link of a session through a mediator. `relay` is the raw TCP relay in between. The near end says how many
bytes are to come back (ECHO) or to be counted and compared (BULK), then sends them.
"""

import asyncio
import gc
import json
import os
import struct
import time
from collections.abc import Callable
from ssl import PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER, SSLContext
from typing import Any, Protocol

from didmpc.agent.channel import orders
from didmpc.agent.channel.clock import now
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.peer import Peer
from didmpc.agent.channel.traffic import Traffic
from didmpc.agent.channel.witness import keep_memory
from didmpc.bench.mediator.turn import Job, Result, Turn, serve
from didmpc.bench.session.splice import HOST, splice
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.session.frames import MAX_RECORD_DATA
from didmpc.protocols.session.link import Link

ECHO, BULK = 1, 2
HEADER = struct.Struct(">BQ")
BLOCK = MAX_RECORD_DATA
"""What a sender sends at once: one record of a session, of 256 KiB with its head."""
UNSENT = 24 * 1024 * 1024
"""Bytes on their way from which a bulk sender waits."""
DONE = b"!"
CLOSE_WITHIN = 1.0


class BrokenConnection(DidmpcError):
    """A connection that was to be measured has ended."""


class Carrier(Protocol):
    """A way to the other end. `received` is told what came, `moved` that more may be sent."""

    received: Callable[[bytes], None]
    moved: Callable[[], None]

    @property
    def has_room(self) -> bool: ...

    def send(self, data: bytes) -> None: ...

    def flush(self) -> None:
        """What was sent outside of `received` or `moved` goes now."""


class TcpCarrier(asyncio.Protocol):
    """A connection of TCP or TLS."""

    def __init__(self) -> None:
        self.received: Callable[[bytes], None] = lambda data: None
        self.moved: Callable[[], None] = lambda: None
        self.has_room = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        transport.set_write_buffer_limits(UNSENT)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received(data)

    def pause_writing(self) -> None:
        self.has_room = False

    def resume_writing(self) -> None:
        self.has_room = True
        self.moved()

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def flush(self) -> None:
        pass


class SessionCarrier:
    """A link of a session over a relay channel, driven as the channel process drives it."""

    def __init__(self, job: Job) -> None:
        order = orders.parse({"link": job})
        assert isinstance(order, orders.SessionLink) and order.path is not None
        self.received: Callable[[bytes], None] = lambda data: None
        self.moved: Callable[[], None] = lambda: None
        self.ready = asyncio.Event()
        self._traffic = Traffic(Limits(), on_read=self._read, on_beat=lambda at, late: None)
        link = Link(order.established, now=now(), clock=time.perf_counter)
        self._peer = self._traffic.peers[0] = Peer(0, "the other end", link, self)
        self._relay = self._traffic.relay(order.path)
        self._relay.add(order.path.capability, self._peer)
        self._tasks = [
            asyncio.create_task(self._relay.keep_up()),
            asyncio.create_task(self._traffic.beat_for_ever()),
        ]

    @property
    def has_room(self) -> bool:
        return self._peer.link.unacknowledged_bytes < UNSENT

    def send(self, data: bytes) -> None:
        self._peer.send(1, data)

    def flush(self) -> None:
        self._traffic.pump()

    def _read(self) -> None:
        self.moved()

    async def close(self) -> None:
        await self._relay.close(CLOSE_WITHIN)
        for task in self._tasks:
            task.cancel()

    # --- PeerListener

    def peer_ready(self, peer: Peer) -> None:
        self.ready.set()

    def peer_data(self, pid: int, start: int, data: bytes) -> None:
        self.received(data)

    def peer_failed(self, peer: Peer, kind: str, error: DidmpcError) -> None:
        raise BrokenConnection(f"The session that is measured broke: {kind}.", why=str(error))

    def _nothing(self, *_: Any) -> None:
        pass

    peer_renewed = peer_proofs = peer_state = peer_aborted = peer_closed = _nothing


# --- the far end


class Answerer:
    """Sends back what is to be echoed, and says how a bulk has come."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._kind, self._left, self._came = 0, 0, 0
        self._head = b""
        self._first = bytearray()  # the first block, which all others must equal
        self._twice = b""
        self._equal = True
        carrier.received = self._received

    def _received(self, data: bytes) -> None:
        if not self._left:
            data = self._head + data
            if len(data) < HEADER.size:
                self._head = data
                return
            self._head = b""
            self._kind, self._left = HEADER.unpack_from(data)
            self._came, self._equal = 0, True
            self._first.clear()
            data = data[HEADER.size :]
            if not data:
                return
        self._left -= len(data)
        if self._kind == ECHO:
            self._carrier.send(data)
            return
        self._take(data)
        if not self._left:
            first = bytes(self._first)
            self._carrier.send(DONE + (first if self._equal else bytes(len(first))))

    def _take(self, data: bytes) -> None:
        place, self._came = self._came, self._came + len(data)
        if place < BLOCK:
            split = BLOCK - place
            self._first += data[:split]
            self._twice = bytes(self._first) * 2 if len(self._first) == BLOCK else b""
            place, data = BLOCK, data[split:]
        for start in range(0, len(data), BLOCK):
            piece = data[start : start + BLOCK]
            offset = (place + start) % BLOCK
            self._equal = self._equal and piece == self._twice[offset : offset + len(piece)]


async def far(job: Job, turn: Turn) -> Result:
    """Be the far end of every connection until told otherwise."""
    loop = asyncio.get_running_loop()
    answerers: list[Answerer] = []

    def accept() -> TcpCarrier:
        carrier = TcpCarrier()
        answerers.append(Answerer(carrier))
        return carrier

    inside = server_tls(job["certificate"])
    plain = await loop.create_server(accept, HOST, 0)
    secure = await loop.create_server(accept, HOST, 0, ssl=inside)
    session = SessionCarrier(job["link"])
    answerers.append(Answerer(session))
    await turn.wait(port=_port(plain), tls_port=_port(secure))
    await session.close()
    return turn.result()


# --- the near end


class Prober:
    """Sends, waits for what comes back, and looks whether it is the same."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    async def round_trips(self, size: int, count: int) -> Result:
        """Seconds of each of `count` round trips of `size` bytes, one after another."""
        carrier, clock = self._carrier, time.perf_counter
        payload = os.urandom(size)
        took: list[float] = []
        pieces: list[bytes] = []
        came, before = 0, 0.0
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def received(data: bytes) -> None:
            nonlocal came, before
            pieces.append(data)
            came += len(data)
            if came < size:
                return
            took.append(clock() - before)
            if (pieces[0] if len(pieces) == 1 else b"".join(pieces)) != payload:
                done.set_exception(BrokenConnection("What came back is not what was sent."))
                return
            pieces.clear()
            came = 0
            if len(took) == count:
                done.set_result(None)
                return
            before = clock()
            carrier.send(payload)

        carrier.received = received
        carrier.send(HEADER.pack(ECHO, size * count))
        before = clock()
        carrier.send(payload)
        carrier.flush()
        await done
        return {"took": took}

    async def bulk(self, total: int) -> Result:
        """Seconds until the far end has all of `total` bytes."""
        carrier = self._carrier
        block = os.urandom(BLOCK)
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[float] = loop.create_future()
        compared: asyncio.Future[bytes] = loop.create_future()
        echoed: list[bytes] = []
        left = total

        def received(data: bytes) -> None:
            if not arrived.done():
                arrived.set_result(time.perf_counter())
                data = data[len(DONE) :]
            echoed.append(data)
            if sum(map(len, echoed)) == min(BLOCK, total):
                compared.set_result(b"".join(echoed))

        def more() -> None:
            nonlocal left
            while left and carrier.has_room:
                size = min(BLOCK, left)
                carrier.send(block[:size] if size < BLOCK else block)
                left -= size

        carrier.received, carrier.moved = received, more
        before = time.perf_counter()
        carrier.send(HEADER.pack(BULK, total))
        more()
        carrier.flush()
        seconds = await arrived - before
        if await compared != block[:total]:
            raise BrokenConnection("What arrived is not what was sent.")
        carrier.moved = lambda: None
        return {"seconds": seconds}


async def near(job: Job, turn: Turn) -> Result:
    """Connect every way, then do what is asked: {"over", "size", "count"} or {"over", "bulk"}."""
    loop = asyncio.get_running_loop()
    outside = client_tls(job["certificate"])
    carriers: dict[str, Carrier] = {}
    for name, port in job["tcp"].items():
        _, carriers[name] = await loop.create_connection(TcpCarrier, HOST, port)
    for name, port in job["tls"].items():
        _, carriers[name] = await loop.create_connection(
            TcpCarrier, HOST, port, ssl=outside, server_hostname=HOST
        )
    session = SessionCarrier(job["link"])
    await session.ready.wait()
    carriers["session"] = session
    probers = {name: Prober(carrier) for name, carrier in carriers.items()}
    answer: Result = {}
    while line := await turn.wait(**answer):
        asked = json.loads(line)
        prober = probers[asked["over"]]
        if "bulk" in asked:
            answer = await prober.bulk(asked["bulk"])
        else:
            answer = await prober.round_trips(asked["size"], asked["count"])
    await session.close()
    return turn.result()


# --- in between


async def relay(job: Job, turn: Turn) -> Result:
    """Splice connections, for as long as it is held: `routes` are the arguments of `splice`."""
    tls: dict[str, Any] = {}
    if "certificate" in job:
        tls = {"inside": server_tls(job["certificate"]), "outside": client_tls(job["certificate"])}
    servers = []
    for route in job["routes"]:
        contexts = tls if route.pop("tls", False) else {}
        servers.append(await splice(**route, **contexts))
    await turn.wait(ports=[_port(server) for server in servers])
    return turn.result()


def server_tls(certificate: str) -> SSLContext:
    """From a file with key and certificate."""
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def client_tls(certificate: str) -> SSLContext:
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    return context


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


if __name__ == "__main__":
    keep_memory()  # as channel processes do
    gc.collect()
    gc.freeze()
    serve({job.__name__: job for job in (far, near, relay)})
