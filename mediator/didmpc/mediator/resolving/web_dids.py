"""did:web over the network: documents are fetched with HTTPS, checked, and kept for a while.

Whoever sends us an envelope chooses which server we ask. So the address is checked (`dialing`), redirects are
not followed, everything is bounded, and a failure is remembered: one request makes at most one of ours.
"""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from didmpc.mediator.limits import Buckets, Limits
from didmpc.mediator.refusals import Refusal, Unavailable
from didmpc.mediator.resolving.dialing import is_not_public, read_all
from didmpc.protocols.did import DIDDocument, did_of, web
from didmpc.protocols.errors import DidError, RemoteViolation

_ACCEPT = "application/did+json, application/did+ld+json, application/json"


class Unresolvable(DidError):
    """A did:web whose document is not there, or is none."""

    code = "e.p.did.unresolvable"


class NotNow(Refusal):
    """A did:web whose server did not answer: it may later."""

    code = "e.p.did.unresolvable"
    status = 503
    retry_after = 30


class WebDids:
    """Resolves did:web. One object for the whole mediator."""

    def __init__(
        self, http: aiohttp.ClientSession, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._http = http
        self._limits = limits
        self._clock = clock
        self._fetches = Buckets(limits.web_did_fetches)
        self._known: OrderedDict[str, tuple[float, DIDDocument | RemoteViolation]] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[DIDDocument]] = {}
        self._waiting = 0

    async def resolve(self, did: str) -> DIDDocument:
        """The document of a did:web (or of the DID of a DID URL).

        Raises `DidError` where there is none, `NotNow` where its server does not answer, and `Unavailable`
        where too much is being looked up.
        """
        did = did_of(did)
        known = self.known(did)
        if known is not None:
            return known
        if self._waiting >= self._limits.web_did_waiters:
            raise Unavailable
        fetching = self._under_way.get(did) or self._begin(did)
        self._waiting += 1
        try:
            return await asyncio.shield(fetching)  # others may wait for it too
        finally:
            self._waiting -= 1

    def known(self, did: str) -> DIDDocument | None:
        """The document, where it is known at once; None where it must be fetched.

        Raises like `resolve` where a look-up failed a moment ago.
        """
        did = did_of(did)
        until, found = self._known.get(did, (0.0, None))
        if found is None or self._clock() >= until:
            return None
        self._known.move_to_end(did)
        if isinstance(found, DIDDocument):
            return found
        raise found.with_traceback(None)

    async def close(self) -> None:
        """End what is under way."""
        fetching = list(self._under_way.values())
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)

    # --- inner

    def _begin(self, did: str) -> asyncio.Task[DIDDocument]:
        url = web.url_of(did)
        if len(self._under_way) >= self._limits.web_dids_at_once:
            raise Unavailable
        if not self._fetches.take(urlsplit(url).hostname or "", self._clock()):  # over all its ports
            raise Unavailable
        task = asyncio.create_task(self._look_up(did, url), name="did:web")
        self._under_way[did] = task
        task.add_done_callback(lambda done: self._end(did, done))
        return task

    def _end(self, did: str, done: asyncio.Task[DIDDocument]) -> None:
        del self._under_way[did]
        if not done.cancelled():
            done.exception()  # looked at: whoever asked may have gone

    async def _look_up(self, did: str, url: str) -> DIDDocument:
        try:
            document = web.parse(did, await self._fetch(url))
        except RemoteViolation as problem:
            self._keep(did, problem, self._limits.web_did_failure_seconds)
            raise
        self._keep(did, document, self._limits.web_did_age_seconds)
        return document

    def _keep(self, did: str, found: DIDDocument | RemoteViolation, seconds: float) -> None:
        self._known.pop(did, None)
        self._known[did] = (self._clock() + seconds, found)
        if len(self._known) > self._limits.web_dids:
            self._known.popitem(last=False)

    async def _fetch(self, url: str) -> bytes:
        try:
            async with (
                asyncio.timeout(self._limits.web_did_seconds),
                self._http.get(
                    URL(url, encoded=True), headers={"Accept": _ACCEPT}, allow_redirects=False
                ) as response,
            ):
                if response.status == 429 or response.status >= 500:
                    raise _not_now(url, f"its server answers with status {response.status}")
                if response.status != 200:
                    raise _unresolvable(url, f"its server answers with status {response.status}")
                content = await read_all(response, self._limits.web_did_bytes)
        except TimeoutError:
            raise _not_now(url, "its server does not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            # Not told apart, so that nobody can ask us what there is in the network around us.
            if is_not_public(error) or _is_unknown(error):
                raise _unresolvable(url, "its host is not known on the internet") from None
            if isinstance(error, aiohttp.ClientSSLError):
                raise _unresolvable(url, "the certificate of its server is not valid") from None
            raise _not_now(url, "its server cannot be reached") from None
        if content is None:
            raise _unresolvable(url, f"its document is larger than {self._limits.web_did_bytes} bytes")
        return content


def _is_unknown(error: Exception) -> bool:
    """Whether there is no such host, and not only no answer to who it is."""
    return isinstance(error, aiohttp.ClientConnectorDNSError) and error.errno != socket.EAI_AGAIN


def _unresolvable(url: str, why: str) -> Unresolvable:
    return Unresolvable(f"The document of a did:web cannot be had from {urlsplit(url).netloc}.", why=why)


def _not_now(url: str, why: str) -> NotNow:
    return NotNow(
        f"The document of a did:web cannot be had from {urlsplit(url).netloc} now.",
        why=why,
        fix="Try again later.",
    )
