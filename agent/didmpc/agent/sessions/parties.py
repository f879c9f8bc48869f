"""Facts about this party that a session needs: its versions, its abilities, its names for others."""

import platform
from importlib import metadata

from didmpc.agent.mailbox import Mailbox
from didmpc.protocols.mpc.messages import MAX_NAME
from didmpc.protocols.namespace import NAMESPACE

RELAY = f"{NAMESPACE}/relay/1.0"


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
