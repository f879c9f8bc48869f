"""Whatever comes in, the answer is the one that docs/mediator-answers.md gives, and the service goes on."""

import asyncio
import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSCloseCode, WSMsgType
from bad_input import CASES, STRANGER, anonymous, ping, plain, sealed
from mediator_parts import PATIENCE, Client, Leg

from didmpc.mediator import app
from didmpc.mediator.app import Running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import KIB, Limits, Rate
from didmpc.mediator.refusals import Refusal
from didmpc.mediator.service.service import Service
from didmpc.protocols.envelope import unpack
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import ENCRYPTED, MAX_BRACKETS, MAX_DEPTH, Message
from didmpc.protocols.messages import (
    discover_features,
    mediation,
    pickup,
    problem_report,
    routing,
    trust_ping,
)
from didmpc.protocols.messages.body import MAX_ITEMS, MAX_TEXT
from didmpc.protocols.messages.routing import FORWARD
from didmpc.protocols.session.handshake import OPEN

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "mediator-answers.md"
SOURCES = (ROOT / "mediator", ROOT / "protocols")
BIG = 100 * 1024 * KIB
LIMITS = Limits(message_bytes=256 * KIB, faults_per_socket=8)
HASTY = replace(
    LIMITS,
    header_seconds=1.0,
    body_seconds=0.3,
    idle_seconds=0.3,
    heartbeat_seconds=0.3,
    requests=Rate(0.5, 12),
)
"""Time-outs and rates that a test can reach."""


@dataclass(frozen=True)
class Row:
    name: str
    http: str
    code: str
    websocket: str


def _cells(columns: int) -> Iterator[list[str]]:
    for line in GUIDE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == columns:
            yield cells


ROWS = {
    name.strip("`"): Row(name.strip("`"), http, code.strip("`"), websocket)
    for name, _, http, code, websocket in _cells(5)
}
CODES = {(code.strip("`"), status) for code, statuses, *_ in _cells(4) for status in statuses.split(", ")}
BODIES = {name.strip("`"): re.findall(r"`([^`]+)`", bodies) for name, bodies in _cells(2)}
BELOW = {
    *(
        "media-type",
        "compressed",
        "damaged-body",
        "hop-packet",
        "broken-frame",
        "too-big",
        "slow-headers",
        "slow-body",
        "slow-frame",
        "binary-frame",
        "replayed",
    ),
    *("unknown-path", "unknown-method", "not-http", "many-requests", "many-faults"),
}
"""Inputs that are no single envelope: each has a test of its own."""


class Watched(Service):
    """The service of the mediator that was started last, which knows its message types."""

    latest: "Watched"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Watched.latest = self

    @property
    def types(self) -> set[str]:
        return set(self._handlers)


