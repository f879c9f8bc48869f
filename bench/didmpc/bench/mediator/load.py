"""What the load generators do, each a process: `python -m didmpc.bench.mediator.load`.

Jobs come as lines of JSON on stdin. When one is prepared a line goes out; the next line that comes in
starts the load; its results go out as one line. So packing, connecting and enrolling are off the
clock. Two clocks count: the wall's, and the CPU of this process (`cpu`), to be seen beside the mediator's.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from didmpc.bench.mediator import ceilings, fill
from didmpc.bench.mediator.account import Account, Forwards, http_url, packed, tag_of
from didmpc.bench.mediator.turn import Job, Result, Turn, serve
from didmpc.bench.mediator.wire import EchoConnection, HttpConnection, IdleWebSocket, address_of, http_request
from didmpc.protocols.messages import pickup, trust_ping

ACKNOWLEDGE_EVERY = 64
ACKNOWLEDGE_WITHIN = 0.02
"""Live recipients acknowledge so many messages together, or after so many seconds, as agents of didmpc do."""
STATUS_SLACK = 512
"""Characters by which one status may be longer than another; an envelope in a delivery has thousands."""
OPENING_AT_ONCE = 64
SETTLE = 30.0
"""Seconds within which what was sent must have arrived."""


def _nodes(job: Job) -> list[str]:
    """The URLs of the nodes among which the load is parted; else the one in the mediator's DID."""
    return list(job.get("nodes") or [http_url(job["mediator"])])


async def _connect(url: str) -> HttpConnection:
    return await HttpConnection.connect(*address_of(url))


def socket_url(url: str) -> str:
    return f"ws{url.removeprefix('http')}/ws"


# --- preparing


async def pack_forwards(job: Job, turn: Turn) -> Result:
    """Write forwards to a file, a line each: tag, space, envelope. The recipients take turns."""
    packers = [Forwards(did, job["mediator"], job["size"]) for did in job["recipients"]]
    await turn.wait()
    with Path(job["file"]).open("wb") as file:  # noqa: ASYNC230  (nothing else runs in this process)
        for number in range(job["count"]):
            tag, envelope = packers[number % len(packers)].next()
            file.write(tag.encode() + b" " + envelope + b"\n")
    return turn.result()


async def enrol(job: Job, turn: Turn) -> Result:
    """Open accounts, each with one DID."""
    await turn.wait()
    connection = await _connect(_nodes(job)[0])
    accounts = [Account.new(job["mediator"]) for _ in range(job["count"])]
    for account in accounts:
        await account.enrol(connection)
    return turn.result(accounts=[account.to_json() for account in accounts])


# --- forwards


async def forward_http(job: Job, turn: Turn) -> Result:
    """Post every packed forward, over connections with one request in flight each."""
    nodes = _nodes(job)
    requests = [http_request(nodes[0], envelope) for _, envelope in packed(job["files"])]
    connections = [await _connect(nodes[n % len(nodes)]) for n in range(job["connections"])]
    todo = iter(requests)
    took: list[float] = []
    statuses: dict[str, int] = {}

    async def work(connection: HttpConnection) -> None:
        for request in todo:
            before = time.monotonic()
            status, _ = await connection.post(request)
            took.append(time.monotonic() - before)
            statuses[str(status)] = statuses.get(str(status), 0) + 1

    await turn.wait()
    await asyncio.gather(*map(work, connections))
    return turn.result(sent=len(took), accepted=statuses.get("202", 0), statuses=statuses, took=took)


async def forward_ws(job: Job, turn: Turn) -> Result:
    """Send every packed forward over WebSockets, and on each a ping after the last.

    A mediator answers nothing to a forward on a WebSocket; but it handles the messages of one socket in
    order, so the answer to the ping says that all before it are stored.
    """
    forwards = [envelope.decode() for _, envelope in packed(job["files"])]
    account = Account.new(job["mediator"])
    sockets = job["connections"]

    async def work(ws: aiohttp.ClientWebSocketResponse, mine: list[str], ping: str) -> None:
        for text in mine:
            await ws.send_str(text)
        await ws.send_str(ping)
        answer = account.unpack((await ws.receive_str()).encode())
        assert answer.type == trust_ping.PING_RESPONSE, answer.type

    async with AsyncExitStack() as stack:
        nodes = _nodes(job)
        open_ = [await stack.enter_async_context(_websocket(nodes[n % len(nodes)])) for n in range(sockets)]
        ping = trust_ping.ping(account.did, job["mediator"])
        pings = [account.pack(ping).decode() for _ in open_]
        await turn.wait()
        shares = [forwards[number::sockets] for number in range(sockets)]
        await asyncio.gather(*map(work, open_, shares, pings))
        return turn.result(sent=len(forwards))


