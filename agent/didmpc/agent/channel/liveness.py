"""Who is heard, who is waited for, and when that ends a run (session.md, section 6).

Computing is never a fault, however long. Silence of a peer's channel process is.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, Protocol

from didmpc.agent.channel.causes import LEFT, Cause
from didmpc.agent.channel.clock import Wakefulness
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.peer import Peer, Presence

WAITING_SHOWN_AFTER = 3.0
WAITING_SHOWN_EVERY = 10.0


class Tell(Protocol):
    def __call__(self, event: str, **details: Any) -> None: ...


class End(Protocol):
    def __call__(self, cause: Cause) -> None: ...


class Liveness:
    """Judges the peers at each beat, and tells the user what a person should know."""

    def __init__(
        self, names: Mapping[int, str], resume_limit: float, limits: Limits, *, tell: Tell, end: End
    ) -> None:
        self._names = names
        self._resume_limit = resume_limit
        self._limits = limits
        self._tell = tell
        self._end = end
        self._waiting_for: frozenset[int] = frozenset()
        self._waiting_since = 0.0
        self._shown_at = -inf
        self._left_since: dict[int, float] = {}

    def own_state(self, state: Mapping[str, Any], now: float) -> dict[str, Any]:
        """What our own program says it is doing; returns it as far as peers are told."""
        labels = state.get("for")
        if state.get("state") != "waiting" or not isinstance(labels, dict):
            labels = {}
        waiting_for = {pid: labels[str(pid)] for pid in self._names if isinstance(labels.get(str(pid)), int)}
        if waiting_for.keys() != self._waiting_for:
            self._waiting_for, self._waiting_since, self._shown_at = frozenset(waiting_for), now, -inf
        if waiting_for:
            return {"state": "waiting", "for": waiting_for}
        return {"state": "exited" if state.get("state") == "exited" else "computing"}

    def beat(self, peers: Iterable[Peer], now: float, wakefulness: Wakefulness) -> None:
        for peer in peers:
            self._judge(peer, now, wakefulness)
        self._show_waiting(peers, now)

    def _judge(self, peer: Peer, now: float, wakefulness: Wakefulness) -> None:
        silence = peer.silence(now, wakefulness)
        before = peer.presence
        after = peer.judge(silence, self._limits)
        if after is Presence.UNREACHABLE:
            left = max(0.0, self._resume_limit - silence)
            self._show(peer, "unreachable", why=peer.path_reason, seconds_left=round(left, 1))
        elif after is Presence.CONNECTED:
            self._show(peer, "back" if before is Presence.UNREACHABLE else "connected")
        if peer.closed:
            self._judge_left(peer, now)
        elif silence > self._resume_limit:
            why = f"Nothing was heard for {silence:.0f} s. {peer.path_reason}".rstrip()
            self._end(Cause.of_peer("unreachable", peer.pid, peer.name, why))

    def _judge_left(self, peer: Peer, now: float) -> None:
        """A party that properly ended has sent all it ever will: waiting for more would be for ever."""
        if peer.pid not in self._waiting_for:
            self._left_since.pop(peer.pid, None)
        elif now - self._left_since.setdefault(peer.pid, now) > self._limits.left_grace:
            self._end(Cause.of_peer("left", peer.pid, peer.name, LEFT))

    def _show(self, peer: Peer, state: str, **details: Any) -> None:
        rtt = peer.rtt_ms
        if rtt is not None:
            details["rtt_ms"] = rtt
        self._tell("peer", pid=peer.pid, name=peer.name, state=state, **details)

    def _show_waiting(self, peers: Iterable[Peer], now: float) -> None:
        if not self._waiting_for or now - self._waiting_since < WAITING_SHOWN_AFTER:
            return
        if now - self._shown_at < WAITING_SHOWN_EVERY:
            return
        self._shown_at = now
        states = {peer.name: peer.state.get("state") for peer in peers if peer.pid in self._waiting_for}
        names = [self._names[pid] for pid in sorted(self._waiting_for)]
        seconds = round(now - self._waiting_since, 1)
        self._tell("waiting", **{"for": names, "states": states, "seconds": seconds})
