"""Envelopes that leave: kept on disk until another server took them, tried again while it may come back.

DIDComm Messaging 2.1, "Transports": media type without a charset, any 2xx is success, the only redirect that
is followed is 307. Where they go was chosen by others: sockets are checked (`dialing`), and nothing that the
other side says or does not say goes back to whoever made us connect.

A host that cannot be reached gets no more connections until it is tried again, after a pause that doubles.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp

from didmpc.mediator.limits import KIB, Buckets, Limits
from didmpc.mediator.refusals import TooMuchOutgoing
from didmpc.mediator.resolving.dialing import is_not_public, read_all
from didmpc.mediator.store import Parcel, Store, StoreFailed
from didmpc.protocols.errors import DidError
from didmpc.protocols.message import ENCRYPTED

log = logging.getLogger(__name__)

LONGEST_PAUSE = 3600.0
REDIRECTS = 3
LONGEST_ANSWER = 64 * KIB
REMEMBERED_HOSTS = 10_000
REMEMBERED_SENT, SENT_SECONDS = 100_000, 3600.0
"""What was sent to whom, and for how long it is not sent again: mail that comes round again ends here."""
_SCHEMES = {"http": ("http", "https"), "https": ("https",)}
"""Where a redirect from such a URL may lead."""
_GOOD_BYES = (0, aiohttp.WSCloseCode.OK, aiohttp.WSCloseCode.GOING_AWAY, 1005)


class _Refused(Exception):
    """The other side does not take it, now or later."""


class _Later(Exception):
    """The other side is there, and cannot take it now."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Unreachable(Exception):
    """There is no other side."""


@dataclass(slots=True)
class Traffic:
    """What became of what left, since the start."""

    sent: int = 0
    refused: int = 0
    retried: int = 0


@dataclass(slots=True)
class _Closed:
    """A host that could not be reached."""

    failures: int = 0
    until: float = 0.0


def host_of(uri: str) -> str:
    """The server that a service's URL leads to. Raises `DidError` for one that cannot be connected to."""
    try:
        parts = urlsplit(uri)
        port = parts.port
        fits = bool(parts.hostname) and parts.username is None and port != 0
    except ValueError:
        fits = False
    if not fits or parts.scheme not in ("http", "https", "ws", "wss"):
        raise DidError("A DID takes its messages where nothing can be sent to.")
    return f"{parts.hostname}:{port or (443 if parts.scheme in ('https', 'wss') else 80)}"


