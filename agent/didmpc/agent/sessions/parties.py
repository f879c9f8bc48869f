"""Parties as a session needs them: our versions and abilities, names for others, whoever came by a link."""

import platform
from dataclasses import dataclass
from importlib import metadata

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.protocols.mpc.messages import MAX_NAME
from didmpc.protocols.namespace import NAMESPACE

RELAY = f"{NAMESPACE}/relay/1.0"


@dataclass(frozen=True, slots=True)
class LinkPeer:
    """Somebody at the other end of a lobby's link, who is no contact: nothing proves the name.

    To a host these are its guests, to a guest the host. It can be written to and written from while people
    gather; it cannot propose anything, and is forgotten afterwards.
    """

    name: str
    did: str
    my_did: str
    from_prior: None = None
    verified: bool = False
    by_link: bool = True


def versions() -> dict[str, str]:
    """What must be alike at all parties (MPyC), and what helps to explain a failure."""
    found = {"python": platform.python_version(), "didmpc": metadata.version("didmpc")}
    for package in ("mpyc", "numpy", "gmpy2"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def can_relay(mailbox: Mailbox) -> bool:
    """Whether our mediator relays packets; without that they travel as ordinary envelopes, in JSON."""
    return mailbox.supports(RELAY)


def printable(name: str) -> str:
    """A name as it may be sent to others and shown on their terminals."""
    return "".join(c for c in name if c.isprintable())[:MAX_NAME] or "unnamed"