@contextlib.asynccontextmanager
async def started(home: Path, limits: Limits) -> AsyncIterator[Client]:
    """A mediator, and a client that has an account there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "Service", Watched)
        async with (
            app.running(Home(home), port=0, limits=limits) as mediator,
            ClientSession() as http,
        ):
            yield await _enrolled(mediator, http)


async def _enrolled(mediator: Running, http: ClientSession) -> Client:
    client = Client(http, mediator.did)
    client.secrets.add(STRANGER)
    return await client.enrol()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with started(tmp_path_factory.mktemp("mediator") / "m", LIMITS) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def hasty(tmp_path: Path) -> AsyncIterator[Client]:
    async with started(tmp_path / "m", HASTY) as client:
        yield client


async def _posted(client: Client, envelope: bytes, **headers: str) -> Row:
    """The answer over HTTP, as a row of the table has it."""
    fields = {"Content-Type": ENCRYPTED, **headers}
    async with client.http.post(client.url, data=envelope, headers=fields) as response:
        body = await response.read()
        code = ""
        if response.content_type == "application/problem+json":
            problem = json.loads(body)
            assert problem["title"]
            code = problem["code"]
        elif response.status not in (200, 202):
            code = _report(client, body).code
        return Row("", str(response.status), code, "")


def _report(client: Client, envelope: bytes) -> problem_report.ProblemReport:
    opened = unpack(envelope, client.secrets)
    assert client.mediator.did in (opened.sender, opened.signer)
    return problem_report.parse(opened.message)


async def _told(client: Client, envelope: bytes, *, binary: bool = False) -> str:
    """What a fresh WebSocket answers: the code of the report, "" for another message, or how it closes."""
    async with client.line() as line:
        await (line.ws.send_bytes(envelope) if binary else line.ws.send_str(envelope.decode()))
        answer = await line.ws.receive(timeout=PATIENCE)
        if answer.type != WSMsgType.TEXT:
            return f"close {line.ws.close_code}"
        message = unpack(answer.data.encode(), client.secrets).message
        if message.type == problem_report.PROBLEM_REPORT:
            assert await line.ask(ping(client), return_route="all"), "the socket does not go on"
            return problem_report.parse(message).code
        return ""


async def _goes_on(client: Client) -> None:
    answer = await client.ask(ping(client))
    assert answer.type == trust_ping.PING_RESPONSE


async def test_every_input_of_the_guide_is_tried_here() -> None:
    assert set(CASES) | BELOW == set(ROWS)


@pytest.mark.parametrize("name", CASES)
async def test_the_answer_to(name: str, client: Client) -> None:
    row = ROWS[name]
    answer = await _posted(client, CASES[name](client))
    assert (answer.http, answer.code) == (row.http, row.code)
    envelope = CASES[name](client)
    if name == "invalid-utf8":  # no text, so in a text frame it breaks the protocol of WebSockets already
        assert await _told(client, envelope, binary=True) == row.code
        assert row.websocket.startswith(f"close {await _invalid_text(client)}")
    else:
        assert row.websocket == "as HTTP"
        assert await _told(client, envelope) == row.code
    await _goes_on(client)


async def _invalid_text(client: Client) -> int:
    """The close code for a text frame (opcode 1, final, masked with zeros) that is no UTF-8."""
    async with _upgraded(client) as (reader, writer):
        writer.write(bytes((0x81, 0x80 | 2)) + bytes(4) + b"\xff\xff")
        async with asyncio.timeout(PATIENCE):
            opcode, _, code = (
                (await reader.readexactly(1))[0],
                await reader.readexactly(1),
                await reader.read(2),
            )
        assert opcode == 0x88
        return int.from_bytes(code, "big")


@contextlib.asynccontextmanager
async def _upgraded(client: Client) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare socket after the handshake of a WebSocket."""
    async with _raw(client) as (reader, writer):
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        async with asyncio.timeout(PATIENCE):
            assert b"101" in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer


@contextlib.asynccontextmanager
async def _raw(client: Client) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = client.url.removeprefix("http://").rstrip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_reply_that_is_asked_for_carries_the_same_code(client: Client) -> None:
    proven = await client.ask(ping(client, type="https://example.org/x/1.0/y", id="1" * 32))
    assert problem_report.parse(proven).code == ROWS["unknown-protocol"].code
    assert proven.pthid == "1" * 32
    request = {"id": "1", "type": mediation.MEDIATE_REQUEST, "body": {}, "return_route": "all"}
    unproven = await _posted(client, anonymous(client, request))
    assert (unproven.http, unproven.code) == (ROWS["anonymous"].http, ROWS["anonymous"].code)


async def test_a_problem_report_is_never_answered_by_one(client: Client) -> None:
    bad = Message(type=problem_report.PROBLEM_REPORT, body={})
    status, body = await client.post(client.pack(bad, return_route="all"))
    assert (status, json.loads(body)["code"]) == (400, "e.p.msg.bad-body")


