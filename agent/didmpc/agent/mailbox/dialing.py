"""Connections to where a peer wants them to go: not to this machine, nor into the networks around it.

Every socket is checked as it is made, for the very address it connects to: no name that resolves anew and
no redirect leads around that.
"""

import os
import socket
from collections.abc import Callable

import aiohttp

from didmpc.protocols.addresses import is_public
from didmpc.protocols.errors import DidmpcError

ALLOW_PRIVATE = "DIDMPC_ALLOW_PRIVATE"  # environment variable; 1: connect to private addresses in any case


class _NotPublic(OSError):
    """An address that only we can reach, or only some around us."""


def connector(allows_private: Callable[[], bool]) -> aiohttp.TCPConnector:
    """Connects to private addresses only where `allows_private` says so at that moment."""

    def checked(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not (allows_private() or is_public(str(address[0]))):
            raise _NotPublic("This is no public address.")
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(socket_factory=checked)


def is_allowed_by_user() -> bool:
    return os.environ.get(ALLOW_PRIVATE) == "1"


def raise_if_not_public(error: Exception) -> None:
    """Say so when it was our own choice not to connect. Raises `DidmpcError`."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _NotPublic):
        raise DidmpcError(
            f"Nothing goes to {error.host}:{error.port}: this is no public address.",
            why="It leads to this machine or into a private network, and whoever is written to chose it.",
            fix=f"If it is meant so, start the agent with {ALLOW_PRIVATE}=1 in its environment.",
        ) from None
