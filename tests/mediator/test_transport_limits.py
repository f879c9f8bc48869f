"""What one address, one DID and one connection may use up, each limit met on purpose."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from mediator_parts import PATIENCE, Client, figures

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import KIB, Buckets, Limits, Rate
from didmpc.mediator.sockets.proxies import Proxies
from didmpc.protocols.message import ENCRYPTED, Message
from didmpc.protocols.messages import discover_features, trust_ping
from didmpc.protocols.messages.discover_features import Query

NEVER = 1e-4
"""Per second: none again while a test runs."""


@contextlib.asynccontextmanager
async def limited(tmp_path: Path, **limits: Any) -> AsyncIterator[Running]:
    async with running(Home(tmp_path / "m"), port=0, limits=Limits(**limits)) as mediator:
        yield mediator


async def post(
    http: aiohttp.ClientSession, url: str, data: Any, **headers: str
) -> tuple[int, dict[str, str], Any]:
    headers = {"Content-Type": ENCRYPTED, **headers}
    async with http.post(url, data=data, headers=headers) as response:
        is_problem = response.content_type == "application/problem+json"
        return response.status, dict(response.headers), await response.json() if is_problem else None


async def counted(http: aiohttp.ClientSession, mediator: Running, limit: str, times: int) -> None:
    """Wait until a limit was met so often."""
    async with asyncio.timeout(2 * PATIENCE):
        while (await figures(http, mediator.settings.url)).get(f"limits_hit_total {limit}") != times:
            await asyncio.sleep(0.05)


def ping(client: Client) -> Message:
    return trust_ping.ping(client.identity.did, client.mediator.did)


Raw = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(mediator: Running) -> Raw:
    parts = urlsplit(mediator.settings.url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def is_answered(raw: Raw) -> bool:
    """Whether a raw connection was let in; one that was not ends by itself."""
    reader, writer = raw
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            return await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    return False


async def until_there_is_room(mediator: Running) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            raw = await dial(mediator)
            is_in = await is_answered(raw)
            raw[1].close()
            if is_in:
                return
            await asyncio.sleep(0.02)


def test_a_bucket_says_when_to_come_again() -> None:
    buckets = Buckets(Rate(per_second=0.5, burst=2))
    assert [buckets.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert buckets.wait("a", 0.0) == 2
    assert buckets.wait("a", 1.5) == 1
    assert not buckets.take("a", 1.9)
    assert buckets.take("a", 2.0)
    assert buckets.wait("b", 0.0) == 1


async def test_an_address_that_sends_too_much_is_told_when_to_come_again_and_others_go_on(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with limited(tmp_path, requests=Rate(NEVER, 2)) as mediator:
        url = mediator.settings.url
        assert [(await post(http, url, b"{}"))[0] for _ in range(2)] == [400, 400]
        status, headers, problem = await post(http, url, b"{}")
        assert (status, problem["code"]) == (429, "e.p.me.res.rate")
        assert int(headers["Retry-After"]) > 1
        # Another address, as a proxy on this machine reports it.
        assert (await post(http, url, b"{}", **{"X-Forwarded-For": "192.0.2.7"}))[0] == 400
        assert (await figures(http, url))["limits_hit_total requests"] == 1


async def test_a_did_that_sends_too_much_is_told_so_wherever_it_comes_from(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with limited(tmp_path, requests_per_did=Rate(NEVER, 2)) as mediator:
        alice, bob = Client(http, mediator.did), Client(http, mediator.did)
        for _ in range(2):
            await alice.ask(ping(alice))
        status, headers, problem = await post(
            http, alice.url, alice.pack(ping(alice)), **{"X-Forwarded-For": "192.0.2.7"}
        )
        assert (status, problem["code"]) == (429, "e.p.me.res.rate")
        assert int(headers["Retry-After"]) > 1
        await bob.ask(ping(bob))  # the same address, another DID
        assert (await figures(http, mediator.settings.url))["limits_hit_total requests-per-did"] == 1


async def test_an_envelope_that_somebody_caught_uses_up_his_rate_and_not_its_writers(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with limited(tmp_path, requests_per_did=Rate(NEVER, 3)) as mediator:
        alice = Client(http, mediator.did)
        caught = alice.pack(ping(alice))
        came = [
            (await post(http, alice.url, caught, **{"X-Forwarded-For": "192.0.2.7"}))[0] for _ in range(6)
        ]
        assert came == [202, 202, 202, 202, 429, 429]
        for _ in range(2):
            await alice.ask(ping(alice))


@pytest.mark.parametrize("limit", ["requests", "requests_per_did"])
async def test_on_a_websocket_whoever_sends_too_much_is_slowed_down_and_loses_nothing(
    tmp_path: Path, http: aiohttp.ClientSession, limit: str
) -> None:
    async with limited(tmp_path, **{limit: Rate(2, 1)}) as mediator:
        alice = Client(http, mediator.did)
        async with alice.line() as line:
            pings = [ping(alice) for _ in range(3)]
            for each in pings:
                await line.tell(each)
            assert [(await line.hear()).thid for _ in pings] == [each.id for each in pings]
        met = (await figures(http, mediator.settings.url))[f"limits_hit_total {limit.replace('_', '-')}"]
        assert met >= 1


@pytest.mark.parametrize("announced", [True, False])
async def test_a_message_that_is_too_big_is_refused_with_the_size_that_is_disclosed(
    tmp_path: Path, http: aiohttp.ClientSession, announced: bool
) -> None:
    async with limited(tmp_path, message_bytes=64 * KIB, forward_bytes=32 * KIB) as mediator:
        alice = Client(http, mediator.did)
        answer = await alice.ask(discover_features.queries([Query("constraint", "max_receive_bytes")]))
        (feature,) = answer.body["disclosures"]
        largest = int(feature["value"])
        assert largest == 64 * KIB
        whole = b"x" * (largest + 1)

        async def pieces() -> AsyncIterator[bytes]:
            yield whole

        status, _, problem = await post(http, alice.url, whole if announced else pieces())
        assert (status, problem["code"]) == (413, "e.p.me.res.storage.message_too_big")
        assert str(largest) in problem["title"]
        assert (await post(http, alice.url, b"x" * largest))[0] == 400  # read, and no envelope
        async with alice.line() as line:
            await line.ws.send_bytes(whole)
            closed = await line.ws.receive(timeout=PATIENCE)
            assert closed.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await counted(http, mediator, "message-bytes", 2)


async def test_connections_beyond_their_number_are_closed_and_room_is_given_back(tmp_path: Path) -> None:
    async with limited(tmp_path, connections=2) as mediator:
        raws = [await dial(mediator) for _ in range(3)]
        assert [await is_answered(raw) for raw in raws] == [True, True, False]
        raws[0][1].close()
        await until_there_is_room(mediator)
        for _, writer in raws:
            writer.close()


async def test_one_address_cannot_take_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Proxies, "include", lambda self, address: False)  # as if we came from elsewhere
    async with limited(tmp_path, connections_per_address=2) as mediator:
        raws = [await dial(mediator) for _ in range(3)]
        assert [await is_answered(raw) for raw in raws] == [True, True, False]
        raws[0][1].close()
        await until_there_is_room(mediator)
        for _, writer in raws:
            writer.close()


async def test_one_address_cannot_take_all_websockets_behind_a_proxy(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with limited(tmp_path, connections_per_address=1) as mediator:
        alice = Client(http, mediator.did)
        async with alice.line():
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with alice.line():
                    pass
            assert refused.value.status == 429
            other = {"X-Forwarded-For": "192.0.2.7"}
            async with http.ws_connect(alice.ws_url, headers=other) as ws:
                assert not ws.closed


async def test_a_peer_that_reads_no_answers_is_dropped(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with limited(tmp_path, write_seconds=0.2) as mediator:
        parts = urlsplit(mediator.settings.url)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
        await counted(http, mediator, "write-seconds", 1)
        writer.transport.abort()