@asynccontextmanager
async def _websocket(url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(socket_url(url), compress=0, max_msg_size=0) as ws,
    ):
        yield ws


async def echo(job: Job, turn: Turn) -> Result:
    """The same number of exchanges of the same size, with the raw relay."""
    payload = os.urandom(job["size"])
    connections = [await EchoConnection.connect("127.0.0.1", job["port"]) for _ in range(job["connections"])]
    todo = iter(range(job["count"]))

    took: list[float] = []

    async def work(connection: EchoConnection) -> None:
        for _ in todo:
            before = time.monotonic()
            await connection.echo(payload)
            took.append(time.monotonic() - before)

    await turn.wait()
    await asyncio.gather(*map(work, connections))
    result = turn.result(took=took)
    for connection in connections:
        connection.close()
    return result


# --- live delivery


async def live_send(job: Job, turn: Turn) -> Result:
    """Post forwards at a fixed rate, whether or not the ones before were answered; when each was sent."""
    nodes = _nodes(job)
    forwards = [(tag, http_request(nodes[0], envelope)) for tag, envelope in packed(job["files"])]
    free: asyncio.LifoQueue[HttpConnection] = asyncio.LifoQueue()
    for number in range(job["connections"]):
        free.put_nowait(await _connect(nodes[number % len(nodes)]))
    sent: dict[str, float] = {}
    refused = 0

    async def post(tag: str, request: bytes) -> None:
        nonlocal refused
        connection = await free.get()
        sent[tag] = time.monotonic()
        status, _ = await connection.post(request)
        refused += status != 202
        free.put_nowait(connection)

    await turn.wait()
    late = 0.0
    async with asyncio.TaskGroup() as group:
        for number, (tag, request) in enumerate(forwards):
            due = turn.started + number / job["rate"]
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            late = max(late, time.monotonic() - due)
            group.create_task(post(tag, request))
    return turn.result(sent=sent, refused=refused, late=late)


async def live_receive(job: Job, turn: Turn) -> Result:
    """Recipients in live mode, a WebSocket each, who acknowledge as a wallet does: when each message came.

    Told to go on, they say how much is left when all was acknowledged.
    """
    accounts = [Account.from_json(value) for value in job["accounts"]]
    arrived: dict[str, float] = {}
    twice = 0
    complete = asyncio.Event()

    answers: list[tuple[Account, str]] = []

    async def receive(account: Account, ws: aiohttp.ClientWebSocketResponse, longest_status: int) -> None:
        nonlocal twice
        due: list[str] = []
        timer: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        sending: set[asyncio.Task[None]] = set()

        def acknowledge() -> None:
            nonlocal timer
            if timer is not None:
                timer.cancel()
                timer = None
            if due:
                text = account.pack(pickup.messages_received(due)).decode()
                due.clear()
                task = loop.create_task(ws.send_str(text))
                sending.add(task)
                task.add_done_callback(sending.discard)

        while True:
            message = await ws.receive()
            now = time.monotonic()
            if message.type != aiohttp.WSMsgType.TEXT:
                return
            if len(message.data) <= longest_status:
                answers.append((account, message.data))  # to an acknowledgement; opened off the clock
                continue
            opened = account.unpack(message.data.encode())
            for name, envelope in pickup.parse_delivery(opened).messages:
                tag = tag_of(envelope)
                twice += tag in arrived
                arrived.setdefault(tag, now)
                due.append(name)
            if len(due) >= ACKNOWLEDGE_EVERY:
                acknowledge()
            elif timer is None:
                timer = loop.call_later(ACKNOWLEDGE_WITHIN, acknowledge)
            if len(arrived) >= job["count"]:
                complete.set()

    async with AsyncExitStack() as stack:
        receivers: list[asyncio.Task[None]] = []
        nodes = _nodes(job)
        for number, account in enumerate(accounts):
            ws = await stack.enter_async_context(_websocket(nodes[number % len(nodes)]))
            await ws.send_str(account.pack(pickup.live_delivery_change(True)).decode())
            answer = await ws.receive_str()
            assert pickup.parse_status(account.unpack(answer.encode())).live_delivery
            # What a delivery carries is longer than the numbers that a later status may have more.
            receivers.append(asyncio.create_task(receive(account, ws, len(answer) + STATUS_SLACK)))
        await turn.wait()
        try:
            async with asyncio.timeout(job["seconds"] + SETTLE):
                await complete.wait()
        except TimeoutError:
            pass
        await turn.wait(**turn.result(arrived=arrived, twice=twice))
        connection = await _connect(nodes[0])
        left = await _until_empty(accounts, connection)
        for task in receivers:
            task.cancel()
        await asyncio.gather(*receivers, return_exceptions=True)
        for account, answer in answers:
            pickup.parse_status(account.unpack(answer.encode()))
        return {"left": left, "answers": len(answers)}


