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
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from didmpc.mediator.handlers.accounts import Accounts
from didmpc.mediator.handlers.channels import Channels, Hops
from didmpc.mediator.handlers.courtesies import Courtesies
from didmpc.mediator.handlers.links import Links
from didmpc.mediator.handlers.mailboxes import Mailboxes
from didmpc.mediator.handlers.registration import Registration
from didmpc.mediator.handlers.rotation import Rotations
from didmpc.mediator.health import Health
from didmpc.mediator.host.configuration import Configuration, address
from didmpc.mediator.host.home import ANY_ADDRESS, Home, Settings, local_url
from didmpc.mediator.host.notify import Notifier
from didmpc.mediator.limits import MIB, UNLIMITED, Buckets, Limits
from didmpc.mediator.mail.deliveries import Deliveries
from didmpc.mediator.mail.intake import Intake
from didmpc.mediator.mail.onward import Onward
from didmpc.mediator.mail.outgoing import Outgoing
from didmpc.mediator.mail.quotas import Quotas
from didmpc.mediator.metrics import Metrics
from didmpc.mediator.neighbours import Alone
from didmpc.mediator.operator.control import ControlServer
from didmpc.mediator.operator.history import History
from didmpc.mediator.operator.live import LiveMediator, PageAt, add_gauges
from didmpc.mediator.operator.methods import Operator
from didmpc.mediator.operator.site import OperatorSite
from didmpc.mediator.operator.token import Token
from didmpc.mediator.pages.page import About
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.resolving.dialing import Outside
from didmpc.mediator.resolving.resolving import Dids
from didmpc.mediator.resolving.web_dids import WebDids
from didmpc.mediator.service.places import Places
from didmpc.mediator.service.service import Service
from didmpc.mediator.sockets.connections import Gate
from didmpc.mediator.sockets.http import Web, say_plain_name
from didmpc.mediator.sockets.proxies import Proxies
from didmpc.mediator.sockets.websocket import WebSockets
from didmpc.mediator.store import EXPIRY_BATCH, Admission, Store, StoreFailed
from didmpc.mediator.store.opening import open_store
from didmpc.protocols.errors import DidmpcError, LocalMisuse

if TYPE_CHECKING:
    from didmpc.mediator.cluster.cluster import Cluster

log = logging.getLogger(__name__)

