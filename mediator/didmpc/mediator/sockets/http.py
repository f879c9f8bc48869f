"""The HTTP side: POST / takes envelopes, GET / shows the invitation, and monitors ask how it is.

DIDComm Messaging 2.1, "Transports": 202 and an empty body, or 200 and the reply where it is asked for. What
is refused without a reply gets a JSON body with the problem's code, so that it does not vanish silently.
"""

import asyncio
import contextlib
import logging
import re
import time

from aiohttp import web
from aiohttp.http import HttpProcessingError

from didmpc.mediator.handlers.links import Links
from didmpc.mediator.health import Health
from didmpc.mediator.host.home import Settings, is_loopback
from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.metrics import CONTENT_TYPE, Metrics
from didmpc.mediator.pages import page
from didmpc.mediator.pages.page import About
from didmpc.mediator.refusals import TooBig, TooManyRequests, TooSlow, Unavailable, WrongMediaType
from didmpc.mediator.service.service import Answer, Service, words
from didmpc.mediator.sockets.connections import SERVER_NAME
from didmpc.mediator.sockets.proxies import Proxies
from didmpc.mediator.sockets.websocket import WebSockets
from didmpc.mediator.store import Store
from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.did import same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.message import PLAIN
from didmpc.protocols.messages import out_of_band

COUNT_EVERY = 0.5
"""Seconds."""
TRANSPORT = "http"
NO_STORE = {"Cache-Control": "no-store"}
PASSED_ON = ("X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via")
"""Headers by which a proxy gives itself away."""
_ENCODED = re.compile(r"[A-Za-z0-9_=-]+")
_MEDIA_TYPES = re.compile(r"application/(didcomm-[a-z+-]+|json|octet-stream)")


