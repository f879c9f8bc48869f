"""docker/Caddyfile in a real Caddy: TLS by an authority of its own, and agents that compute through it."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from environments import ROOT, missing
from hosting_parts import compute_together, free_port
from mediator_parts import Client

from didmpc.bench.cluster import Cluster, Started

pytestmark = [
    pytest.mark.hosting,
    pytest.mark.skipif(bool(missing("caddy")), reason=missing("caddy")),
]

START_WITHIN = 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caddy")


@pytest.fixture(scope="module")
def authority(place: Path) -> Path:
    """Where Caddy keeps the certificate of its own authority."""
    return place / "caddy" / "pki" / "authorities" / "local" / "root.crt"


@pytest.fixture(scope="module")
def cluster(place: Path, authority: Path) -> Iterator[Cluster]:
    """A mediator behind Caddy; whatever talks to it trusts that authority and no other."""
    variables = {"SSL_CERT_FILE": str(authority)}
    with Cluster(place / "cluster", mediator_count=1, variables=variables) as started:
        port = free_port()
        mediator = started.start_mediator("mediator", "--public-url", f"https://localhost:{port}")
        mediator.ready()
        caddy = Started(
            ["caddy", "run", "--config", ROOT / "docker" / "Caddyfile", "--adapter", "caddyfile"],
            environment={
                **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
                "HOME": str(place),
                "XDG_DATA_HOME": str(place),
                "XDG_CONFIG_HOME": str(place),
                "DOMAIN": f"localhost:{port}",
                "UPSTREAM": f"127.0.0.1:{mediator.port}",
                "CADDY_OPTIONS": "skip_install_trust\n auto_https disable_redirects\n local_certs",
            },
            cwd=place,
            logs=place,
            name="proxy",
        )
        try:
            _until_it_answers(caddy, port, authority)
            yield started
        finally:
            caddy.process.terminate()
            caddy.process.wait(30)


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