class Outgoing:
    """The way out. `run` it as a task; what is put meanwhile, or was put before, leaves."""

    def __init__(
        self,
        store: Store,
        http: aiohttp.ClientSession,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._http = http
        self._limits = limits
        self._clock = clock
        self._rates = Buckets(limits.outgoing_per_host)
        self._closed: OrderedDict[str, _Closed] = OrderedDict()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._sent: OrderedDict[bytes, float] = OrderedDict()
        self._wake = asyncio.Event()
        self.traffic = Traffic()

    async def put(self, parcels: Sequence[Parcel], *, due: float, expires: float) -> None:
        """Keep parcels, all or none, to be sent from `due` on until `expires`. Raises a `Refusal`.

        What was sent not long ago is not sent again.
        """
        now = self._clock()
        parcels = [
            parcel for parcel in parcels if self._sent.get(parcel.digest, -SENT_SECONDS) + SENT_SECONDS <= now
        ]
        for parcel in parcels:
            if not self._rates.take(parcel.host, now):
                raise TooMuchOutgoing
            if (closed := self._closed.get(parcel.host)) is not None:
                due = max(due, closed.until)
        await self._store.put_outgoing(parcels, due=due, expires=expires, now=now)
        self._wake.set()

    async def run(self) -> None:
        """Send, for ever. Cancelled, it leaves what has not arrived for the next start."""
        try:
            while True:
                self._wake.clear()
                try:
                    pause = await self._start_due()
                except StoreFailed as problem:
                    log.error("%s", problem)
                    pause = self._limits.outgoing_retry_seconds
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            under_way = list(self._under_way)
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(StoreFailed):
                await self._store.give_back_outgoing(under_way)

    # --- which, and when

    async def _start_due(self) -> float | None:
        """Begin with what is due, within all bounds; the seconds until more is due, where that is known."""
        now = self._clock()
        while (free := self._limits.outgoing_at_once - len(self._under_way)) > 0:
            parcels = await self._store.due_outgoing(
                now,
                free,
                but=tuple(self._under_way),
                but_hosts=[host for host, count in self._busy.items() if count >= self._most_to(host)],
            )
            if not parcels:
                break
            too_many: list[int] = []
            for parcel in parcels:
                if self._busy[parcel.host] < self._most_to(parcel.host):
                    self._busy[parcel.host] += 1
                    self._under_way[parcel.id] = asyncio.create_task(self._carry(parcel), name="outgoing")
                else:
                    too_many.append(parcel.id)
            if too_many:
                await self._store.give_back_outgoing(too_many)
        next_due = await self._store.next_outgoing(now)
        return None if next_due is None else max(0.0, next_due - self._clock())

    def _most_to(self, host: str) -> int:
        """One attempt shows whether a host is back."""
        return 1 if host in self._closed else self._limits.outgoing_at_once_per_host

    async def _carry(self, parcel: Parcel) -> None:
        try:
            await self._attempt(parcel)
        except StoreFailed as problem:
            log.error("%s", problem)
            await asyncio.sleep(self._limits.outgoing_retry_seconds)
        finally:
            del self._under_way[parcel.id]
            self._busy[parcel.host] -= 1
            if not self._busy[parcel.host]:
                del self._busy[parcel.host]
            self._wake.set()

    async def _attempt(self, parcel: Parcel) -> None:
        now = self._clock
        try:
            await self._send(parcel.uri, parcel.body)
        except _Later as later:
            self._closed.pop(parcel.host, None)
            self.traffic.retried += 1
            pause = max(self._pause(parcel.tries), min(later.seconds, LONGEST_PAUSE))
            await self._store.postpone_outgoing(parcel.id, now() + pause)
            return
        except _Unreachable:
            self.traffic.retried += 1
            await self._store.postpone_host(parcel.host, self._close(parcel.host))
            return
        except _Refused:
            self.traffic.refused += 1
        except Exception:
            log.exception("an outgoing message is given up")
            self.traffic.refused += 1
        else:
            self.traffic.sent += 1
            self._remember(parcel.digest, now())
        self._closed.pop(parcel.host, None)
        await self._store.end_outgoing(parcel.id)

    def _remember(self, digest: bytes, now: float) -> None:
        self._sent[digest] = now
        if len(self._sent) > REMEMBERED_SENT:
            self._sent.popitem(last=False)

    def _close(self, host: str) -> float:
        """No connections to a host until the time that is returned."""
        closed = self._closed.setdefault(host, _Closed())
        self._closed.move_to_end(host)
        if len(self._closed) > REMEMBERED_HOSTS:
            self._closed.popitem(last=False)
        now = self._clock()
        if closed.until <= now:  # else another attempt has failed at the same time
            closed.until = now + self._pause(closed.failures)
            closed.failures += 1
        return closed.until

    def _pause(self, failures: int) -> float:
        longest = min(self._limits.outgoing_retry_seconds * float(1 << min(failures, 20)), LONGEST_PAUSE)
        return longest * random.uniform(0.75, 1.0)  # noqa: S311  (so that not all come at once)

    # --- one attempt

    async def _send(self, uri: str, envelope: bytes) -> None:
        try:
            async with asyncio.timeout(self._limits.outgoing_seconds):
                if urlsplit(uri).scheme in ("ws", "wss"):
                    await self._send_on_websocket(uri, envelope)
                else:
                    await self._post(uri, envelope)
        except (aiohttp.InvalidURL, UnicodeError):
            raise _Refused from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise (_Refused if is_not_public(error) else _Unreachable) from None

    async def _post(self, uri: str, envelope: bytes) -> None:
        for _ in range(REDIRECTS + 1):
            async with self._http.post(
                uri, data=envelope, headers={"Content-Type": ENCRYPTED}, allow_redirects=False
            ) as response:
                if response.status == 307:
                    uri = _redirected(uri, response.headers.get("Location", ""))
                    continue
                await read_all(response, LONGEST_ANSWER)  # nothing in it is for us
                if 200 <= response.status < 300:
                    return
                if response.status in (408, 425, 429) or response.status >= 500:
                    raise _Later(_retry_after(response.headers.get("Retry-After", "")))
                raise _Refused
        raise _Refused

    async def _send_on_websocket(self, uri: str, envelope: bytes) -> None:
        try:
            websocket = await self._http.ws_connect(uri, compress=0, max_msg_size=LONGEST_ANSWER)
        except aiohttp.WSServerHandshakeError as error:
            if error.status == 429 or error.status >= 500:
                raise _Later from None
            raise _Refused from None
        async with websocket:
            await websocket.send_str(envelope.decode())
            await websocket.close()
        # Whoever answers a close has read what came before it.
        if websocket.close_code not in _GOOD_BYES:
            raise _Later


def _redirected(uri: str, location: str) -> str:
    try:
        target = urljoin(uri, location)
        host_of(target)
        allowed = _SCHEMES[urlsplit(uri).scheme]
    except (ValueError, DidError):
        raise _Refused from None
    if urlsplit(target).scheme not in allowed:
        raise _Refused
    return target


def _retry_after(text: str) -> float:
    """Only the form in seconds."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