async def test_a_replayed_change(client: Client) -> None:
    change = client.pack(mediation.keylist_update([(Identity.peer4().did, "add")]))
    assert (await client.post(change))[0] == 202
    row = ROWS["replayed"]
    answer = await _posted(client, change)
    assert (answer.http, answer.code) == (row.http, row.code)
    assert row.websocket == "as HTTP"
    assert await _told(client, change) == row.code


# --- bodies


def _type(name: str) -> str:
    """The message type that a row of the second table names."""
    found = [type for type in Watched.latest.types if type.endswith(f"/{name}")]
    assert len(found) == 1, f"the mediator takes no {name}"
    return found[0]


async def test_the_guide_names_every_message_that_the_mediator_takes(client: Client) -> None:
    assert {_type(name) for name in BODIES} == Watched.latest.types, "docs/mediator-answers.md, last table"


@pytest.mark.parametrize("name", [name for name, bodies in BODIES.items() if bodies])
async def test_a_wrong_body_of(name: str, client: Client) -> None:
    for body in BODIES[name]:
        value = plain(client, type=_type(name), body=json.loads(body))
        if _type(name) == FORWARD:
            value["attachments"] = [{"id": "1", "data": {"json": {}}}]
        answer = await _posted(client, sealed(client, value))
        assert (answer.http, answer.code) == ("400", "e.p.msg.bad-body"), body
    await _goes_on(client)


async def test_an_open_needs_a_websocket_and_gets_its_decline_there(client: Client) -> None:
    envelope = sealed(client, plain(client, type=OPEN, body={"hs": "AAAA"}))
    answer = await _posted(client, envelope)
    assert (answer.http, answer.code) == ("400", "e.p.session.transport")
    async with client.line() as line:
        await line.ws.send_str(envelope.decode())
        assert (await line.hear()).type == OPEN.replace("open", "decline")


# --- below messages


async def test_another_media_type(client: Client) -> None:
    answer = await _posted(client, client.pack(ping(client)), **{"Content-Type": "text/html"})
    assert (answer.http, answer.code) == (ROWS["media-type"].http, ROWS["media-type"].code)
    await _goes_on(client)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "nonsense"])
async def test_a_compressed_body(coding: str, client: Client) -> None:
    """However much comes out of it: a megabyte of gzip may hold a thousand."""
    packed = gzip.compress(client.pack(ping(client)))
    answer = await _posted(client, packed, **{"Content-Encoding": coding})
    assert (answer.http, answer.code) == (ROWS["compressed"].http, ROWS["compressed"].code)


