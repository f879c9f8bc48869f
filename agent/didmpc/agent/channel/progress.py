"""What a run looks like, for whoever watches it: put together when a timer asks, never per message."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from didmpc.agent.channel.didcomm import FramePath
from didmpc.agent.channel.peer import Peer

FASTEST, SLOWEST = 0.2, 60.0
"""Seconds between two pictures that may be asked for."""
WAITING_SAID_AFTER = 0.25
"""So long a program waits before it says so (didmpc.agent.program.watch)."""


def interval(wanted: float) -> float:
    """How often a picture is told, in seconds, whatever was asked for."""
    return max(FASTEST, min(wanted, SLOWEST))


def host_of(url: str) -> str:
    """The host that a relay's address names."""
    return urlsplit(url).hostname or ""


class Progress:
    """What cannot be read off links: where they run, and for whom the program waits since when."""

    def __init__(self, names: Mapping[int, str], me: int) -> None:
        self._names = names
        self._me = me
        self._relays: dict[int, str] = {}
        self._state = "computing"
        self._waits: tuple[int, ...] = ()
        self._since = 0.0

    def runs_at(self, pid: int, url: str) -> None:
        """The link to party `pid` runs through this relay."""
        self._relays[pid] = host_of(url)

    def own_state(self, said: Mapping[str, Any], now: float) -> None:
        """What our program says it is doing."""
        state, labels = said.get("state"), said.get("for")
        waits: tuple[int, ...] = ()
        if state == "waiting" and isinstance(labels, dict):
            waits = tuple(pid for pid in sorted(self._names) if str(pid) in labels)
        if waits != self._waits:
            self._waits, self._since = waits, now - WAITING_SAID_AFTER
        self._state = str(state)

    def picture(
        self, stats: Mapping[str, Any], peers: Iterable[Peer], frames: Iterable[FramePath], now: float
    ) -> dict[str, Any]:
        """The event `progress`, of figures that `stats.collect` counted."""
        figures = ("rounds", "messages", "bytes", "crypto_us_per_message", "envelopes")
        return {
            "seconds": round(stats["seconds"], 1),
            **{name: stats[name] for name in figures},
            "state": self._state,
            "waiting": {
                "for": [self._names[pid] for pid in self._waits],
                "seconds": round(now - self._since, 1) if self._waits else 0.0,
            },
            "peers": sorted(
                [self._peer(peer, now) for peer in peers] + [self._frames(path) for path in frames],
                key=lambda each: int(each["pid"]),
            ),
        }

    def _peer(self, peer: Peer, now: float) -> dict[str, Any]:
        link = peer.link.stats
        binary = peer.link.wire == "binary"
        return {
            "pid": peer.pid,
            "name": peer.name,
            "path": "relay" if binary else "mailbox",
            "relay": self._relays.get(peer.pid, "") if binary else "",
            "presence": "left" if peer.closed else peer.presence.value,
            "rtt_ms": peer.rtt_ms,
            "sent": link.bytes_sent,
            "received": link.bytes_received,
            "records_sent": link.records_sent,
            "records_received": link.records_received,
            "reconnects": max(0, peer.paths_up - 1),
            "silent": round(max(0.0, now - peer.link.last_heard), 1),
        }

    def _frames(self, path: FramePath) -> dict[str, Any]:
        return {
            "pid": path.pid,
            "name": self._names[path.pid],
            "path": "messages",
            "relay": "",
            "presence": "connected",
            "rtt_ms": None,
            "records_sent": path.sent,
            "records_received": path.received,
            "reconnects": 0,
        }
