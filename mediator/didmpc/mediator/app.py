"""One running mediator: every collaborator is made and wired here, and nowhere else."""

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import resource
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from didmpc.mediator.accounts import Accounts
from didmpc.mediator.channels import Channels, Hops
from didmpc.mediator.courtesies import Courtesies
from didmpc.mediator.deliveries import Deliveries
from didmpc.mediator.dialing import Outside
from didmpc.mediator.home import Home, Settings
from didmpc.mediator.http import Web, plain_server_name
from didmpc.mediator.intake import Intake
from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.links import Links
from didmpc.mediator.mailboxes import Mailboxes
from didmpc.mediator.quotas import Quotas
from didmpc.mediator.registration import Registration
from didmpc.mediator.relay import Relay
from didmpc.mediator.resolving import Dids
from didmpc.mediator.rotation import Rotations
from didmpc.mediator.service import Service
from didmpc.mediator.store import EXPIRY_BATCH, Admission, Store
from didmpc.mediator.web_dids import WebDids
from didmpc.mediator.websocket import WebSockets
from didmpc.protocols.errors import DidmpcError, LocalMisuse

log = logging.getLogger(__name__)

SWEEP_EVERY = 60.0
BACKLOG = 512
_PR_SET_DUMPABLE = 4


@dataclass(frozen=True, slots=True)
class Running:
    """A mediator that takes messages."""

    settings: Settings
    host: str

    @property
    def did(self) -> str:
        return self.settings.identity.did


@contextlib.asynccontextmanager
async def running(
    home: Home,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    public_url: str | None = None,
    limits: Limits | None = None,
    outside: Outside | None = None,
    admission: Admission = "open",
) -> AsyncIterator[Running]:
    """A mediator for as long as the block runs. Raises `LocalMisuse` where it cannot start.

    Without a port it takes the one of the last time; a public URL stays until another is given, and an
    empty one takes it back.
    """
    limits = limits or Limits()
    outside = outside or Outside()
    home.prepare()
    with home.locked():
        settings = home.load() or Settings.new()
        public_url = settings.public_url if public_url is None else public_url or None
        with _listen(host, settings.port if port is None else port) as listener:
            settings = settings.listening(host, listener.getsockname()[1], public_url)
            home.save(settings)
            async with contextlib.AsyncExitStack() as stack:
                store = _open_store(home, limits)
                stack.push_async_callback(store.close)
                dialer = outside.dialer(listener.getsockname()[0], settings.url)
                stack.push_async_callback(dialer.close)
                web_dids = WebDids(dialer.http, limits)
                stack.push_async_callback(web_dids.close)
                dids = Dids(store, web_dids)
                registration = Registration(store, admission)
                await stack.enter_async_context(
                    _serving(settings, store, dids, registration, listener, limits)
                )
                yield Running(settings, host)


@contextlib.asynccontextmanager
async def _serving(
    settings: Settings,
    store: Store,
    dids: Dids,
    registration: Registration,
    listener: socket.socket,
    limits: Limits,
) -> AsyncIterator[None]:
    identity = settings.identity
    quotas = Quotas(limits)
    deliveries = Deliveries(store, quotas, limits)
    intake = Intake(store, deliveries, quotas)
    relay = Relay(store, limits)
    links = Links(store, settings.url, limits)
    service = Service(
        [identity] if (nist := settings.nist_identity) is None else [identity, nist],
        dids,
        limits,
        [
            Accounts(store, dids, registration, identity.did, limits).handlers(),
            Mailboxes(store, intake, deliveries, limits).handlers(),
            Channels(store, relay, limits).handlers(),
            Hops(identity, relay, limits).handlers(),
            links.handlers(),
            Courtesies(store, limits).handlers(),
        ],
        checks=[registration.check, Rotations(store, dids, deliveries).follow],
    )
    requests = Buckets(limits.requests)
    websockets = WebSockets(service, deliveries, relay, requests, limits)
    routes = Web(settings, service, websockets, store, relay, links, requests, limits)

    gate = _Gate(limits)
    app = web.Application(client_max_size=limits.message_bytes, middlewares=[gate.note, plain_server_name])
    routes.add_to(app)

    async def close_websockets(_: web.Application) -> None:
        await websockets.close()

    app.on_shutdown.append(close_websockets)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=limits.idle_seconds,
        shutdown_timeout=2.0,
    )
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(
        gate.guarded(runner.server), sock=listener, backlog=BACKLOG
    )
    sweeper = asyncio.create_task(_sweep(store, relay), name="sweeper")
    try:
        yield
    finally:
        sweeper.cancel()
        server.close()
        await runner.cleanup()
        await asyncio.gather(sweeper, return_exceptions=True)