async def test_a_chunked_body_without_chunks(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {ENCRYPTED}\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with _raw(client) as (reader, writer):
        writer.write(head.encode())
        writer.write(b"2\r\n{}\r\n")
        await writer.drain()
        writer.write(b"nonsense\r\n")
        async with asyncio.timeout(PATIENCE):
            said = await reader.read()
    assert said.split()[1].decode() == ROWS["damaged-body"].http
    assert not caplog.records
    await _goes_on(client)


@pytest.mark.parametrize("said", [f"Content-Length: {BIG}", "Transfer-Encoding: chunked"])
async def test_a_body_of_100_mb(said: str, client: Client) -> None:
    row, piece = ROWS["too-big"], bytes(64 * KIB)
    framed = b"%x\r\n%s\r\n" % (len(piece), piece) if "chunked" in said else piece
    async with _raw(client) as (reader, writer):
        writer.write(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {ENCRYPTED}\r\n{said}\r\n\r\n".encode())

        async def pour() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(BIG // len(piece)):
                    writer.write(framed)
                    await writer.drain()

        pouring = asyncio.create_task(pour())
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
            problem = json.loads(await reader.readexactly(length))
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
    assert head.split()[1].decode() == row.http
    assert problem["code"] == row.code
    await _goes_on(client)


@pytest.mark.parametrize("fragments", [False, True])
async def test_a_websocket_message_that_is_too_big(fragments: bool, client: Client) -> None:
    """In one frame, and in many that never end."""
    async with _upgraded(client) as (reader, writer):
        if fragments:
            piece = bytes(60 * KIB)
            head = bytes((0x80 | 126,)) + len(piece).to_bytes(2, "big") + bytes(4)
            for number in range(LIMITS.message_bytes // len(piece) + 2):
                writer.write(bytes((0x02 if not number else 0x00,)) + head + piece)
        else:
            writer.write(bytes((0x82, 0x80 | 127)) + BIG.to_bytes(8, "big") + bytes(4) + bytes(300 * KIB))
        async with asyncio.timeout(PATIENCE):
            frame = await reader.readexactly(4)
    assert frame[0] == 0x88
    assert ROWS["too-big"].websocket == f"close {int.from_bytes(frame[2:], 'big')}"
    await _goes_on(client)


async def test_a_binary_message_without_a_hop_session(client: Client) -> None:
    row = ROWS["binary-frame"]
    assert row.websocket == "as HTTP"
    assert await _told(client, b"\x01\x02\x03", binary=True) == row.code
    assert await _told(client, b"", binary=True) == row.code


async def test_a_packet_that_is_none_of_the_hop_session(client: Client) -> None:
    async with client.http.ws_connect(client.ws_url, compress=0, max_msg_size=0) as ws:
        await Leg(ws).open(client.mediator.did)
        await ws.send_bytes(bytes(64))
        answer = await ws.receive(timeout=PATIENCE)
        assert f"close {ws.close_code}" == ROWS["hop-packet"].websocket
        assert answer.extra, "a close without a reason"
    await _goes_on(client)


@pytest.mark.parametrize("frame", [bytes((0xC1, 0x80)), bytes((0x83, 0x80)), bytes((0x89, 0xFE, 0, 126))])
async def test_a_frame_that_breaks_the_protocol(frame: bytes, client: Client) -> None:
    """Compressed though nobody agreed on it, of an unknown kind, and a ping that is too long."""
    async with _upgraded(client) as (reader, writer):
        writer.write(frame + bytes(4 + 126))
        async with asyncio.timeout(PATIENCE):
            answer = await reader.readexactly(4)
    assert answer[0] == 0x88
    assert ROWS["broken-frame"].websocket == f"close {int.from_bytes(answer[2:], 'big')}"
    await _goes_on(client)


async def test_many_faults_close_a_socket(client: Client) -> None:
    async with client.line() as line:
        for _ in range(LIMITS.faults_per_socket):
            await line.ws.send_str("{")
        while (answer := await line.ws.receive(timeout=PATIENCE)).type == WSMsgType.TEXT:
            pass
        assert answer.type == WSMsgType.CLOSE
        assert f"close {answer.data}" == ROWS["many-faults"].websocket
        assert answer.data == WSCloseCode.POLICY_VIOLATION
        assert answer.extra, "a close without a reason"
    await _goes_on(client)


async def test_an_expectation_that_nobody_knows(client: Client) -> None:
    async with client.http.post(client.url, headers={"Expect": "x"}) as response:
        assert (response.status, response.headers["Server"]) == (417, "didmpc")
    await _goes_on(client)


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("unknown-path", b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("unknown-method", b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("not-http", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("not-http", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        ("not-http", b"POST / HTTP/1.1\r\nX: " + bytes([0x41]) * 100_000 + b"\r\n\r\n"),
    ],
)
async def test_what_is_no_request_of_ours(
    name: str, request_: bytes, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async with _raw(client) as (reader, writer):
        writer.write(request_)
        async with asyncio.timeout(PATIENCE):
            line = await reader.readline()
            said = await reader.readuntil(b"\r\n\r\n") + await reader.read(KIB)
    assert line.split()[1].decode() == ROWS[name].http
    assert b"Traceback" not in said and b"Error" not in said
    assert b"Server: didmpc" in said and b"aiohttp" not in said
    assert b"AAAA" not in said, "what came is not shown again"
    assert not caplog.records, "what anybody can cause fills the log"
    await _goes_on(client)


async def test_headers_that_do_not_come(hasty: Client) -> None:
    assert ROWS["slow-headers"].http == "closed"
    async with _raw(hasty) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\n")
        assert await _ends(reader, writer, b"X: y\r\n") == b""


async def test_headers_that_do_not_come_on_a_connection_that_was_used(hasty: Client) -> None:
    async with _raw(hasty) as (reader, writer):
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"POST / HTTP/1.1\r\n")
        assert b"HTTP" not in await _ends(reader, writer, b"X: y\r\n")


async def test_a_body_that_does_not_come(hasty: Client) -> None:
    row = ROWS["slow-body"]
    async with _raw(hasty) as (reader, writer):
        head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {ENCRYPTED}\r\nContent-Length: 1000\r\n\r\n"
        writer.write(head.encode())
        async with asyncio.timeout(PATIENCE):
            line = await reader.readline()
            problem = (await reader.readuntil(b"}")).partition(b"\r\n\r\n")[2]
    assert line.split()[1].decode() == row.http
    assert json.loads(problem)["code"] == row.code
    await _goes_on(hasty)


async def test_a_websocket_message_that_does_not_come(hasty: Client) -> None:
    assert ROWS["slow-frame"].websocket == "closed"
    async with _upgraded(hasty) as (reader, writer):
        writer.write(bytes((0x81, 0x80 | 126)) + (1000).to_bytes(2, "big") + bytes(4))
        await _ends(reader, writer, b"{")
    await _goes_on(hasty)


async def _ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drop: bytes) -> bytes:
    """Send a little every now and then; what was said until the connection ended."""

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    try:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
            return b""
    finally:
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


async def test_more_messages_than_the_rate(hasty: Client) -> None:
    row = ROWS["many-requests"]
    for _ in range(2 * int(HASTY.requests.burst)):
        async with hasty.http.post(hasty.url, data=b"", headers={"Content-Type": ENCRYPTED}) as response:
            if response.status == int(row.http):
                assert (await response.json(content_type=None))["code"] == row.code
                assert int(response.headers["Retry-After"]) > 0
                return
    raise AssertionError("the rate was never reached")


# --- codes


async def test_a_stranger_without_an_account_is_told_where_to_start(client: Client) -> None:
    envelope = CASES["no-account"](client)
    assert (await _posted(client, envelope)).code == ROWS["no-account"].code
    assert (await _told(client, client.pack(pickup.status_request()))) == ""


async def test_the_guide_has_the_numbers_of_the_code() -> None:
    words = GUIDE.read_text()
    assert f"After {Limits().faults_per_socket} refused" in words
    assert f"at most {MAX_TEXT:,} characters, lists of at most {MAX_ITEMS:,}" in words
    assert f"deeper than {MAX_DEPTH} levels" in words
    assert f"more than {MAX_BRACKETS:,} opening brackets" in words
    assert f"{mediation.MAX_UPDATES} `updates`" in words
    assert f"{routing.MAX_FORWARDED} envelopes" in words and routing.MAX_DELAY_MS == 24 * 3600 * 1000
    assert f"{discover_features.MAX_QUERIES} `queries`" in words
    assert f"patterns of {discover_features.MAX_PATTERN} characters" in words


async def test_the_guide_has_every_code_with_its_status() -> None:
    kinds = set(_below(Refusal))
    told = {(kind.code, str(kind.status)) for kind in kinds if kind.__module__.startswith("didmpc.mediator")}
    inputs = {(row.code, row.http) for row in ROWS.values() if row.code and row.http}
    inputs.add(("e.p.msg.bad-body", "400"))
    assert told | inputs <= CODES, "docs/mediator-answers.md, section Codes"
    said = "".join(path.read_text() for source in SOURCES for path in source.rglob("*.py"))
    assert not [code for code, _ in CODES if f'"{code}"' not in said], "the guide has codes that nobody says"


def _below(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)