SWEEP_EVERY = 60.0
STOP_SECONDS = 4.0
"""For requests that are under way when it stops; then they are ended, and no answer says they were done."""
BACKLOG = 512
LOCAL_NODES = "127.0.0.1:0"
"""Where nodes of one machine reach each other, unless they are told otherwise."""
SPARE_FILES = 256
"""Open files beside those of connections: the store, the log, listeners, requests to others."""
_PR_SET_DUMPABLE = 4
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@dataclass(frozen=True, slots=True)
class Running:
    """A mediator that takes messages."""

    settings: Settings
    host: str
    metrics_url: str

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
    relays: bool = True,
    metrics_listen: str = "",
    operator_listen: str = "",
    proxies: Proxies | None = None,
    contact: str = "",
    configuration: Configuration | None = None,
    store_url: str = "",
    node_listen: str = "",
    node_url: str = "",
) -> AsyncIterator[Running]:
    """A mediator for as long as the block runs. Raises `LocalMisuse` where it cannot start.

    Without a port it takes the one of the last time; a public URL stays until another is given, and an
    empty one takes it back. `configuration` is what its operator is shown. With a `store_url` it is one of
    any number of nodes on that database, which reach each other where `node_listen` and `node_url` say.
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
                store = await open_store(home, limits, store_url)
                stack.push_async_callback(store.close)
                for warning in store.describe().warnings:
                    log.critical("%s", warning)
                dialer = outside.dialer(listener.getsockname()[0], settings.url)
                stack.push_async_callback(dialer.close)
                web_dids = WebDids(dialer.http, limits)
                stack.push_async_callback(web_dids.close)
                places = Places(limits.handled_at_once)
                dids = Dids(store, web_dids, places)
                outgoing = Outgoing(store, dialer.http, limits)
                stack.push_async_callback(_ended, asyncio.create_task(outgoing.run(), name="outgoing"))
                registration = Registration(store, admission)
                monitors = screen = None
                metrics_url = local_url(host, settings.port)
                if metrics_listen:
                    where, number = address(metrics_listen)
                    monitors = stack.enter_context(_listen(where, number, "--metrics-listen"))
                    metrics_url = local_url(where, monitors.getsockname()[1])
                if operator_listen:
                    screen = stack.enter_context(_listen(*address(operator_listen), "--operator-listen"))
                cluster = await _cluster(stack, settings, store_url, node_listen, node_url)
                await stack.enter_async_context(
                    _serving(
                        *(home, settings, store, dids, places, registration, outgoing, cluster),
                        onwards=outside.onward,
                        relays=relays,
                        listener=listener,
                        monitors=monitors,
                        screen=screen,
                        limits=limits,
                        proxies=proxies or Proxies(),
                        about=About(
                            settings.url.partition("://")[2], limits, admission, contact, relays=relays
                        ),
                        configuration=configuration,
                    )
                )
                yield Running(settings, host, f"{metrics_url}/metrics")


async def _cluster(
    stack: contextlib.AsyncExitStack, settings: Settings, store_url: str, node_listen: str, node_url: str
) -> "Cluster | None":
    """A place among the other nodes, where there can be some. Raises `LocalMisuse`."""
    if not store_url:
        return None
    from didmpc.mediator.cluster.cluster import Cluster  # noqa: PLC0415
    from didmpc.mediator.cluster.tables import Tables  # noqa: PLC0415
    from didmpc.mediator.store.postgres.connection import Postgres  # noqa: PLC0415
    from didmpc.mediator.store.postgres.opening import cannot_use  # noqa: PLC0415

    where, number = address(node_listen or LOCAL_NODES)
    listener = stack.enter_context(_listen(where, number, "--node-listen"))
    reached = node_url or local_url(*listener.getsockname()[:2]).removeprefix("http://")
    if not node_url and where in ANY_ADDRESS:
        raise LocalMisuse(
            "A node that listens on all addresses must be told under which one other nodes reach it.",
            fix=f"Add --node-url, for example  --node-url 192.168.1.5:{listener.getsockname()[1]}",
        )
    tables = Tables(Postgres(store_url, reads=2, writes=2))
    try:
        cluster = await Cluster.join(
            tables, keys=settings.fingerprint, public_url=settings.url, url=reached, listener=listener
        )
    except BaseException as problem:
        await tables.close(within=0)
        if isinstance(problem, StoreFailed):
            raise cannot_use(store_url, problem) from None
        raise
    stack.push_async_callback(tables.close)
    stack.push_async_callback(cluster.leave)
    return cluster


@contextlib.asynccontextmanager
async def _serving(
    home: Home,
    settings: Settings,
    store: Store,
    dids: Dids,
    places: Places,
    registration: Registration,
    outgoing: Outgoing,
    cluster: "Cluster | None",
    *,
    onwards: bool,
    relays: bool,
    listener: socket.socket,
    monitors: socket.socket | None,
    screen: socket.socket | None,
    limits: Limits,
    proxies: Proxies,
    about: About,
    configuration: Configuration | None,
) -> AsyncIterator[None]:
    identity = settings.identity
    metrics = Metrics()
    store.observe_commits(metrics.committed)
    health = Health(store)
    neighbours = cluster or Alone()
    clock = neighbours.clock
    quotas = Quotas(limits, lambda: neighbours.nodes_there)
    deliveries = Deliveries(store, quotas, limits, neighbours, clock)
    identities = [each for each in (identity, settings.nist_identity) if each is not None]
    onward = Onward(
        [each.did for each in identities],
        [service.uri for service in identity.document.services],
        dids,
        Intake(store, deliveries, quotas, limits, neighbours),
        outgoing,
        limits,
        forwards=onwards,
    )
    relay = Relay(store, limits, neighbours)
    links = Links(store, settings.url, limits)
    service = Service(
        identities,
        dids,
        onward,
        places,
        limits,
        [
            Accounts(store, dids, registration, identity.did, limits).handlers(),
            Mailboxes(store, onward, deliveries, limits).handlers(),
            Channels(store, relay, limits, neighbours).handlers() if relays else {},
            Hops(identity, relay, limits).handlers() if relays else {},
            links.handlers(),
            Courtesies(store, limits, relays=relays).handlers(),
        ],
        checks=[registration.check, Rotations(store, dids, deliveries, neighbours).follow],
        clock=clock,
        on_held_back=metrics.limits_hit.labels("requests-per-did").inc,
    )
    requests = Buckets(limits.requests)
    websockets = WebSockets(service, deliveries, relay, requests, metrics, limits)
    add_gauges(metrics, deliveries, relay, websockets, outgoing, neighbours)
    routes = Web(
        *(settings, service, websockets, store, links, requests, health, metrics, limits, about),
        proxies=proxies,
        shows_metrics=monitors is None,
    )
    page = PageAt(local_url(*screen.getsockname()[:2]), Token(home.root)) if screen is not None else None
    live = LiveMediator(
        *(settings, configuration, health, deliveries, relay, websockets, metrics, page, neighbours)
    )
    operator = Operator(home, settings, store, live)
    control = ControlServer(home.root, operator.methods())

    async with contextlib.AsyncExitStack() as stack:
        if cluster is not None:
            await cluster.start(deliveries, relay, live, websockets.batch, limits)
        if monitors is not None:
            app = web.Application()
            routes.add_metrics_to(app)
            # With a gate of its own: whoever fills the other one does not keep the monitor out.
            for_monitors = await _Front.open(app, monitors, Gate(limits, metrics, proxies), limits)
            stack.push_async_callback(for_monitors.close)
        if screen is not None and page is not None:
            history = History(lambda: live.figures(store))
            stack.push_async_callback(_ended, asyncio.create_task(history.run(), name="history"))
            app = web.Application()
            OperatorSite(operator.methods(), history, page.token, proxies).add_to(app)
            for_operator = await _Front.open(app, screen, Gate(limits, metrics, proxies), limits)
            stack.push_async_callback(for_operator.close)
        gate = Gate(limits, metrics, proxies)
        app = web.Application(client_max_size=limits.message_bytes, middlewares=[gate.middleware])
        routes.add_to(app)
        front = await _Front.open(app, listener, gate, limits)
        stack.push_async_callback(front.close)
        await control.start()
        stack.push_async_callback(control.close)
        stack.callback(operator.stop)
        sweeper = asyncio.create_task(_sweep(store, relay, clock), name="sweeper")
        stack.push_async_callback(_ended, sweeper)
        try:
            yield
        finally:
            health.stop()
            front.stop_accepting()
            await websockets.close()


class _Front:
    """A listening socket and what answers there."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner = runner
        self._server = server

    @classmethod
    async def open(
        cls, app: web.Application, listener: socket.socket, gate: Gate, limits: Limits
    ) -> "_Front":
        app.on_response_prepare.append(say_plain_name)
        runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            handle_signals=False,
            keepalive_timeout=limits.idle_seconds,
            shutdown_timeout=STOP_SECONDS,
        )
        await runner.setup()
        assert runner.server is not None
        guarded = gate.guarded(runner.server)
        server = await asyncio.get_running_loop().create_server(guarded, sock=listener, backlog=BACKLOG)
        return cls(runner, server)

    def stop_accepting(self) -> None:
        self._server.close()

    async def close(self) -> None:
        """Let requests that are under way finish, for a while."""
        self._server.close()
        await self._runner.cleanup()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _sweep(store: Store, relay: Relay, clock: Callable[[], float]) -> None:
    """Delete what has expired, in small batches."""
    while True:
        try:
            relay.expire(clock())
            while await store.expire(clock()) == EXPIRY_BATCH:
                pass
        except DidmpcError as problem:
            log.error("what has expired cannot be deleted: %s", problem)
        await asyncio.sleep(SWEEP_EVERY)