class Web:
    """The routes."""

    def __init__(
        self,
        settings: Settings,
        service: Service,
        websockets: WebSockets,
        store: Store,
        links: Links,
        requests: Buckets,
        health: Health,
        metrics: Metrics,
        limits: Limits,
        about: About,
        *,
        proxies: Proxies,
        shows_metrics: bool = True,
    ) -> None:
        self._url = settings.url
        self._dids = [
            identity.did for identity in (settings.identity, settings.nist_identity) if identity is not None
        ]
        self._invitation = settings.invitation
        self._service = service
        self._websockets = websockets
        self._store = store
        self._links = links
        self._requests = requests
        self._health = health
        self._metrics = metrics
        self._limits = limits
        self._about = about
        self._proxies = proxies
        self._shows_metrics = shows_metrics
        self._count_again = 0.0

    def add_to(self, app: web.Application) -> None:
        logging.getLogger("aiohttp.server").addFilter(_is_of_ours)
        app.add_routes(
            [
                web.post("/", self._post),
                web.get("/", self._page),
                web.get("/ws", self._websocket),
                web.get("/healthz", self._alive),
                web.get("/readyz", self._ready),
                page.STYLE.route(),
            ]
        )
        if self._shows_metrics:
            app.add_routes([web.get("/metrics", self._metrics_for_this_machine)])

    def add_metrics_to(self, app: web.Application) -> None:
        """The routes of a listener that is there for monitors alone."""
        app.add_routes(
            [
                web.get("/healthz", self._alive),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._show_metrics),
            ]
        )

    async def _post(self, request: web.Request) -> web.Response:
        if self._health.stopping:
            return _refusal(Answer(status=503, problem=Unavailable()), close=True)
        address = self._address_of(request)
        if (held_back := self._hold_back(address)) is not None:
            return held_back
        coding = request.headers.get("Content-Encoding", "identity")
        if not _MEDIA_TYPES.fullmatch(request.content_type) or coding != "identity":
            return _refusal(Answer(status=415, problem=WrongMediaType()))
        if (request.content_length or 0) > self._limits.message_bytes:
            return self._too_big()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                envelope = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._too_big()
        except web.RequestPayloadError:
            return _refusal(Answer(status=400, problem=MessageError("The body of the request is damaged.")))
        except TimeoutError:
            self._metrics.limits_hit.labels("body-seconds").inc()
            return _refusal(Answer(status=408, problem=TooSlow()), close=True)
        self._metrics.received(TRANSPORT, len(envelope))
        with self._metrics.answer_seconds.time():
            answer = await self._service.handle(envelope, connection=None, address=address)
        if answer.problem is not None:
            self._metrics.refused(answer.problem)
        if answer.problem is not None and answer.reply is None:
            return _refusal(answer)
        if answer.reply is None:
            return web.Response(status=202)
        self._metrics.sent(TRANSPORT, len(answer.reply))
        return web.Response(status=answer.status, body=answer.reply, content_type=answer.media_type)

    def _hold_back(self, address: str) -> web.Response | None:
        if self._requests.take(address, time.monotonic()):
            return None
        self._metrics.limits_hit.labels("requests").inc()
        wait = self._requests.wait(address, time.monotonic())
        return _refusal(Answer(status=429, problem=TooManyRequests(wait)))

    def _too_big(self) -> web.Response:
        self._metrics.limits_hit.labels("message-bytes").inc()
        return _refusal(Answer(status=413, problem=TooBig(self._limits.message_bytes)), close=True)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if self._health.stopping:
            return _refusal(Answer(status=503, problem=Unavailable()), close=True)
        return await self._websockets.handle(request, self._address_of(request))

    async def _page(self, request: web.Request) -> web.Response:
        if "_oobid" in request.query:
            return await self._short_link(request)
        encoded = request.query.get("_oob")
        url = self._invitation if encoded is None else f"{self._url}/?_oob={encoded}"
        if url == self._invitation:
            return await self._own_page(url, admits=self._about.admits())
        # Drawing a code takes a while.
        if (held_back := self._hold_back(self._address_of(request))) is not None:
            return held_back
        try:
            if not _ENCODED.fullmatch(encoded or ""):
                raise LocalMisuse("It holds characters that no invitation has.")
            invitation = out_of_band.from_url(url)
            if any(same_party(invitation.from_, did) for did in self._dids):
                return await self._own_page(url, admits=self._about.admits(invitation))
            return _html(page.invitation_page(url, invitation))
        except LocalMisuse as problem:
            return _html(page.damaged_page(problem.what), status=400)

    async def _own_page(self, url: str, *, admits: bool) -> web.Response:
        return _html(self._about.page(url, await self._health.obstacles(), admits=admits))

    async def _short_link(self, request: web.Request) -> web.Response:
        """The invitation itself for a program, its page for a browser (out-of-band/2.0, short URLs)."""
        if (held_back := self._hold_back(self._address_of(request))) is not None:
            return held_back
        encoded = await self._links.find(request.query["_oobid"][:64], time.time())
        if encoded is None:
            what = "This link has expired, or it was never given out here."
            return _html(page.damaged_page(what), status=404)
        if "application/json" in request.headers.get("Accept", ""):
            return web.Response(body=unb64url(encoded), content_type=PLAIN, headers=page.HEADERS)
        return web.Response(status=307, headers={**page.HEADERS, "Location": f"{self._url}/?_oob={encoded}"})

    def _address_of(self, request: web.Request) -> str:
        return self._proxies.client(request.remote or "", request.headers.get("X-Forwarded-For", ""))

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=NO_STORE)

    async def _ready(self, _: web.Request) -> web.Response:
        obstacles = await self._health.obstacles()
        if obstacles:
            return web.Response(status=503, text="".join(f"{name}\n" for name in obstacles), headers=NO_STORE)
        return web.Response(text="ok\n", headers=NO_STORE)

    async def _metrics_for_this_machine(self, request: web.Request) -> web.Response:
        if not is_from_this_machine(request):
            raise web.HTTPNotFound
        return await self._show_metrics(request)

    async def _show_metrics(self, _: web.Request) -> web.Response:
        obstacles = await self._health.obstacles()
        self._metrics.ready.set(not obstacles)
        if "store" not in obstacles:  # else the last count stays: figures are needed most while it is away
            with contextlib.suppress(DidmpcError):
                await self._count_stored()
        return web.Response(body=self._metrics.text(), headers={**NO_STORE, "Content-Type": CONTENT_TYPE})

    async def _count_stored(self) -> None:
        """What the store holds, counted now and then only: it looks at each mailbox."""
        now = time.monotonic()
        if now < self._count_again:
            return
        self._count_again = now + COUNT_EVERY
        totals = await self._store.totals()
        stored = {
            "accounts": totals.accounts,
            "mailboxes": totals.keys,
            "messages": totals.messages,
            "bytes": totals.bytes,
            "outgoing": await self._store.outgoing(),
        }
        for what, number in stored.items():
            self._metrics.stored.labels(what).set(number)
        self._metrics.disk_free.set(self._store.free_bytes)


def is_from_this_machine(request: web.Request) -> bool:
    """Whether nobody else can have sent it.

    Not what a proxy on this machine passes on, nor a page in a browser here under a name of its own choice.
    """
    if any(name in request.headers for name in PASSED_ON):
        return False
    try:
        host = request.url.host or ""
    except ValueError:
        return False
    return is_loopback(request.remote or "") and is_loopback(host)


def _refusal(answer: Answer, *, close: bool = False) -> web.Response:
    problem = answer.problem
    assert problem is not None
    headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
    body = {"code": problem.code, "title": problem.what, "detail": words(problem)}
    response = web.json_response(
        body, status=answer.status, headers=headers, content_type="application/problem+json"
    )
    if close:
        response.force_close()
    return response


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html", headers=page.HEADERS)


async def say_plain_name(_: web.Request, response: web.StreamResponse) -> None:
    """Whatever it answers, also of its own accord."""
    response.headers["Server"] = SERVER_NAME


def _is_of_ours(record: logging.LogRecord) -> bool:
    """Whatever speaks no HTTP would write its address and bytes into our log, with a traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