async def _sweep(store: Store, relay: Relay) -> None:
    """Delete what has expired, in small batches."""
    while True:
        try:
            relay.expire(time.time())
            while await store.expire(time.time()) == EXPIRY_BATCH:
                pass
        except DidmpcError as problem:
            log.error("what has expired cannot be deleted: %s", problem)
        await asyncio.sleep(SWEEP_EVERY)


class _Gate:
    """Bounds on connections that aiohttp does not have: their number, and the time to the first request."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._silent: set[web.RequestHandler] = set()

        @web.middleware
        async def note(request: web.Request, handler: Any) -> web.StreamResponse:
            self._silent.discard(request.protocol)
            response: web.StreamResponse = await handler(request)
            return response

        self.note = note

    def guarded(self, server: web.Server) -> Callable[[], asyncio.Protocol]:
        loop = asyncio.get_running_loop()

        def make() -> asyncio.Protocol:
            if len(server.connections) >= self._limits.connections:
                return _Refused()
            protocol = server()
            self._silent.add(protocol)
            loop.call_later(self._limits.header_seconds, self._check, protocol)
            return protocol

        return make

    def _check(self, protocol: web.RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()


class _Refused(asyncio.Protocol):
    """A connection beyond the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as problem:
        raise LocalMisuse(
            f"The mediator cannot listen on {host}.",
            why=f"{problem.strerror}.",
            fix="--host takes an address of this machine, such as 127.0.0.1 or 0.0.0.0.",
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
        return listener
    except OSError as problem:
        listener.close()
        raise _cannot_bind(host, port, problem) from None


def _cannot_bind(host: str, port: int, problem: OSError) -> LocalMisuse:
    what = f"The mediator cannot listen on {host}, port {port}."
    if problem.errno == errno.EADDRINUSE:
        return LocalMisuse(
            what,
            why="Another program uses this port.",
            fix="Stop that program, or take another port with --port N (0: any free one).",
        )
    if problem.errno == errno.EACCES:
        return LocalMisuse(
            what, why="Ports below 1024 are for the administrator.", fix="Take another one with --port N."
        )
    return LocalMisuse(
        what,
        why=f"{problem.strerror}.",
        fix="--host takes an address of this machine, such as 127.0.0.1 or 0.0.0.0.",
    )


def _open_store(home: Home, limits: Limits) -> Store:
    try:
        return Store(home.root, limits)
    except (sqlite3.Error, OSError) as problem:
        raise LocalMisuse(
            f"The mediator's store in {home.root} cannot be opened.",
            why=f"{problem}.",
            fix="Put a backup of the whole folder in its place, or name another home with --home DIR.",
        ) from None


async def serve(
    home: Home,
    *,
    host: str,
    port: int | None,
    public_url: str | None,
    on_ready: Callable[[Running], None],
    limits: Limits | None = None,
) -> signal.Signals:
    """Run until SIGINT or SIGTERM, and say which it was."""
    _close_to_others()
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(which: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(which)

    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, stop, which)
    async with running(home, host=host, port=port, public_url=public_url, limits=limits) as mediator:
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not walk it
        on_ready(mediator)
        return await stopped


def _close_to_others() -> None:
    """Keep our keys from core dumps, and on Linux from other processes of this user too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
