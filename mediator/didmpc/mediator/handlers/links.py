"""shorten-url/1.0: short links to the invitations of account holders.

Only what out-of-band/2.0 needs: the link leads to an invitation on this mediator's own page, never to
another site, so nobody can send people elsewhere in our name.
"""

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from didmpc.mediator.limits import Limits
from didmpc.mediator.service.requests import Handler, Outcome, Request
from didmpc.mediator.store import Store
from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.messages import out_of_band, shorten_url

NAME_BYTES = 9  # 72 random bits: a link cannot be found by trying


class Links:
    """Makes short links and finds what they lead to."""

    def __init__(self, store: Store, url: str, limits: Limits) -> None:
        self._store = store
        self._url = url
        self._limits = limits

    def handlers(self) -> Mapping[str, Handler]:
        return {shorten_url.REQUEST: self._shorten}

    async def _shorten(self, request: Request) -> Outcome:
        asked = shorten_url.parse_request(request.message)
        try:
            out_of_band.from_url(asked.url)
        except LocalMisuse as problem:
            raise MessageError(
                "Only links to invitations are shortened here.", why=problem.what, code="e.p.msg.bad-body"
            ) from None
        encoded = parse_qs(urlsplit(asked.url).query)["_oob"][0]
        lifetime = min(asked.validity or self._limits.link_seconds, self._limits.link_seconds)
        expires = int(request.now + lifetime)
        name = secrets.token_urlsafe(NAME_BYTES)
        await self._store.keep_link(
            *(request.sender, name, encoded, expires),
            request.envelope,
            request.now,
            request.message.created_time,
        )
        link = f"{self._url}/?_oobid={name}"
        return Outcome(shorten_url.shortened(request.message, link, expires))

    async def find(self, name: str, now: float) -> str | None:
        """The `_oob` value that a short link stands for."""
        return await self._store.link(name, now)
