"""The HTTP side: POST / takes envelopes, GET / shows the invitation, GET /health says how it is.

DIDComm Messaging 2.1, "Transports": 202 and an empty body, or 200 and the reply where it is asked for. What
is refused without a reply gets a JSON body with the problem's code, so that it does not vanish silently.
"""

import asyncio
import ipaddress
import logging
import re
import time

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

from didmpc.mediator import page
from didmpc.mediator.home import Settings
from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.links import Links
from didmpc.mediator.refusals import TooBig, TooManyRequests, TooSlow, WrongMediaType
from didmpc.mediator.relay import Relay
from didmpc.mediator.service import Answer, Service, words
from didmpc.mediator.store import Store
from didmpc.mediator.websocket import WebSockets
from didmpc.protocols import out_of_band
from didmpc.protocols.encoding import unb64url
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.message import PLAIN

HEALTH_SECONDS = 0.5
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
        relay: Relay,
        links: Links,
        requests: Buckets,
        limits: Limits,
    ) -> None:
        self._url = settings.url
        self._did = settings.identity.did
        self._invitation = settings.invitation
        self._service = service
        self._websockets = websockets
        self._store = store
        self._relay = relay
        self._links = links
        self._requests = requests
        self._limits = limits
        self._queued = 0
        self._count_again = 0.0

    def add_to(self, app: web.Application) -> None:
        logging.getLogger("aiohttp.server").addFilter(_is_of_ours)
        app.add_routes(
            [
                web.post("/", self._post),
                web.get("/", self._page),
                web.get("/ws", self._websocket),
                web.get("/health", self._health),
            ]
        )

    async def _post(self, request: web.Request) -> web.Response:
        address = address_of(request)
        if not self._requests.take(address, time.monotonic()):
            return _refusal(Answer(status=429, problem=TooManyRequests()))
        if not _MEDIA_TYPES.fullmatch(request.content_type):
            return _refusal(Answer(status=415, problem=WrongMediaType()))
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                envelope = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _refusal(Answer(status=413, problem=TooBig(self._limits.message_bytes)))
        except TimeoutError:
            refused = _refusal(Answer(status=408, problem=TooSlow()))
            refused.force_close()
            return refused
        answer = await self._service.handle(envelope, connection=None, address=address)
        if answer.problem is not None and answer.reply is None:
            return _refusal(answer)
        if answer.reply is None:
            return web.Response(status=202)
        return web.Response(status=answer.status, body=answer.reply, content_type=answer.media_type)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        return await self._websockets.handle(request, address_of(request))

    async def _page(self, request: web.Request) -> web.Response:
        if "_oobid" in request.query:
            return await self._short_link(request)
        encoded = request.query.get("_oob")
        url = self._invitation if encoded is None else f"{self._url}/?_oob={encoded}"
        if url == self._invitation:
            host = self._url.partition("://")[2]
            return _html(page.mediator_page(url, host))
        try:
            if not _ENCODED.fullmatch(encoded or ""):
                raise LocalMisuse("It holds characters that no invitation has.")
            return _html(page.invitation_page(url, out_of_band.from_url(url)))
        except LocalMisuse as problem:
            return _html(page.damaged_page(problem.what), status=400)

    async def _short_link(self, request: web.Request) -> web.Response:
        """The invitation itself for a program, its page for a browser (out-of-band/2.0, short URLs)."""
        if not self._requests.take(address_of(request), time.monotonic()):
            return _refusal(Answer(status=429, problem=TooManyRequests()))
        encoded = await self._links.find(request.query["_oobid"][:64], time.time())
        if encoded is None:
            what = "This link has expired, or it was never given out here."
            return _html(page.damaged_page(what), status=404)
        if "application/json" in request.headers.get("Accept", ""):
            return web.Response(body=unb64url(encoded), content_type=PLAIN, headers=page.HEADERS)
        return web.Response(status=307, headers={**page.HEADERS, "Location": f"{self._url}/?_oob={encoded}"})

    async def _health(self, request: web.Request) -> web.Response:
        traffic = self._relay.traffic
        body = {
            "status": "ok",
            "relayed_bytes": traffic.bytes,
            "relayed_packets": traffic.packets,
            "queued": await self._count_queued(),
        }
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    async def _count_queued(self) -> int:
        """Messages in all mailboxes, counted now and then only: anyone may ask, and it looks at each box."""
        now = time.monotonic()
        if now >= self._count_again:
            self._count_again = now + HEALTH_SECONDS
            self._queued = await self._store.queued()
        return self._queued


def address_of(request: web.Request) -> str:
    """Whose address counts for limits: the connection's, or what a proxy on this machine says."""
    address = request.remote or ""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        if forwarded and ipaddress.ip_address(address).is_loopback:
            return str(ipaddress.ip_address(forwarded))
    except ValueError:
        pass
    return address


def _refusal(answer: Answer) -> web.Response:
    problem = answer.problem
    assert problem is not None
    headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
    body = {"code": problem.code, "title": problem.what, "detail": words(problem)}
    return web.json_response(
        body, status=answer.status, headers=headers, content_type="application/problem+json"
    )


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html", headers=page.HEADERS)


@web.middleware
async def plain_server_name(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say what this is, and not which versions of which libraries it is made of."""
    try:
        response = await handler(request)
    except web.HTTPException as refused:
        refused.headers["Server"] = "didmpc"
        raise
    if not response.prepared:
        response.headers["Server"] = "didmpc"
    return response


def _is_of_ours(record: logging.LogRecord) -> bool:
    """Whatever speaks no HTTP would write its address and bytes into our log, with a traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
