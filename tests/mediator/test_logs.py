"""Logs: who is named and how, what is never written, and their two forms."""

import asyncio
import io
import json
import logging
import re
import signal
import stat
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from mediator_parts import Client, Process
from operator_parts import mediator_command

from didmpc.mediator.app import Running
from didmpc.mediator.host import logs
from didmpc.mediator.host.home import Home
from didmpc.mediator.host.logs import JsonLines, Names, TextLines
from didmpc.protocols.did import canonical
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import ENCRYPTED
from didmpc.protocols.messages import pickup

DID = re.compile(r"did:[a-z0-9]+:")


@pytest.fixture
def names() -> Names:
    return Names(b"k" * 32)


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "args": arguments, "levelname": "INFO", "name": "here"})
    vars(made).update(extra)
    return made


def test_a_party_has_one_name_whatever_form_its_did_has_and_another_key_gives_another(names: Names) -> None:
    did = Identity.peer4().did
    assert logs.NAME.fullmatch(names.of(did))
    assert names.of(did) == names.of(canonical(did))
    assert names.of(did) != Names(b"x" * 32).of(did)
    assert "k" * 32 not in repr(names)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("{} has no account", "{} has no account"),
        ("from {}.", "from {}."),
        ("({}#key-1)", "({}#key-1)"),
        ("https://x/{}", "https://x/{}"),
        ("{}, {}", "{}, {}"),
        ("nothing", "nothing"),
    ],
)
def test_a_did_is_replaced_wherever_it_stands_in_a_record(names: Names, text: str, hidden: str) -> None:
    for did in (Identity.peer4().did, Identity.key().did, "did:web:example.org%3A8443:user:a-b_c"):
        said = TextLines(names).format(record(text.replace("{}", did)))
        assert said.endswith(hidden.replace("{}", names.of(did)))
        assert not DID.search(said)


def test_a_json_line_has_fields_stays_one_line_and_hides_dids_in_tracebacks_too(names: Names) -> None:
    did = Identity.peer4().did
    try:
        raise ValueError(f"{did}\nforged")
    except ValueError as problem:
        made = record("refused %s\n", did, account=did, code="e.p.x", exc_info=(ValueError, problem, None))
    line = JsonLines(names).format(made)
    assert "\n" not in line and not DID.search(line)
    content = json.loads(line)
    assert content["account"] == names.of(did)
    assert content["code"] == "e.p.x"
    assert content["level"] == "info"
    assert names.of(did) in content["exception"]


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.log_key() == home.log_key()
    assert len(home.log_key()) == 32
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600


def test_starting_logs_writes_in_the_form_that_was_asked_for(names: Names) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    try:
        for form, shape in (("json", r'\{"at": .*"message": "hello"'), ("text", r"INFO here: hello")):
            stream = io.StringIO()
            logs.start(names, level="info", form=form, stream=stream)
            logging.getLogger("here").info("hello")
            assert re.search(shape, stream.getvalue())
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])


async def exchange(http: aiohttp.ClientSession, process: Process) -> tuple[Client, Client]:
    """Mail from one account to another, fetched, pushed, acknowledged; and what is refused."""
    alice, bob = [await Client(http, process.ready["did"]).enrol() for _ in range(2)]
    did = await alice.new_did()
    await bob.send(did, b'{"n":1}')
    await alice.acknowledge(*(name for name, _ in await alice.fetch()))
    async with alice.line() as line:
        await line.go_live()
        await bob.send(did, b'{"n":2}')
        await line.acknowledge(*(name for name, _ in await line.pushed()))
    assert await bob.register(did) == ["client_error"]
    await bob.send(Identity.key().did, b"{}")
    await Client(http, process.ready["did"]).ask(pickup.status_request())
    return alice, bob


async def test_a_real_exchange_leaves_no_did_in_the_most_talkative_log_only_names(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path).start("--port", "0", "--log-level", "debug", "--log-format", "json")
    await exchange(http, process)
    listed = (await mediator_command(tmp_path, "accounts", "--json")).json["accounts"]
    _, said = await process.stop(signal.SIGTERM)
    assert not DID.search(said)
    lines = [json.loads(line) for line in said.splitlines()]
    refused = [line for line in lines if line["message"].startswith("refused")]
    assert {line["code"] for line in refused} == {"e.p.req.not_enroll"}
    named = {line["account"] for line in refused if "account" in line}
    assert named and not named & {row["name"] for row in listed}  # a stranger was refused, no account
    for row in listed:
        assert row["did"] not in said


async def test_by_default_a_real_exchange_leaves_no_line_at_all(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path).start("--port", "0")
    await exchange(http, process)
    assert await process.stop(signal.SIGTERM) == (0, "")


async def test_a_client_that_goes_before_its_answer_comes_is_no_error(
    mediator: Running, alice: Client, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(alice.url)
    for _ in range(20):
        body = alice.pack(pickup.status_request(), return_route="all")
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST / HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {ENCRYPTED}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.transport.abort()
    assert await alice.waiting() == 0
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []
