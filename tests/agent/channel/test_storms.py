"""Paths that double, reorder, delay and lose packets, below real links: all arrives once and in order."""

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from channel_parts import NAMES, Line, Seat, Table, seat, session_line, shake_hands
from channel_programs import rounds

from didmpc.agent.channel.clock import now
from didmpc.agent.channel.peer import Peer
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identity
from didmpc.protocols.session.handshake import WIRE_BINARY, WIRE_JSON, Initiation, Party, respond
from didmpc.protocols.session.link import Link, LinkLimits
from didmpc.protocols.session.packet import EpochLimits


class Storm:
    """A path to one peer on which packets may be lost, doubled or overtaken, and which breaks at times."""

    def __init__(self, end: "End", wire: str, chance: random.Random, lost: float) -> None:
        self.wire, self.stored = wire, wire == WIRE_JSON
        self._end, self._chance, self._lost = end, chance, lost
        self.other: End
        self.lost = self.doubled = self.overtaken = 0
        self._latest = 0.0

    @property
    def budget(self) -> int:
        return self._chance.choice((0, 2_000, 100_000, 1_000_000))

    def write(self, packet: bytes) -> None:
        if self._chance.random() < self._lost:
            self.lost += 1
            return
        copies = self._chance.choice((1, 1, 1, 2, 3))
        self.doubled += copies - 1
        for _ in range(copies):
            loop = asyncio.get_running_loop()
            arrives = loop.time() + self._chance.choice((0, 0.001, 0.02))
            self.overtaken += arrives < self._latest
            self._latest = max(self._latest, arrives)
            loop.call_at(arrives, self.other.take, packet)

    def flush(self) -> None:
        """Each packet is on its way at once."""

    def reset(self) -> None:
        self._end.peer.path_down(self, "broken")
        self._end.peer.path_up(self)


class End:
    """One of two peers, and what it was told."""

    def __init__(self, name: str, link: Link) -> None:
        self.peer = Peer(0, name, link, self)
        self.received: list[tuple[int, bytes]] = []
        self.ready = self.closed = False
        self.failed: list[str] = []

    def take(self, packet: bytes) -> None:
        self.peer.packet_received(packet)
        self.peer.pump_if_touched(now())

    def peer_ready(self, peer: Peer) -> None:
        assert not self.ready
        self.ready = True

    def peer_data(self, pid: int, start: int, data: bytes) -> None:
        assert self.ready and not self.closed
        self.received.append((start, data))

    def peer_closed(self, peer: Peer) -> None:
        self.closed = True

    def peer_failed(self, peer: Peer, kind: str, error: DidmpcError) -> None:
        self.failed.append(f"{kind}: {error}")

    def __getattr__(self, name: str) -> Any:
        """Nothing else that a listener may be told matters here."""
        if name.startswith("peer_"):
            return lambda *told: None
        raise AttributeError(name)


@pytest.mark.parametrize(("wire", "lost"), [(WIRE_BINARY, 0.1), (WIRE_JSON, 0.0)])
async def test_two_peers_in_a_storm(wire: str, lost: float) -> None:
    chance = random.Random(wire)
    one, other = Party.of(Identity.peer4()), Party.of(Identity.peer4())
    initiation = Initiation(one, other, "open-1", wires=[wire])
    accept, answered = respond(other, one, "open-1", initiation.body, wires=[wire])
    limits = LinkLimits(epoch=EpochLimits(packets=16))
    ends = [
        End(name, Link(session, now=now(), limits=limits))
        for name, session in (("far", initiation.finish(accept)), ("near", answered))
    ]
    storms = [Storm(end, wire, chance, lost) for end in ends]
    for storm, end in zip(storms, reversed(ends), strict=True):
        storm.other = end
    for end, storm in zip(ends, storms, strict=True):
        end.peer.path_up(storm)
    sent: list[list[tuple[int, bytes]]] = [[], []]

    async with asyncio.timeout(300):
        for turn in itertools.count():
            settled = turn > 150 and all(end.closed and end.peer.settled for end in ends)
            if settled:
                break
            for end, storm, said in zip(ends, storms, sent, strict=True):
                if turn < 150:
                    record = (1, chance.randbytes(chance.choice((1, 40, 700, 20_000))))
                    end.peer.send(*record)
                    said.append(record)
                    if turn % 40 == 39:
                        storm.reset()
                elif turn == 150:
                    end.peer.close()
                end.peer.pump(now())
            await asyncio.sleep(0.002 if turn < 150 else 0.02)
    assert [ends[1].received, ends[0].received] == sent
    assert [end.failed for end in ends] == [[], []]
    assert all(storm.doubled > 20 and storm.overtaken > 20 for storm in storms)
    assert all(storm.lost > 5 for storm in storms) or not lost


async def test_a_new_session_that_comes_before_its_peer_was_heard_ends_nothing() -> None:
    one, other = Identity.peer4(), Identity.peer4()
    end = End("far", Link(shake_hands(one, other)[0], now=now()))
    end.peer.renew(shake_hands(one, other)[0])
    assert end.failed == [] and end.peer.link.stats.sessions == 1


async def test_a_whole_run_through_mediators_that_shuffle_and_double_its_envelopes(
    seats: list[Seat], tmp_path: Path
) -> None:
    chance = random.Random(7)
    program, result = rounds(12)
    doubled = 0

    def post(sender: Seat) -> None:
        """What the daemons and their mediators do: each packet arrives at least once, in any order."""
        nonlocal doubled
        packets = [line["packet"] for line in sender.lines if "packet" in line]
        sender.lines[:] = [line for line in sender.lines if "packet" not in line]
        for packet in packets:
            copies = chance.choice((1, 1, 2))
            doubled += copies - 1
            for _ in range(copies):
                line: Line = {"packet": {"pid": sender.pid, "data": packet["data"]}}
                receiver = table[packet["pid"]]
                asyncio.get_running_loop().call_later(
                    chance.uniform(0, 0.01), lambda to=receiver, what=line: to.tell(**what)
                )

    async def carry() -> None:
        while True:
            for party in table:
                post(party)
            await asyncio.sleep(0.001)

    folders = [tmp_path / name for name in NAMES[:3]]
    seats.extend(await asyncio.gather(*(seat(pid, folder) for pid, folder in enumerate(folders))))
    table = Table(seats)
    for party in table:
        await party.attach()
        party.tell(session=session_line(party.pid, folders[party.pid], program, 3))
    identities = [Identity.peer4() for _ in table]
    for low, high in itertools.combinations(range(3), 2):
        ends = shake_hands(identities[low], identities[high], wires=[WIRE_JSON])
        for me, peer, session in ((low, high, ends[0]), (high, low, ends[1])):
            table[me].tell(link={"pid": peer, "session": session.to_json(), "path": {"mailbox": True}})
    carrying = asyncio.create_task(carry())
    ended = await table.ended(300)
    carrying.cancel()
    assert [each["ok"] for each in ended] == [True] * 3 and doubled > 10
    assert [party.stdout for party in table] == [result] * 3
