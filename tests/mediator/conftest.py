"""A mediator in this process, on a real port."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mediator_parts import SMALL, Client, Leg
from postgres import database, postgres_server
from store_parts import place

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home

__all__ = ["database", "place", "postgres_server"]  # fixtures


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
