"""Following a short link to an invitation, whatever its server answers."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from didmpc.agent.mailbox.transport import Transport
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.out_of_band import MAX_INVITATION, Invitation
from didmpc.protocols.messages.shorten_url import ShortLink

Handler = Callable[[web.Request], Awaitable[web.Response]]
MINE = Invitation(from_=Identity.peer4().did)
THEIRS = Invitation(from_=Identity.peer4().did)


async def follow(handler: Handler) -> Invitation:
    """What comes of a short link to `MINE` at a server that answers so."""
    app = web.Application()
    app.router.add_get("/", handler)
    async with TestServer(app) as server:
        url = str(server.make_url("/?_oobid=abc"))
        transport = Transport(near=url)
        try:
            return await transport.invitation(str(ShortLink.to(MINE, url)))
        finally:
            await transport.close()


async def test_the_invitation_comes_as_json() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert "#" not in request.path_qs  # the fingerprint stays here
        return web.Response(body=MINE.to_message().encode(), content_type="application/json")

    assert await follow(handler) == MINE


async def test_or_as_a_redirect_to_the_long_link() -> None:
    async def handler(request: web.Request) -> web.Response:
        raise web.HTTPFound(MINE.to_url("/"))

    assert await follow(handler) == MINE


async def test_a_server_that_exchanges_the_invitation_is_noticed() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=THEIRS.to_message().encode(), content_type="application/json")

    with pytest.raises(LocalMisuse, match="another invitation"):
        await follow(handler)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: web.Response(status=404), "leads nowhere"),
        (lambda: web.Response(text="<html>"), "not an invitation"),
        (lambda: web.Response(text="{" * (MAX_INVITATION + 100)), "not an invitation"),
        (lambda: web.Response(status=302, headers={"Location": "/?_oobid=abc"}), "in circles"),
        (lambda: web.Response(status=302, headers={"Location": "file:///etc/passwd"}), "must not go"),
    ],
)
async def test_anything_else_gets_a_sentence(answer: Callable[[], web.Response], said: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return answer()

    with pytest.raises(DidmpcError, match=said):
        await follow(handler)


async def test_a_server_that_is_down_is_named() -> None:
    transport = Transport(near="http://127.0.0.1/")
    with pytest.raises(DidmpcError, match=r"127\.0\.0\.1:9, cannot be reached"):
        await transport.invitation("http://127.0.0.1:9/?_oobid=x")
    await transport.close()
