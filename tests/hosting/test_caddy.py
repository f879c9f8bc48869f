"""The Caddyfiles of docker/ in a real Caddy: TLS by an authority of its own, and what goes through it."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from environments import ROOT, missing
from hosting_parts import compute_together, free_port
from mediator_parts import Client
from postgres import Database

from didmpc.bench.cluster import Cluster, Started

pytestmark = [
    pytest.mark.hosting,
    pytest.mark.skipif(bool(missing("caddy")), reason=missing("caddy")),
]

START_WITHIN = 60.0
AUTHORITY = Path("caddy", "pki", "authorities", "local", "root.crt")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caddy")


@pytest.fixture(scope="module")
def authority(place: Path) -> Path:
    """Where Caddy keeps the certificate of its own authority."""
    return place / AUTHORITY


@pytest.fixture(scope="module")
def cluster(place: Path, authority: Path) -> Iterator[Cluster]:
    """A mediator behind Caddy; whatever talks to it trusts that authority and no other."""
    variables = {"SSL_CERT_FILE": str(authority)}
    with Cluster(place / "cluster", mediator_count=1, variables=variables) as started:
        port = free_port()
        mediator = started.start_mediator("mediator", "--public-url", f"https://localhost:{port}")
        mediator.ready()
        with caddy(place, ROOT / "docker" / "Caddyfile", port, UPSTREAM=f"127.0.0.1:{mediator.port}"):
            yield started


@contextmanager
def caddy(place: Path, configuration: Path, port: int, **variables: str) -> Iterator[None]:
    """One that keeps its authority in this folder, and answers to localhost on this port."""
    process = Started(
        ["caddy", "run", "--config", configuration, "--adapter", "caddyfile"],
        environment={
            **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
            "HOME": str(place),
            "XDG_DATA_HOME": str(place),
            "XDG_CONFIG_HOME": str(place),
            "DOMAIN": f"localhost:{port}",
            "CADDY_OPTIONS": "skip_install_trust\n auto_https disable_redirects\n local_certs",
            **variables,
        },
        cwd=place,
        logs=place,
        name="proxy",
    )
    try:
        _until_it_answers(process, port, place / AUTHORITY)
        yield
    finally:
        process.process.terminate()
        process.process.wait(30)


def _until_it_answers(caddy: Started, port: int, authority: Path) -> None:
    until = time.monotonic() + START_WITHIN
    while True:
        assert caddy.process.poll() is None and time.monotonic() < until, caddy.stderr
        try:
            context = ssl.create_default_context(cafile=str(authority))
            with socket.create_connection(("localhost", port), 5) as raw:
                context.wrap_socket(raw, server_hostname="localhost").close()
            return
        except OSError:
            time.sleep(0.05)


@pytest.fixture
async def http(cluster: Cluster, authority: Path) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=str(authority))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield session


async def test_it_terminates_tls_and_says_for_whom_it_connects(
    cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    (mediator,) = cluster.mediators
    assert mediator.url.startswith("https://localhost:")
    async with http.get(mediator.url) as page:
        assert page.status == 200 and "max-age" in page.headers["Strict-Transport-Security"]
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    async with http.get(f"{mediator.url}/metrics") as figures:
        assert figures.status == 404  # these are for the machine alone, not for those behind a proxy
    async with http.get(f"http://127.0.0.1:{mediator.port}/metrics") as figures:
        assert figures.status == 200
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        async with aiohttp.ClientSession() as stranger, stranger.get(mediator.url):
            pass


async def test_a_websocket_carries_mail_through_it(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    (mediator,) = cluster.mediators
    alice = await Client(http, mediator.did).enrol()
    assert alice.ws_url.startswith("wss://")
    did = await alice.new_did()
    async with alice.line() as line:
        await line.go_live()
        assert await Client(http, mediator.did).send(did, b'{"n":1}') == 202
        ((_, body),) = await line.pushed()
    assert body == b'{"n":1}'


async def test_what_is_too_large_ends_at_the_proxy_or_the_mediator_and_harms_neither(
    cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    (mediator,) = cluster.mediators
    alice = Client(http, mediator.did)
    for size in (1_500_000, 5_000_000):
        try:
            status, _ = await alice.post(b"x" * size)
            assert status in (413, 502)  # 502: the mediator refused and closed while Caddy was still sending
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            pass  # closed while we were still sending
    async with http.get(f"{mediator.url}/readyz") as ready:
        assert ready.status == 200


def test_agents_compute_through_it(cluster: Cluster, demos: Path) -> None:
    compute_together(cluster, demos)
    said = cluster.start_command(cluster.mediators[0].home, ["mediator", "status", "--json"], name="status")
    status = said.done().json()
    assert status["sockets"] >= 3 and status["relay"]["packets"] > 0


async def test_behind_that_of_a_cluster_a_node_that_stops_costs_no_mail(
    tmp_path: Path, database: Database
) -> None:
    port, ports = free_port(), [free_port(), free_port()]
    with Cluster(tmp_path / "cluster", mediator_count=0, variables=database.environment) as cluster:
        flags = ("--public-url", f"https://localhost:{port}", "--store", database.url)
        for number in ports:
            home = tmp_path / str(number)
            if cluster.mediators:
                home.mkdir(mode=0o700)
                shutil.copy(cluster.mediators[0].home / "mediator.json", home)
            cluster.start_mediator(home.name, *flags, port=number, home=home).ready()
        upstreams = " ".join(f"127.0.0.1:{number}" for number in ports)
        with caddy(tmp_path, ROOT / "docker" / "cluster" / "Caddyfile", port, UPSTREAMS=upstreams):
            context = ssl.create_default_context(cafile=str(tmp_path / AUTHORITY))
            connector = aiohttp.TCPConnector(ssl=context, force_close=True)  # each request chooses anew
            async with aiohttp.ClientSession(connector=connector) as http:
                first = cluster.mediators[0]
                alice, bob = await Client(http, first.did).enrol(), Client(http, first.did)
                did = await alice.new_did()
                sent = []
                for number in range(30):
                    if number == 10:
                        first.process.send(signal.SIGTERM)
                    async with asyncio.timeout(START_WITHIN):
                        while await bob.send(did, b'{"n":%d}' % number) != 202:
                            await asyncio.sleep(0.1)  # it was taken by the one that stops
                    sent.append(b'{"n":%d}' % number)
                assert first.process.wait().status == 0
                got = []
                while mail := await alice.fetch(50):
                    got += [body for _, body in mail]
                    await alice.acknowledge(*(name for name, _ in mail))
                assert got == sent