def _listen(host: str, port: int, option: str = "--port") -> socket.socket:
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
        raise _cannot_bind(host, port, problem, option) from None


def _cannot_bind(host: str, port: int, problem: OSError, option: str) -> LocalMisuse:
    what = f"The mediator cannot listen on {host}, port {port}."
    if problem.errno == errno.EADDRINUSE:
        return LocalMisuse(
            what,
            why="Another program uses this port.",
            fix=f"Stop that program, or take another port with {option} (port 0: any free one).",
        )
    if problem.errno == errno.EACCES:
        return LocalMisuse(
            what, why="Ports below 1024 are for the administrator.", fix=f"Take another one with {option}."
        )
    return LocalMisuse(
        what,
        why=f"{problem.strerror}.",
        fix="It must be an address of this machine, such as 127.0.0.1 or 0.0.0.0.",
    )


async def serve(
    home: Home, configuration: Configuration, on_ready: Callable[[Running], None]
) -> signal.Signals:
    """Run with these settings until SIGINT or SIGTERM, and say which it was."""
    _close_to_others()
    _keep_memory()
    _allow_open_files(configuration.limits.connections)
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()
    starting = asyncio.current_task()

    def stop(which: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(which)
            if starting is not None:
                starting.cancel()  # it may wait for a database

    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, stop, which)
    try:
        async with running(
            home,
            host=configuration["host"],
            port=configuration["port"],
            public_url=configuration["public-url"],
            limits=configuration.limits,
            outside=Outside(
                allow_private=configuration["allow-private"], onward=configuration["onward"] == "on"
            ),
            admission=configuration["registration"],
            relays=configuration["relay"] == "on",
            metrics_listen=configuration["metrics-listen"],
            operator_listen=configuration["operator-listen"],
            proxies=Proxies.read(configuration["proxies"]),
            contact=configuration["contact"],
            configuration=configuration,
            store_url=configuration.store_url,
            node_listen=configuration["node-listen"],
            node_url=configuration["node-url"],
        ) as mediator:
            starting = None
            gc.collect()
            gc.freeze()  # what is there now stays: the collector need not walk it
            on_ready(mediator)
            manager = Notifier()
            manager.ready()
            alive = asyncio.create_task(manager.stay_alive(), name="watchdog")
            try:
                return await stopped
            finally:
                manager.stopping()
                await _ended(alive)
    except asyncio.CancelledError:
        if not stopped.done():
            raise
        return stopped.result()


def _close_to_others() -> None:
    """Keep our keys from core dumps, and on Linux from other processes of this user too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _keep_memory() -> None:
    """Have glibc reuse large blocks: fresh ones cost more page faults than sealing (docs/performance.md)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * MIB)  # the most that it allows
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * MIB)


def _allow_open_files(connections: int) -> None:
    """Raise the soft limit, which is 1,024 on most systems, to what so many connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft != resource.RLIM_INFINITY:
        with contextlib.suppress(
            ValueError, OSError
        ):  # a system with a bound of its own below the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    if soft < wanted and connections < UNLIMITED:
        log.warning(
            "this system lets the mediator open %d files at most, too few for %d connections (see ulimit -n)",
            soft,
            connections,
        )
