"""Carrying an envelope to where its recipient takes mail: HTTP POST, or a WebSocket where there is only that.

DIDComm Messaging 2.1, "Transports": media type without a charset, any 2xx is success, the only redirect
that is followed is 307.

Where it goes is the choice of whoever is written to. So, unless our own mediator is near us too, nothing
goes to this machine or into private networks (`dialing`).
"""

import asyncio
import contextlib
import os
import random
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp

from didmpc.agent.mailbox.dialing import connector, is_allowed_by_user, raise_if_not_public
from didmpc.protocols.addresses import is_public, names_private
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.message import ENCRYPTED, PLAIN
from didmpc.protocols.messages import out_of_band
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.messages.shorten_url import ShortLink

ATTEMPT = 15.0  # seconds for one try
BACK_OFF = (0.2, 5.0)  # seconds between tries: first and longest
REDIRECTS = 3
LONGEST_REPLY = 64 * 1024  # nothing in an answer to a POST is for us, but a server may say why it refuses


class Transport:
    """One pool of connections for all outgoing envelopes."""

    def __init__(self, *, near: str) -> None:
        """`near`: the endpoint of our own mediator."""
        self._private = names_private(near)
        self._http = aiohttp.ClientSession(
            # Each use has its own limit of time; cookies are none of our business.
            connector=connector(lambda: self.allows_private),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._http.close()

    def near(self, address: tuple[Any, ...] | None) -> None:
        """Learn the address that our own mediator was reached at."""
        if address is not None:
            self._private = not is_public(address[0])

    @property
    def allows_private(self) -> bool:
        """Whether connections may go to private addresses: ours or a person's choice, never a peer's."""
        return self._private or is_allowed_by_user()

    async def post(self, uri: str, envelope: bytes, *, timeout: float = 60.0) -> None:
        """Hand an envelope over; try again until `timeout` while the other side may come back.

        Raises `DidmpcError` that names the host, when it refuses or was not reached in time.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        pause = BACK_OFF[0]
        while True:
            try:
                async with asyncio.timeout(max(0.1, min(ATTEMPT, deadline - clock()))):
                    wait = await self._try(uri, envelope)
                if wait is None:
                    return
                problem = "it is busy or failing"
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise_if_not_public(error)
                wait, problem = 0.0, words_for(error)
            pause_now = max(wait, pause * random.uniform(0.5, 1.0))  # noqa: S311  (jitter, no secret)
            if clock() + pause_now >= deadline:
                raise DidmpcError(
                    f"The mediator {host_of(uri)} cannot be reached.",
                    why=f"Tried for {timeout:.0f} s: {problem}.",
                    fix="Check the network; if it stays so, ask whoever runs it.",
                )
            await asyncio.sleep(pause_now)
            pause = min(pause * 2, BACK_OFF[1])

    async def invitation(self, pasted: str) -> Invitation:
        """The invitation in what a person pasted. A short link is followed, and checked against its end.

        Raises `DidmpcError` that says what is wrong with it.
        """
        link = ShortLink.find(pasted)
        if link is None:
            return out_of_band.from_text(pasted)
        try:
            async with asyncio.timeout(ATTEMPT):
                text = await self._follow(link.url)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise_if_not_public(error)
            raise DidmpcError(
                f"The server of this short link, {host_of(link.url)}, cannot be reached.",
                why=f"It says: {words_for(error)}.",
                fix="Try again later, or ask for the long link:  didmpc invite --long",
            ) from None
        return link.check(out_of_band.from_text(text))

    async def _follow(self, url: str) -> str:
        for _ in range(REDIRECTS + 1):
            async with self._http.get(
                url, headers={"Accept": f"{PLAIN}, application/json"}, allow_redirects=False
            ) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = _redirect(url, response.headers.get("Location", ""))
                    if "_oob" in parse_qs(urlsplit(url).query, max_num_fields=64):
                        return url
                    continue
                if response.status != 200:
                    raise LocalMisuse(
                        "This short link leads nowhere.",
                        why="It has expired, was used up, or was not copied whole.",
                        fix="Copy it whole, or ask for a new one.",
                    )
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > out_of_band.MAX_INVITATION:
                        break  # more than is taken, which shows when it is read
                return content.decode(errors="replace")
        raise DidmpcError(f"The short link of {host_of(url)} leads in circles.", fix="Ask for the long link.")

    async def _try(self, uri: str, envelope: bytes) -> float | None:
        """One attempt: None when it was taken, else the seconds that the server wants us to wait."""
        if urlsplit(uri).scheme in ("ws", "wss"):
            async with self._http.ws_connect(uri, compress=0) as websocket:
                await websocket.send_str(envelope.decode())
            return None
        for _ in range(REDIRECTS + 1):
            async with self._http.post(
                uri,
                data=envelope,
                headers={"Content-Type": ENCRYPTED},
                allow_redirects=False,
            ) as response:
                if 200 <= response.status < 300:
                    return None
                if response.status == 307:
                    uri = _redirect(uri, response.headers.get("Location", ""))
                    continue
                if response.status in (408, 425, 429) or response.status >= 500:
                    return _retry_after(response.headers.get("Retry-After", ""))
                why = (await response.content.read(LONGEST_REPLY)).decode(errors="replace")
                raise _refused(uri, response.status, why)
        raise DidmpcError(f"The mediator {host_of(uri)} redirects in circles.")


def host_of(uri: str) -> str:
    """The host of an endpoint, for people."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or uri, parts.port
    except ValueError:
        return uri[:80]
    return f"{host}:{port}" if port else host


def _redirect(uri: str, location: str) -> str:
    target = urljoin(uri, location)
    secure = urlsplit(uri).scheme == "https"
    if urlsplit(target).scheme not in (("https",) if secure else ("http", "https")):
        raise DidmpcError(
            f"The mediator {host_of(uri)} redirects to where mail must not go.", why=target[:200]
        )
    return target


def _retry_after(text: str) -> float:
    """Only the form in seconds; a date is as good as nothing to someone who tries for a minute."""
    with contextlib.suppress(ValueError):
        return min(max(float(text), 0.0), 60.0)
    return 0.0


def _refused(uri: str, status: int, why: str) -> DidmpcError:
    what = f"The mediator {host_of(uri)} refused a message."
    if status == 413:
        return DidmpcError(what, why="The message is larger than it takes.")
    printable = "".join(c if c.isprintable() else " " for c in why).strip()[:200]
    return DidmpcError(what, why=f"It answered with HTTP status {status}. {printable}".strip())


def words_for(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is unknown"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate is not valid"
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.errno).lower() if error.errno else "the connection failed"
    return "the connection broke"
