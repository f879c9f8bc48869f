"""The links of a process and what carries them: asked after each read, and at each beat."""

import asyncio
from collections.abc import Callable

from didmpc.agent.channel.clock import Wakefulness, now
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.orders import RelayPath
from didmpc.agent.channel.paths.relay import Relay
from didmpc.agent.channel.peer import Peer

BEAT = 0.05
"""How often links and relays are asked what is due; nothing of the data's way waits for it."""


class Traffic:
    """All peers and relays of a process. `on_read` follows each read of a relay's socket, after its packets
    and before the answers; `on_beat` is told the time, and whether the beat came late."""

    def __init__(
        self, limits: Limits, *, on_read: Callable[[], None], on_beat: Callable[[float, bool], None]
    ) -> None:
        self._limits = limits
        self._on_read = on_read
        self._on_beat = on_beat
        self.peers: dict[int, Peer] = {}
        self.relays: dict[str, Relay] = {}
        self.wakefulness = Wakefulness(now())

    def relay(self, path: RelayPath, name: str | None = None) -> Relay:
        """The relay of that name; without one, the one at that mediator. Who makes it sees to `keep_up`."""
        name = path.url if name is None else name
        relay = self.relays.get(name)
        if relay is None:
            relay = self.relays[name] = Relay(path, on_read=self._after_read, limits=self._limits)
        return relay

    def pump(self) -> None:
        """What the peers' links have to say now, in one write for each relay."""
        self._pump(now())

    def _pump(self, at: float) -> None:
        pumped = False
        for peer in self.peers.values():
            if peer.touched:
                peer.pump(at)
                pumped = True
        if pumped:
            for relay in self.relays.values():
                if relay.leg is not None:
                    relay.leg.flush()

    def _after_read(self, at: float) -> None:
        """One read of a relay's socket: its data to the program, and what the links answer."""
        self._on_read()
        self._pump(at)

    async def beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            at = now()
            late = self.wakefulness.beat(at, BEAT)
            for peer in tuple(self.peers.values()):
                if peer.link.deadline() <= at:
                    peer.pump(at)
                else:
                    peer.pump_if_touched(at)
            for relay in tuple(self.relays.values()):
                relay.beat(at, self.wakefulness)
            self._on_beat(at, late)
