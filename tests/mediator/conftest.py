"""A mediator in this process, on a real port."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mediator_parts import Client, Leg

from didmpc.mediator.app import Running, running
from didmpc.mediator.home import Home
from didmpc.mediator.limits import KIB, Limits

SMALL = Limits(
    message_bytes=256 * KIB,
    forward_bytes=128 * KIB,
    header_seconds=0.3,
    keys_per_account=4,
    mailbox_messages=12,
    mailbox_bytes=512 * KIB,
    delivery_messages=3,
    live_messages=6,
    channels_per_account=8,
    channels_per_leg=3,
    credit_bytes=64 * KIB,
    faults_per_socket=3,
)
"""Limits that tests can reach."""


@pytest.fixture
async def mediator(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(Home(tmp_path / "mediator"), port=0, limits=SMALL) as mediator:
        yield mediator


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def alice(mediator: Running, http: aiohttp.ClientSession) -> Client:
    return await Client(http, mediator.did).enrol()


@pytest.fixture
async def bob(mediator: Running, http: aiohttp.ClientSession) -> Client:
    return await Client(http, mediator.did).enrol()


NewLeg = Callable[[], Awaitable[Leg]]


@pytest.fixture
async def new_leg(mediator: Running, http: aiohttp.ClientSession) -> AsyncIterator[NewLeg]:
    """Dial one more leg to the mediator."""
    url = mediator.settings.identity.document.services[1].uri
    async with AsyncExitStack() as stack:

        async def dial() -> Leg:
            ws = await stack.enter_async_context(http.ws_connect(url, compress=0, max_msg_size=0))
            return await Leg(ws).open(mediator.did)

        yield dial
