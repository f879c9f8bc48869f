"""A message from everybody to everybody, through our mediator; but for `ours`, no end shares code with it.

The sender packs and forwards by itself, as it likes best; the recipient is a client of the mediator.
"""

from collections.abc import Callable, Iterator

import pytest
from interop_parts import Agent, Drivers, Json, Peer
from mediated import AgentMailbox, LibraryMailbox, Mailbox, OurMailbox

PEERS = (
    "pypi_didcomm",
    "pypi_didcomm_messaging",
    "npm_didcomm_node",
    "npm_identus",
    "npm_identus live",
    "ours",
)
# PyPI `peerdid` writes a service in a shape from before September 2023, which two of the others cannot read.
FORMS: dict[str, Json] = {"pypi_didcomm": {"flat": False}}


@pytest.fixture(scope="module")
def mailbox(drivers: Drivers, mediator: Json) -> Iterator[Callable[[str], Mailbox]]:
    """The mailbox of a peer by name: one for all tests."""
    opened: dict[str, Mailbox] = {}

    def of(name: str) -> Mailbox:
        if name not in opened:
            opened[name] = make(name)
        return opened[name]

    def make(name: str) -> Mailbox:
        if name == "ours":
            return OurMailbox(mediator["did"])
        driver, _, live = name.partition(" ")
        child = drivers.child(driver)
        if driver == "npm_identus":
            return AgentMailbox(Agent(child), mediator["did"], live=bool(live))
        return LibraryMailbox(Peer(child), mediator["did"], **FORMS.get(driver, {}))

    yield of
    for one in opened.values():
        if isinstance(one, AgentMailbox):
            one.stop()


@pytest.mark.parametrize("recipient", PEERS)
@pytest.mark.parametrize("sender", PEERS)
def test_a_message_goes_from_peer_to_peer(
    mailbox: Callable[[str], Mailbox], sender: str, recipient: str
) -> None:
    one, other = mailbox(sender), mailbox(recipient)
    content = f"from {sender} to {recipient}: Grüße, 多方计算"
    one.write(other.did, content)
    arrived = other.read()
    assert arrived["body"] == {"content": content}
    assert arrived["from"] == one.did
