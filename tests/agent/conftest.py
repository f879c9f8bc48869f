"""Agents in this process, on a mediator in memory."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from agent_parts import PATIENCE, Agent, Start
from awkward_mediator import AwkwardMediator

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.wallet import Wallet


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
async def mediator() -> AsyncIterator[AwkwardMediator]:
    mediator = AwkwardMediator()
    await mediator.start()
    yield mediator
    await mediator.close()


@pytest.fixture
async def start(tmp_path: Path, mediator: AwkwardMediator) -> AsyncIterator[Start]:
    """Starts an agent of a name; started again under this name it finds its home as it was."""
    async with AsyncExitStack() as stack:

        async def start(name: str, at: AwkwardMediator | None = None, connect: float = PATIENCE) -> Agent:
            home = Home(tmp_path / name)
            home.prepare()
            wallet = Wallet.open(home)
            wallet.settings.label = name
            http = await stack.enter_async_context(aiohttp.ClientSession())
            agent = Agent(home, wallet, Mailbox(wallet, (at or mediator).identity.did, http))
            stack.push_async_callback(agent.mailbox.close)
            await agent.mailbox.start(connect)
            return agent

        yield start
