"""Connections that the mediator makes: where a peer wants it to go, and nowhere that it must not.

Every socket is checked as it is made, for the very address it connects to: no name that resolves anew and
no redirect leads around that. Proxies of the environment are not used, cookies not kept.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from didmpc.protocols.addresses import is_public, names_private

LOOKUPS_AT_ONCE = 16
KEEP_SECONDS = 15.0
NAMES_SECONDS = 10
CONNECT_SECONDS = 10.0


_Infos = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]]


class NotPublic(OSError):
    """An address that only we can reach, or only some around us."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What the operator says about connections that the mediator makes."""

    allow_private: bool = False
    """Whether private addresses may be connected to in any case."""
    onward: bool = True
    """Whether mail for recipients elsewhere is passed on."""
    names: AbstractResolver | None = None
    tls: ssl.SSLContext | None = None
    """Other look-ups and certificate authorities than those of the system."""

    def dialer(self, listening: str, url: str) -> "Dialer":
        """For a mediator that listens on the address `listening` and is reached by others under `url`.

        Private addresses are for one that only this machine reaches: behind a proxy it listens on loopback
        too, and is for everybody all the same.
        """
        local = ipaddress.ip_address(listening).is_loopback and names_private(url)
        anywhere = self.allow_private or local
        return Dialer((lambda _: True) if anywhere else is_public, names=self.names, tls=self.tls)


class Names(AbstractResolver):
    """The names of the system, in threads of our own: a slow one delays no other work, and no stop."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        await (
            self._free.acquire()
        )  # released once the thread has ended, which nobody may be waiting for by then
        loop = asyncio.get_running_loop()
        found: asyncio.Future[_Infos] = loop.create_future()

        def look_up() -> None:
            infos: _Infos = ()
            problem: Exception | None = None
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
            except Exception as error:
                problem = error if isinstance(error, OSError) else OSError(None, str(error))
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(end, infos, problem)

        def end(infos: _Infos, problem: Exception | None) -> None:
            self._free.release()
            if found.done():
                return
            if problem is None:
                found.set_result(infos)
            else:
                found.set_exception(problem)

        # A daemon: a thread of an executor would be waited for when the process ends.
        threading.Thread(target=look_up, name="names", daemon=True).start()
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for family, _, protocol, _, address in await found
        ]

    async def close(self) -> None:
        """Nothing to close: a look-up that is under way ends by itself."""


class Dialer:
    """A client whose sockets connect only to addresses that `allows` says yes to."""

    def __init__(
        self,
        allows: Callable[[str], bool],
        *,
        names: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`names` and `tls`: of the system, where no others are given."""
        self._names = names or Names()

        def checked(info: aiohttp.AddrInfoType) -> socket.socket:
            family, kind, protocol, _, address = info
            if not allows(str(address[0])):
                raise NotPublic("This is no public address.")
            return socket.socket(family, kind, protocol)

        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=checked,
                resolver=self._names,
                limit=0,  # how many at once is bounded by each use
                ttl_dns_cache=NAMES_SECONDS,
                keepalive_timeout=KEEP_SECONDS,
                ssl=tls or True,
            ),
            # Each use has its own limit of time.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # nothing small becomes large
            headers={"Accept-Encoding": "identity", "User-Agent": "didmpc"},
            middlewares=(_no_redirected_websocket,),
        )

    async def close(self) -> None:
        await self.http.close()
        await self._names.close()


async def _no_redirected_websocket(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """aiohttp would follow the redirect of a WebSocket handshake anywhere, unasked."""
    response = await handler(request)
    if request.url.scheme in ("ws", "wss") and 300 <= response.status < 400:
        response.close()
        raise aiohttp.WSServerHandshakeError(response.request_info, (), status=response.status)
    return response


async def read_all(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body of an answer; None where it is longer than `limit` bytes."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            return None
    return bytes(content)


def is_not_public(error: BaseException) -> bool:
    """Whether it was our own choice not to connect."""
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, NotPublic)
