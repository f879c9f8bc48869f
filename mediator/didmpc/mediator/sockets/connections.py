"""Bounds on connections that aiohttp does not have: how many, and how long one may say or read nothing."""

import asyncio
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from didmpc.mediator.limits import Limits
from didmpc.mediator.metrics import Metrics
from didmpc.mediator.sockets.proxies import Proxies

SERVER_NAME = "didmpc"
"""What answers call this: not the versions of the libraries that it is made of."""


class Gate:
    """Stands between the listening socket and aiohttp.

    Addresses are those of the connections. One that may be a proxy's, with many people behind it, has no
    limit of its own here.
    """

    def __init__(self, limits: Limits, metrics: Metrics, proxies: Proxies) -> None:
        self._limits = limits
        self._proxies = proxies
        self._metrics = metrics
        self._silent: set[web.RequestHandler] = set()
        self._per_address: Counter[str] = Counter()
        self._addresses: dict[web.RequestHandler, str] = {}

    @property
    def middleware(self) -> Middleware:
        """Notes that a request came, and bounds the time in which its answer is read."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._silent.discard(request.protocol)
            response = await handler(request)
            if not response.prepared:
                await self._send(request, response)
            return response

        return middleware

    def guarded(self, server: web.Server) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a new connection."""
        loop = asyncio.get_running_loop()
        made, lost = server.connection_made, server.connection_lost

        def connection_made(handler: web.RequestHandler, transport: asyncio.Transport) -> None:
            made(handler, transport)
            self._count(handler, transport)

        def connection_lost(handler: web.RequestHandler, exc: BaseException | None = None) -> None:
            lost(handler, exc)
            self._forget(handler)

        # Only here are both the connection and its address known, before anything is read from it.
        server.connection_made = connection_made  # type: ignore[method-assign]
        server.connection_lost = connection_lost  # type: ignore[method-assign]

        def make() -> asyncio.Protocol:
            if len(server.connections) >= self._limits.connections:
                self._metrics.limits_hit.labels("connections").inc()
                return _Refused()
            protocol = _Handler(server, loop=loop, **server._kwargs)  # as the server itself makes them
            self._silent.add(protocol)
            loop.call_later(self._limits.header_seconds, self._check, protocol)
            return protocol

        return make

    # --- inner

    def _count(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not address or self._proxies.include(address):
            return
        if self._per_address[address] >= self._limits.connections_per_address:
            self._metrics.limits_hit.labels("connections-per-address").inc()
            transport.abort()
            return
        self._per_address[address] += 1
        self._addresses[handler] = address

    def _forget(self, handler: web.RequestHandler) -> None:
        self._silent.discard(handler)
        address = self._addresses.pop(handler, None)
        if address is not None:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    def _check(self, protocol: web.RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            self._metrics.limits_hit.labels("header-seconds").inc()
            if protocol.transport is not None:
                protocol.transport.abort()

    async def _send(self, request: web.Request, response: web.StreamResponse) -> None:
        try:
            async with asyncio.timeout(self._limits.write_seconds):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            self._metrics.limits_hit.labels("write-seconds").inc()
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            return  # nobody is there to read the answer


class _Handler(web.RequestHandler):
    """Answers what is no HTTP without showing it again, nor what this is made of."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        response = super().handle_error(request, status, exc, HTTPStatus(status).phrase)
        response.headers["Server"] = SERVER_NAME
        return response


class _Refused(asyncio.Protocol):
    """A connection beyond the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