async def _until_empty(accounts: list[Account], connection: HttpConnection) -> int:
    """Wait until nothing is queued; how much there still is when patience ends."""
    until = time.monotonic() + SETTLE
    while left := sum([await account.waiting(connection) for account in accounts]):
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.1)
    return left


# --- pickup and status


async def fetch_all(job: Job, turn: Turn) -> Result:
    """Every account fetches and acknowledges its mail over HTTP until there is none."""
    accounts = iter([Account.from_json(value) for value in job["accounts"]])
    nodes = _nodes(job)
    connections = [await _connect(nodes[n % len(nodes)]) for n in range(job["connections"])]
    tags: set[str] = set()
    messages = requests = 0

    async def work(connection: HttpConnection) -> None:
        nonlocal messages, requests
        for account in accounts:
            while True:
                answer = await account.ask(connection, pickup.delivery_request(job["limit"]))
                requests += 1
                if answer.type != pickup.DELIVERY:
                    break
                mail = pickup.parse_delivery(answer).messages
                messages += len(mail)
                tags.update(tag_of(envelope) for _, envelope in mail)
                await account.ask(connection, pickup.messages_received([name for name, _ in mail]))
                requests += 1

    await turn.wait()
    await asyncio.gather(*map(work, connections))
    return turn.result(messages=messages, distinct=len(tags), requests=requests)


async def count_waiting(job: Job, turn: Turn) -> Result:
    """How many messages accounts have waiting together, as they are told themselves."""
    connection = await _connect(_nodes(job)[0])
    accounts = [Account.from_json(value) for value in job["accounts"]]
    await turn.wait()
    return turn.result(waiting=sum([await account.waiting(connection) for account in accounts]))


async def ask_status(job: Job, turn: Turn) -> Result:
    """Status-requests one after another, packed before; the time of each, and what they said."""
    accounts = [Account.from_json(value) for value in job["accounts"]]
    url = _nodes(job)[0]
    asked = [accounts[number % len(accounts)] for number in range(job["count"])]
    requests = [http_request(url, account.pack(pickup.status_request())) for account in asked]
    connection = await _connect(url)
    answers: list[bytes] = []
    took: list[float] = []
    await turn.wait()
    for request in requests:
        before = time.monotonic()
        status, body = await connection.post(request)
        took.append(time.monotonic() - before)
        assert status == 200, body
        answers.append(body)
    result = turn.result(took=took)
    counts = {
        pickup.parse_status(account.unpack(body)).message_count
        for account, body in zip(asked, answers, strict=True)
    }
    return {**result, "counts": sorted(counts)}


# --- idle sockets


async def idle(job: Job, turn: Turn) -> Result:
    """Open WebSockets, or with a `port` plain connections to a relay, and hold them until told to end."""
    sockets: list[IdleWebSocket | EchoConnection] = []
    todo: Iterator[int] = iter(range(job["count"]))

    async def work() -> None:
        for _ in todo:
            sockets.append(
                await EchoConnection.connect("127.0.0.1", job["port"])
                if "port" in job
                else await IdleWebSocket.connect(socket_url(_nodes(job)[0]))
            )

    await turn.wait()
    await asyncio.gather(*(work() for _ in range(OPENING_AT_ONCE)))
    opened = turn.result()
    await turn.wait()  # held while the mediator is looked at
    result = {**opened, "open": sum(not socket.lost for socket in sockets)}
    for socket in sockets:
        socket.close()
    return result


JOBS: dict[str, Callable[[Job, Turn], Awaitable[Result]]] = {
    job.__name__: job
    for job in (
        *(pack_forwards, enrol, forward_http, forward_ws, echo),
        *(live_send, live_receive, fetch_all, count_waiting, ask_status, idle),
        *(ceilings.relay, ceilings.commits, ceilings.unpacking, fill.fill),
    )
}


if __name__ == "__main__":
    serve(JOBS)
