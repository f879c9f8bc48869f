"""The parts of an agent in this process, without its daemon, for the tests beside this file."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from didmpc.agent.contacts.contact_exchange import ContactExchange
from didmpc.agent.contacts.contacts import Contacts
from didmpc.agent.contacts.invitations import Invitations
from didmpc.agent.contacts.ping import Pinger
from didmpc.agent.mailbox.courtesies import Courtesies
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.wallet import Wallet


class Silent:
    """The stream of a command that only notes what it is told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def event(self, event: Any) -> None:
        self.events.append(dict(event))

    async def answer(self) -> dict[str, Any]:
        raise AssertionError("nobody answers here")


@dataclass
class Agent:
    """The parts of an agent without its daemon."""

    home: Home
    wallet: Wallet
    mailbox: Mailbox
    contacts: Contacts = field(init=False)

    def __post_init__(self) -> None:
        self.contacts = Contacts(self.wallet)
        self.invitations = Invitations(self.wallet, self.mailbox)
        self.exchange = ContactExchange(self.wallet, self.mailbox, self.contacts, self.invitations)
        self.pinger = Pinger(self.mailbox)
        self.courtesies = Courtesies(self.mailbox)

    async def accept(self, url: str, name: str | None = None, **options: Any) -> Any:
        return await self.exchange.accept(url, name, Silent(), **options)


Start = Callable[..., Awaitable[Agent]]
PATIENCE = 60.0
"""Seconds; nothing that works takes so long, on a slow and busy machine either."""


async def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)
