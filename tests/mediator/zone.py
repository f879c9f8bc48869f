"""Names without a network."""

import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult


class Zone(AbstractResolver):
    """Says which addresses a name has: each look-up the next, the last one again and again."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.fails = False

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        self.asked.append(host)
        if self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution")
        left = self.addresses.get(host)
        if not left:
            raise OSError(None, "no such name")
        address = left.pop(0) if len(left) > 1 else left[0]
        return [ResolveResult(hostname=host, host=address, port=port, family=2, proto=0, flags=0)]

    async def close(self) -> None:
        pass
