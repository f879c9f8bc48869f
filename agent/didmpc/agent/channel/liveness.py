"""Who is heard, who is waited for, and when that ends a run (session.md, section 6).

Computing is never a fault, however long. Silence of a peer's channel process is.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from math import inf
from typing import Any, Protocol

from didmpc.agent.channel.causes import LEFT, Cause
from didmpc.agent.channel.clock import Wakefulness
from didmpc.agent.channel.deadlock import Deadlock, Finding, awaited_by_all
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.peer import Peer, Presence
from didmpc.agent.channel.states import Doing, Snapshot, held_up_by, in_words

WAITING_SHOWN_AFTER = 3.0
WAITING_SHOWN_EVERY = 10.0
STATES_SHOWN_EVERY = 1.0
DEADLOCK = "Suspected deadlock: every program waits for another's message, and none is on its way."
SAME_OPERATIONS = "Do the programs do the same operations, in the same order, at every party?"
_NAMED = 5


class Tell(Protocol):
    def __call__(self, event: str, **details: Any) -> None: ...


class End(Protocol):
    def __call__(self, cause: Cause) -> None: ...


class Liveness:
    """Judges the peers at each beat, and tells the user what a person should know."""

    def __init__(
        self,
        names: Mapping[int, str],
        me: int,
        resume_limit: float,
        deadlock_grace: float,
        limits: Limits,
        *,
        tell: Tell,
        end: End,
    ) -> None:
        self._names = names
        self._me = me
        self._others = frozenset(names) - {me}
        self._resume_limit = resume_limit
        self._limits = limits
        self._tell = tell
        self._end = end
        self._doing: dict[int, Doing] = {pid: Doing() for pid in names}
        self._since = dict.fromkeys(names, 0.0)  # when each of these came to be, by our clock
        self._places = ""
        self._read_up_to = -1
        self._waiting_since = 0.0
        self._shown_at = -inf
        self._states_shown: object = None
        self._states_shown_at = -inf
        self._left_since: dict[int, float] = {}
        self._deadlock = Deadlock(deadlock_grace)

    # --- what the parties do

    def own_state(self, said: Mapping[str, Any], now: float) -> None:
        """What our own program says it is doing."""
        doing = Doing.read({**said, "since": int(time.time())}, self._others)
        before = self._doing[self._me]
        if doing.state == before.state:
            doing = replace(doing, since=before.since)
        if doing.waits.keys() != before.waits.keys():
            self._waiting_since, self._shown_at = now, -inf
        read = said.get("read")
        self._read_up_to = read if isinstance(read, int) else -1
        places = said.get("at")
        self._places = ", ".join(map(str, places)) if isinstance(places, list) else ""
        self._now_doing(self._me, doing, now)

    def peer_state(self, pid: int, said: Mapping[str, Any], now: float) -> None:
        """What a peer's heartbeat says."""
        self._now_doing(pid, Doing.read(said, set(self._names) - {pid}), now)

    def _now_doing(self, pid: int, doing: Doing, now: float) -> None:
        if (doing.state, doing.waits) != (self._doing[pid].state, self._doing[pid].waits):
            self._since[pid] = now
        self._doing[pid] = doing

    def heartbeat(self, peers: Mapping[int, Peer], octets_written: int) -> dict[str, Any]:
        """Our state for the peers; with a snapshot where nothing but a message can wake our program.

        It could be woken by `octets_written` for it that it had not read when it said so.
        """
        doing = self._doing[self._me]
        alone = doing.state == "waiting" and not doing.also and self._read_up_to == octets_written
        snapshot = None
        if alone and peers.keys() == self._others and not any(p.link.unacknowledged for p in peers.values()):
            snapshot = Snapshot(
                sent={pid: peer.link.stats.bytes_sent for pid, peer in peers.items()},
                got={pid: peer.link.stats.bytes_received for pid, peer in peers.items()},
                left=frozenset(pid for pid, peer in peers.items() if peer.closed),
            )
        self._doing[self._me] = replace(doing, snapshot=snapshot)
        return self._doing[self._me].to_json()

    @property
    def may_be_stuck(self) -> bool:
        """Whether a heartbeat should be made at each beat: its snapshot may change."""
        doing = self._doing[self._me]
        return doing.snapshot is not None or (doing.state == "waiting" and not doing.also)

    # --- judgements

    def beat(self, peers: Collection[Peer], now: float, wakefulness: Wakefulness) -> None:
        for peer in peers:
            self._judge(peer, now, wakefulness)
        self._show_waiting(now)
        self._show_states(now)
        self._look_for_deadlock(peers, now)

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
        if peer.pid not in self._doing[self._me].waits:
            self._left_since.pop(peer.pid, None)
        elif now - self._left_since.setdefault(peer.pid, now) > self._limits.left_grace:
            self._end(Cause.of_peer("left", peer.pid, peer.name, LEFT))

    def _look_for_deadlock(self, peers: Collection[Peer], now: float) -> None:
        """Whoever is silent, or has no session with us, is not accused of anything."""
        everyone: Mapping[int, Doing] | None = None
        running = [peer for peer in peers if not peer.closed]
        if (
            self._doing[self._me].snapshot is not None
            and len(peers) == len(self._others)
            and all(peer.presence is Presence.CONNECTED for peer in running)
        ):
            ended = {peer.pid: Doing("exited") for peer in peers if peer.closed}
            everyone = self._doing | ended
        heard = min((peer.link.last_heard for peer in running), default=inf)
        match self._deadlock.look(everyone, heard, now):
            case Finding.SUSPECTED:
                self._tell(
                    "deadlock", why=self._who_waits(), seconds_left=round(self._deadlock.seconds_left(now), 1)
                )
            case Finding.OVER:
                self._tell("deadlock", over=True)
            case Finding.LASTS:
                self._end(self.deadlock())

    def deadlock(self) -> Cause:
        """The cause, in our own words. Where our program waits is for its owner alone."""
        told = f"{self._who_waits()}. Everything that was sent has arrived."
        if (odd := awaited_by_all(self._agreed)) is not None:
            told += f" All others wait for {self._names[odd]}'s program: it may be the one that differs."
        told += f" {SAME_OPERATIONS}"
        why = f"{told} Yours waits in {self._places}." if self._places else told
        return Cause("deadlock", DEADLOCK, why, public=told)

    @property
    def _agreed(self) -> Mapping[int, Doing]:
        """The states on which the suspicion stands: whoever has ended the run by now does something else."""
        return self._deadlock.states or self._doing

    @property
    def suspects_deadlock(self) -> bool:
        return self._deadlock.suspected

    def _who_waits(self) -> str:
        """We first, then those that we wait for, and so on; in a large circle not all are named."""
        everyone = self._agreed
        order = [self._me]
        for pid in order:
            order += [other for other in sorted(everyone[pid].waits) if other not in order]
        order += [pid for pid in sorted(self._names) if pid not in order]
        text = in_words(everyone, self._names, order[:_NAMED])
        return f"{text}; {len(order) - _NAMED} more wait" if len(order) > _NAMED else text

    # --- for people

    def _show(self, peer: Peer, state: str, **details: Any) -> None:
        rtt = peer.rtt_ms
        if rtt is not None:
            details["rtt_ms"] = rtt
        self._tell("peer", pid=peer.pid, name=peer.name, state=state, **details)

    def _show_waiting(self, now: float) -> None:
        """For whom our program waits, and in the end: those may wait for others."""
        waits = self._doing[self._me].waits
        if not waits or now - self._waiting_since < WAITING_SHOWN_AFTER:
            return
        if now - self._shown_at < WAITING_SHOWN_EVERY:
            return
        self._shown_at = now
        states = {self._names[pid]: self._doing[pid].state for pid in waits}
        ends = {self._names[pid]: self._doing[pid].state for pid in held_up_by(self._doing, self._me)}
        names = [self._names[pid] for pid in sorted(waits)]
        seconds = round(now - self._waiting_since, 1)
        self._tell("waiting", **{"for": names, "states": states, "held_up_by": ends, "seconds": seconds})

    def _show_states(self, now: float) -> None:
        """What everyone does, when that has changed and has lasted for a moment."""
        lasting = {
            pid: (doing.state, doing.waits, doing.also)
            for pid, doing in self._doing.items()
            if now - self._since[pid] >= STATES_SHOWN_EVERY
        }
        if lasting == self._states_shown or now - self._states_shown_at < STATES_SHOWN_EVERY:
            return
        self._states_shown, self._states_shown_at = lasting, now
        self._tell("states", parties=[self._described(pid, now) for pid in sorted(self._names)])

    def _described(self, pid: int, now: float) -> dict[str, Any]:
        doing = self._doing[pid]
        described: dict[str, Any] = {
            "pid": pid,
            "name": self._names[pid],
            "state": doing.state,
            "since": doing.since,
            "seconds": round(now - self._since[pid], 1),
        }
        if doing.state == "waiting":
            described["for"] = {self._names[other]: labels for other, labels in sorted(doing.waits.items())}
            described["also"] = list(doing.also)
        return described
