"""The operator's page: its files for whoever can reach its listener, its figures for whoever has the token.

The token comes in an `Authorization` header and nowhere else: not in a URL, which logs and histories keep,
and not in a cookie, which other sites could make a browser send. The page only shows; what changes something
is a command.
"""

import logging
import re
import time
from collections.abc import Mapping

from aiohttp import web

from didmpc.mediator.limits import Buckets, Rate
from didmpc.mediator.operator.control import Json, Method
from didmpc.mediator.operator.history import History
from didmpc.mediator.operator.token import Token
from didmpc.mediator.pages.assets import SECURITY, Asset, text_of
from didmpc.mediator.sockets.proxies import Proxies
from didmpc.protocols.errors import DidmpcError

WRONG_TOKENS = Rate(per_second=0.1, burst=10)
"""From one address; after that even the right one has to wait."""
LONGEST_TOKEN = 256
SCHEME = "Bearer "
_HEADERS = {
    **SECURITY,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_SHOWN = ("name", "created", "keys", "messages", "bytes")

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"[0-9]{1,15}")


class OperatorSite:
    """The routes of a listener that is there for the operator alone."""

    def __init__(
        self, methods: Mapping[str, Method], history: History, token: Token, proxies: Proxies
    ) -> None:
        self._methods = methods
        self._history = history
        self._token = token
        self._proxies = proxies
        self._wrong = Buckets(WRONG_TOKENS)
        style, script = Asset.load("operator.css"), Asset.load("operator.js")
        self._assets = (style, script)
        self._html = text_of("operator.html").replace("{style}", style.path).replace("{script}", script.path)

    def add_to(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/state", self._state),
                web.get("/accounts", self._accounts),
                *(asset.route() for asset in self._assets),
            ]
        )

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=self._html, content_type="text/html", headers=_HEADERS)

    async def _state(self, request: web.Request) -> web.Response:
        """How it is now, and the samples that the page does not have yet (`?after=` how many were taken).

        Of a mediator that is one of several nodes also all of these; None while their database is away.
        """
        self._admit(request)
        status = await self._ask("status", {})
        nodes: list[Json] | None = []
        if status["store"]["url"]:
            away = "store" in status["obstacles"]
            nodes = None if away else (await self._ask("nodes", {}))["nodes"]
        return _json({"status": status, "nodes": nodes, "history": self._history.since(_after(request))})

    async def _accounts(self, request: web.Request) -> web.Response:
        """A page of accounts, by the names that logs have for them: their DIDs stay on the machine."""
        self._admit(request)
        found = await self._ask("accounts", {"after": _after(request)})
        shown = [{name: row[name] for name in _SHOWN} for row in found["accounts"]]
        return _json({"accounts": shown, "next": found["next"]})

    async def _ask(self, method: str, params: Json) -> Json:
        try:
            return await self._methods[method](params)
        except DidmpcError as problem:
            log.error("the operator's page cannot be told: %s", problem)
            raise web.HTTPServiceUnavailable(headers={**_HEADERS, "Retry-After": "5"}) from None

    def _admit(self, request: web.Request) -> None:
        """Raise 401 for a wrong token, 429 for too many of them."""
        address = self._proxies.client(request.remote or "", request.headers.get("X-Forwarded-For", ""))
        now = time.monotonic()
        if self._wrong.is_empty(address, now):
            wait = self._wrong.wait(address, now)
            raise web.HTTPTooManyRequests(headers={**_HEADERS, "Retry-After": f"{wait}"})
        scheme, token = _split(request.headers.get("Authorization", ""))
        if scheme != SCHEME or len(token) > LONGEST_TOKEN or not self._token.matches(token):
            self._wrong.take(address, now)
            raise web.HTTPUnauthorized(headers={**_HEADERS, "WWW-Authenticate": SCHEME.strip()})


def _split(authorization: str) -> tuple[str, str]:
    return authorization[: len(SCHEME)], authorization[len(SCHEME) :]


def _after(request: web.Request) -> int:
    given = request.query.get("after", "0")
    if not _NUMBER.fullmatch(given):
        raise web.HTTPBadRequest(headers=_HEADERS)
    return int(given)


def _json(found: Json) -> web.Response:
    return web.json_response(found, headers=_HEADERS)
