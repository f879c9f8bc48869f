"""What a monitor sees: alive, ready, figures; and who may see figures at all."""

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from mediator_parts import PATIENCE, Client, figures
from operator_parts import mediator_command

from didmpc.mediator import app, health
from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import Limits
from didmpc.mediator.store.errors import StoreFailed
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.message import ENCRYPTED


async def get(http: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, str]:
    async with http.get(url, headers=headers) as response:
        return response.status, await response.text()


async def until(http: aiohttp.ClientSession, url: str, wanted: tuple[int, str]) -> None:
    async with asyncio.timeout(PATIENCE):
        while await get(http, url) != wanted:
            await asyncio.sleep(0.02)


async def test_a_mediator_that_takes_mail_is_alive_and_ready(
    http: aiohttp.ClientSession, mediator: Running
) -> None:
    for path in ("healthz", "readyz"):
        assert await get(http, f"{mediator.settings.url}/{path}") == (200, "ok\n")


async def test_with_too_little_disk_it_is_not_ready_and_takes_no_mail(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with running(Home(tmp_path), port=0, limits=Limits(free_disk_for_mail_bytes=1 << 62)) as mediator:
        url = mediator.settings.url
        assert await get(http, f"{url}/readyz") == (503, "disk\n")
        assert await get(http, f"{url}/healthz") == (200, "ok\n")
        alice = await Client(http, mediator.did).enrol()
        assert await alice.send(await alice.new_did(), b"{}") == 507


async def test_a_store_that_cannot_be_written_is_not_ready_until_it_can(
    http: aiohttp.ClientSession, mediator: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(health, "PROBE_EVERY", 0.0)
    ready = f"{mediator.settings.url}/readyz"
    other = sqlite3.connect(tmp_path / "mediator" / "mediator.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # nobody else can write now
    assert await get(http, ready) == (503, "store\n")
    assert (await figures(http, mediator.settings.url))["ready"] == 0
    other.execute("ROLLBACK")
    other.close()
    monkeypatch.setattr(health, "PROBE_SECONDS", PATIENCE)
    await until(http, ready, (200, "ok\n"))
    found = await figures(http, mediator.settings.url)
    assert (found["ready"], found["nodes"]) == (1, 1)


async def test_figures_are_there_while_the_store_is_not(
    http: aiohttp.ClientSession, mediator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> None:
        raise StoreFailed("The database is out of reach.")

    monkeypatch.setattr(health, "PROBE_EVERY", 0.0)
    with monkeypatch.context() as outage:
        outage.setattr(SqliteStore, "probe", away)
        outage.setattr(SqliteStore, "totals", away)
        found = await figures(http, mediator.settings.url)
    assert found["ready"] == 0 and found["websockets"] == 0
    found = await figures(http, mediator.settings.url)  # and it is counted at once
    assert (found["ready"], found["stored accounts"]) == (1, 0)


async def test_readiness_asked_often_costs_few_writes(
    http: aiohttp.ClientSession, mediator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_EVERY", 3600.0)
    ready = f"{mediator.settings.url}/readyz"
    await get(http, ready)
    before = await figures(http, mediator.settings.url)
    for _ in range(5):
        assert await get(http, ready) == (200, "ok\n")
    after = await figures(http, mediator.settings.url)
    assert after["commit_seconds_count"] == before["commit_seconds_count"]


async def test_figures_count_messages_refusals_sockets_and_what_is_stored_and_name_nobody(
    http: aiohttp.ClientSession, mediator: Running, alice: Client, bob: Client
) -> None:
    did = await alice.new_did()
    assert await bob.send(did, b'{"n":1}') == 202
    async with alice.line() as line:
        await line.go_live()
        assert await bob.send(did, b'{"n":2}') == 202
        await line.pushed()
        counted = await figures(http, mediator.settings.url)
    assert (counted["stored accounts"], counted["stored mailboxes"], counted["stored messages"]) == (2, 1, 2)
    assert (counted["websockets"], counted["live_subscriptions"]) == (1, 1)
    assert counted["messages_in_total http"] == 5  # two enrolments, one key, two forwards
    assert counted["messages_in_total websocket"] == 1
    assert counted["messages_out_total websocket"] == 2
    assert counted["commit_operations_count"] > 0
    await bob.send("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", b"{}")
    async with http.get(f"{mediator.settings.url}/metrics") as response:
        text = await response.text()
    assert 'refusals_total{code="e.p.req.not_enroll"} 1.0' in text
    for secret in ("did:", "127.0.0.1", "account-"):
        assert secret not in text


async def test_figures_are_for_this_machine_only(http: aiohttp.ClientSession, mediator: Running) -> None:
    url = f"{mediator.settings.url}/metrics"
    assert mediator.metrics_url == url
    port = urlsplit(url).port
    assert (await get(http, url))[0] == 200
    assert (await get(http, url, Host=f"localhost:{port}"))[0] == 200
    for headers in (
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Real-IP": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Via": "1.1 proxy"},
        {
            "Host": "mediator.example.org"
        },  # a proxy that keeps the name, or a page that took one for this address
    ):
        assert (await get(http, url, **headers))[0] == 404


async def test_with_a_listener_of_their_own_figures_are_there_and_nowhere_else(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with running(Home(tmp_path), port=0, metrics_listen="127.0.0.1:0") as mediator:
        assert urlsplit(mediator.metrics_url).port != urlsplit(mediator.settings.url).port
        assert (await get(http, mediator.metrics_url, Host="prometheus.internal"))[0] == 200
        monitors = mediator.metrics_url.removesuffix("/metrics")
        assert await get(http, f"{monitors}/readyz") == (200, "ok\n")
        assert (await get(http, f"{monitors}/"))[0] == 404
        assert (await get(http, f"{mediator.settings.url}/metrics"))[0] == 404


async def test_while_it_stops_it_is_not_ready_and_sockets_are_told_to_come_back(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with running(Home(tmp_path), port=0, metrics_listen="127.0.0.1:0") as mediator:
        ready = mediator.metrics_url.replace("/metrics", "/readyz")
        parts = urlsplit(mediator.settings.url)
        # A WebSocket whose peer reads the close and does not answer: it holds the stop up for a while.
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        key = b"dGhlIHNhbXBsZSBub25jZQ=="
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        kept = aiohttp.ClientSession()
        assert (await get(kept, f"{mediator.settings.url}/healthz"))[0] == 200

        async def watch() -> bytes:
            async with asyncio.timeout(PATIENCE):
                frame = await reader.readexactly(4)
                assert await get(http, ready) == (503, "stopping\n")
                with pytest.raises(OSError):  # nothing new is accepted
                    await asyncio.open_connection(parts.hostname, parts.port)
            return frame

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
    frame = await watching
    assert frame[0] == 0x88  # a close, of the code 1012: service restart
    assert int.from_bytes(frame[2:4], "big") == 1012
    writer.close()
    await kept.close()


async def test_a_request_that_never_ends_holds_a_stop_up_only_for_a_while(
    http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STOP_SECONDS", 0.1)
    async with asyncio.timeout(PATIENCE):
        async with running(Home(tmp_path), port=0) as mediator:
            parts = urlsplit(mediator.settings.url)
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {ENCRYPTED}\r\nContent-Length: 9\r\n\r\n{{"
            writer.write(head.encode())
            await get(http, f"{mediator.settings.url}/healthz")  # by now that was read too
        with contextlib.suppress(ConnectionError):
            assert b" 202 " not in await reader.read()
    writer.close()


async def test_a_command_says_whether_mail_is_taken_in(mediator: Running, tmp_path: Path) -> None:
    said = await mediator_command(tmp_path / "mediator", "ready", "--json")
    assert said.json == {"ready": True, "obstacles": []}
    stopped = await mediator_command(tmp_path / "other", "ready")
    assert (stopped.status, stopped.out) == (1, "") and "not running" in stopped.err


async def test_the_same_command_says_why_not(tmp_path: Path) -> None:
    async with running(Home(tmp_path), port=0, limits=Limits(free_disk_for_mail_bytes=1 << 62)):
        said = await mediator_command(tmp_path, "ready", "--json")
        assert (said.status, json.loads(said.out)) == (1, {"ready": False, "obstacles": ["disk"]})
