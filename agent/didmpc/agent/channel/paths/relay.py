"""Relay channels: the paths that run through a mediator (session.md, section 5).

One `Relay` per mediator keeps one leg up for the whole run, whatever happens to the mediator or the network,
and binds all channels on each new leg with the same key.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable

import aiohttp

from didmpc.agent.channel.clock import Wakefulness, now
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.orders import RelayPath
from didmpc.agent.channel.paths.leg import Leg
from didmpc.agent.channel.paths.path import LinkEnd
from didmpc.agent.mailbox.dialing import connector, raise_if_not_public
from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.relay import hop
from didmpc.protocols.session.handshake import WIRE_BINARY

FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0
REBIND_AFTER = 1.0

log = logging.getLogger(__name__)


class RelayChannel:
    """Our end of one channel: a path. What may be sent is what the mediator has given credit for."""

    wire = WIRE_BINARY
    stored = False

    def __init__(self, relay: "Relay", number: int, capability: bytes, end: LinkEnd) -> None:
        self._relay = relay
        self._capability = capability
        self._rebind_key = PrivateKey.generate("Ed25519")
        self._held: deque[bytes] = deque()
        self._credit = 0
        self._up = False
        self._bind_at: float | None = None
        self._head = hop.encode_data(number, b"")
        self.number = number
        self.end = end

    # --- Path

    @property
    def budget(self) -> int:
        leg = self._relay.leg
        return self._credit if leg is not None and leg.socket.writable and not self._held else 0

    def write(self, packet: bytes) -> None:
        if self._held or len(packet) > self._credit:
            self._held.append(packet)  # what a link says beside its budget (control) waits for credit
            return
        leg = self._relay.leg
        if leg is not None:
            self._credit -= len(packet)
            leg.send(self._head, packet)

    def flush(self) -> None:
        self._relay.flush()

    # --- what the mediator says

    def bind(self, exporter: bytes) -> None:
        """Claim our end on a new leg, or again on the same one."""
        self._bind_at = None
        frame = hop.bind(self.number, self._capability, self._rebind_key, exporter)
        if self._relay.leg is not None:
            self._relay.leg.send(hop.encode_bind(frame))

    def take(self, frame: hop.Bound | hop.Unbound | hop.Credit | hop.Error) -> None:
        match frame:
            case hop.Credit():
                if self._up:
                    self._credit += frame.bytes
                    self._write_held()
                    self.end.path_writable()
            case hop.Bound():
                self._held.clear()  # sealed for the path as it was; the link says again what matters
                self._credit, self._up = frame.credit, True
                self.end.path_up(self)
            case hop.Unbound():
                self.down(f"The other side is not there ({frame.reason.name.lower()}).")
            case hop.Error():
                code = frame.code.name.lower().replace("_", " ")
                self.down(f"The mediator closed the relay channel: {code}.")
                self._bind_at = now() + REBIND_AFTER

    def down(self, reason: str) -> None:
        self._held.clear()
        self._credit, self._up = 0, False
        self.end.path_down(self, reason)

    def beat(self, now: float, exporter: bytes) -> None:
        if self._bind_at is not None and now >= self._bind_at:
            self.bind(exporter)

    def _write_held(self) -> None:
        held, self._held = self._held, deque()
        while held and len(held[0]) <= self._credit:
            self.write(held.popleft())
        self._held = held


class Relay:
    """All our channels at one mediator."""

    def __init__(self, path: RelayPath, *, on_read: Callable[[float], None], limits: Limits) -> None:
        self._mediator = path.mediator
        self._url = path.url
        self._private = path.private
        self._on_read = on_read
        self._limits = limits
        self._channels: dict[int, RelayChannel] = {}
        self._ends: dict[int, LinkEnd] = {}  # by the same numbers
        self.leg: Leg | None = None
        self._spent_crypto = 0.0
        self.envelopes = 0

    def add(self, capability: bytes, end: LinkEnd) -> RelayChannel:
        """One more channel; bound at once where the leg is up already, else with the next leg."""
        number = len(self._channels) + 1
        channel = self._channels[number] = RelayChannel(self, number, capability, end)
        self._ends[number] = end
        if self.leg is not None:
            channel.bind(self.leg.exporter)
            self.leg.flush()
        return channel

    @property
    def channels(self) -> tuple[RelayChannel, ...]:
        return tuple(self._channels.values())

    async def keep_up(self) -> None:
        """Have a leg, for ever; how long is long enough is judged by what is heard from the peers."""
        delay = FIRST_DELAY
        async with aiohttp.ClientSession(
            connector=connector(lambda: self._private), cookie_jar=aiohttp.DummyCookieJar()
        ) as http:
            while True:
                leg = Leg(
                    ends=self._ends,
                    on_frame=self._frame,
                    on_read=self._on_read,
                    on_writable=self._writable,
                    limits=self._limits,
                )
                try:
                    await leg.open(http, self._mediator, self._url)
                    delay = FIRST_DELAY
                    self._bind_all(leg)
                    reason = await leg.lost
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    reason = _words_for(error)
                except DidmpcError as error:
                    reason = str(error)
                finally:
                    self.leg = None
                    self._spent_crypto += leg.crypto_seconds
                    leg.abort()
                log.info("no relay at %s: %s", self._url, reason)
                for channel in self._channels.values():
                    channel.down(reason)
                await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311  so that not all come at once
                delay = min(2 * delay, LONGEST_DELAY)

    def _bind_all(self, leg: Leg) -> None:
        self.leg = leg
        self.envelopes += Leg.envelopes
        for channel in self._channels.values():
            channel.bind(leg.exporter)
        leg.flush()

    def flush(self) -> None:
        if self.leg is not None:
            self.leg.flush()

    # --- for the run

    def beat(self, now: float, wakefulness: Wakefulness) -> None:
        leg = self.leg
        if leg is not None:
            for channel in self._channels.values():
                channel.beat(now, leg.exporter)
            leg.beat(now, wakefulness.silence)
            leg.flush()

    @property
    def crypto_seconds(self) -> float:
        """Time spent on sealing and opening hop packets."""
        return self._spent_crypto + (0.0 if self.leg is None else self.leg.crypto_seconds)

    @property
    def written(self) -> bool:
        """Nothing waits for the socket."""
        return self.leg is not None and not self.leg.unwritten

    async def close(self, timeout: float) -> None:
        """Write out what is buffered and hang up."""
        if self.leg is not None:
            await self.leg.close(timeout)

    # --- what the leg calls

    def _frame(self, frame: hop.Frame) -> None:
        if isinstance(frame, hop.Bound | hop.Unbound | hop.Credit | hop.Error):
            channel = self._channels.get(frame.channel)
            if channel is not None:
                channel.take(frame)

    def _writable(self) -> None:
        for channel in self._channels.values():
            channel.end.path_writable()
        self.flush()


def _words_for(error: Exception) -> str:
    try:
        raise_if_not_public(error)
    except DidmpcError as problem:
        return str(problem)
    return f"The mediator does not answer ({str(error) or type(error).__name__})."
