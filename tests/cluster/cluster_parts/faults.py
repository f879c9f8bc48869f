"""What may break in a cluster: each fault breaks something under load, sees what must go on, and mends it.

They are drawn from a seed. Every fault ends with all nodes and servers up, and the load at work again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster_parts.load import ANSWER_WITHIN, Load
from cluster_parts.nodes import Nodes
from cluster_parts.servers import Server, Servers
from cluster_parts.sessions import Computations
from didmpc.bench.soak import Log

LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
"""Debian's `faketime`; None where it is not installed."""
SETTLES = 3.0
"""Seconds in which answers that were under way arrive."""
WATCHED = 4.0
"""Seconds in which nothing may be promised where nothing can be kept."""


def clock_off_by(seconds: int) -> tuple[str, ...]:
    """What to run a command under. The clock of intervals stays right, as where somebody set the date wrong.

    Without the wrapper `faketime`, which would be killed instead of the command.
    """
    preload = f"LD_PRELOAD={LIBFAKETIME}"
    return "env", preload, f"FAKETIME={seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC=1"


@dataclass
class Faults:
    nodes: Nodes
    servers: Servers
    load: Load
    chance: random.Random
    log: Log
    computations: Computations | None = None
    count: Counter[str] = field(default_factory=Counter)
    _left: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """All that can happen on one machine without its networks, by name."""
        kinds = {
            "kill-node": self.kill_node,
            "kill-all-nodes": self.kill_all_nodes,
            "kill-primary": self.kill_primary,
            "restart-primary": self.restart_primary,
            "lose-standby": self.lose_standby,
            "lose-both-standbys": self.lose_both_standbys,
            "lose-all-servers": self.lose_all_servers,
            "kill-all-nodes-and-the-primary": self.kill_all_nodes_and_the_primary,
            "suspend-node": self.suspend_node,
            "suspend-primary": self.suspend_primary,
            "roll": self.roll,
            "reset": self.reset,
        }
        return kinds | (
            {"skew-node": self.skew_node, "skew-servers": self.skew_servers} if LIBFAKETIME else {}
        )

    async def happen(self, name: str | None = None) -> None:
        """One fault, drawn if not named; each kind as often as any other."""
        if name is None:
            if not self._left:
                self._left = self.chance.sample(sorted(self.kinds), len(self.kinds))
            name = self._left.pop()
        if self.computations is not None:
            await self.computations.be_under_way()
        self.log.write("fault", name=name)
        began = self.log.seconds
        await self.load.work(taken=self.chance.randint(1, 40))
        await self.kinds[name]()
        await self.work()
        if self.computations is not None:
            await self.computations.go_on()
        self.count[name] += 1
        seconds = round(self.log.seconds - began, 3)
        self.log.write("mended", name=name, seconds=seconds, **self.load.journal.figures)
        if doubts := self.load.journal.doubts:
            told = [f"{each.tag}: {', '.join(self.load.journal.history[each.tag])}" for each in doubts[:5]]
            self.log.write("doubts", now=round(asyncio.get_running_loop().time(), 2), told=told)

    def end(self, of: str) -> None:
        """The figures of what is judged, for the report."""
        figures = dict(self.load.journal.summary())
        if self.computations is not None:
            of_these = self.computations
            figures |= {"computations": of_these.begun, "right": of_these.right, "faced": of_these.faced}
        self.log.write("end", of=of, faults=dict(self.count), count=figures)

    async def work(self) -> None:
        """The load must be at work: both promises are made anew."""
        await self.load.work(taken=10, acknowledged=5)

    def _say(self, what: str, **details: object) -> None:
        self.log.write(what, **details)

    # --- nodes

    async def kill_node(self) -> None:
        """kill -9: the others serve."""
        node = self.chance.choice(self.nodes.nodes)
        self._say("kill", node=node.name)
        await asyncio.to_thread(self.nodes.kill, node)
        await self.work()
        await asyncio.to_thread(self.nodes.restart, node)

    async def kill_all_nodes(self) -> None:
        self._say("kill", node="all")
        await asyncio.to_thread(self.nodes.kill, *self.nodes.nodes)
        await asyncio.to_thread(self.nodes.restart, *self.nodes.nodes)

    async def suspend_node(self) -> None:
        """A node hangs for longer than anybody believes in it, and then goes on as if nothing had been."""
        node = self.chance.choice(self.nodes.nodes)
        seconds = self.chance.uniform(2, 20)
        self._say("suspend", node=node.name, seconds=round(seconds, 1))
        self.nodes.suspend_node(node)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.nodes.resume_node(node)

    async def roll(self) -> None:
        """All nodes in turn are stopped in order and started again."""
        for node in self.chance.sample(self.nodes.nodes, len(self.nodes.nodes)):
            self._say("roll", node=node.name)
            said = await asyncio.to_thread(self.nodes.roll, node)
            assert "Traceback" not in said, said
            await self.work()

    async def skew_node(self) -> None:
        """A node whose clock is a minute wrong, for a while."""
        node = self.chance.choice(self.nodes.nodes)
        seconds = self.chance.choice((-60, 60))
        self._say("skew", node=node.name, seconds=seconds)
        await asyncio.to_thread(self.nodes.kill, node)
        node.under = clock_off_by(seconds)
        try:
            await asyncio.to_thread(self.nodes.restart, node)
            await self.load.work(taken=60, acknowledged=60)
        finally:
            node.under = ()
        await asyncio.to_thread(self.nodes.kill, node)
        await asyncio.to_thread(self.nodes.restart, node)

    async def reset(self) -> None:
        """The load balancer starts again: every connection of a client is gone."""
        self._say("reset", connections=await asyncio.to_thread(self.nodes.balancer.reset))

    # --- servers

    async def _replace_primary(self) -> None:
        old = self.servers.primary
        new = await self.servers.promote()
        self._say("promote", server=new.name)
        await self.work()
        await self.servers.rejoin(old)
        await self.servers.caught_up()

    async def kill_primary(self) -> None:
        """kill -9 of the primary; a standby is promoted."""
        self._say("kill", server=self.servers.primary.name)
        self.servers.kill(self.servers.primary)
        await asyncio.sleep(self.chance.uniform(0, 3))
        await self._replace_primary()

    async def restart_primary(self) -> None:
        """kill -9 of the primary, which recovers by itself."""
        self._say("kill", server=self.servers.primary.name)
        self.servers.kill(self.servers.primary)
        await asyncio.sleep(self.chance.uniform(0, 3))
        await self.servers.start(self.servers.primary)
        await self.servers.caught_up()

    async def kill_all_nodes_and_the_primary(self) -> None:
        """Whatever was under way was under way twice over."""
        self._say("kill", node="all", server=self.servers.primary.name)
        self.servers.kill(self.servers.primary)
        await asyncio.to_thread(self.nodes.kill, *self.nodes.nodes)
        new = await self.servers.promote()
        self._say("promote", server=new.name)
        await asyncio.to_thread(self.nodes.restart, *self.nodes.nodes)
        await self.work()
        for server in self.servers.all:
            if not server.is_running:
                await self.servers.rejoin(server)
        await self.servers.caught_up()

    async def suspend_primary(self) -> None:
        """A primary that hangs, and is waited for."""
        seconds = self.chance.uniform(1, 12)
        self._say("suspend", server=self.servers.primary.name, seconds=round(seconds, 1))
        self.servers.suspend(self.servers.primary)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.servers.resume(self.servers.primary)
        await self.servers.caught_up()

    async def skew_servers(self) -> None:
        """A standby whose clock is a minute wrong is promoted, and later one whose clock is right."""
        seconds = self.chance.choice((-60, 60))
        wrong = self.servers.standbys
        self._say("skew", servers=[standby.name for standby in wrong], seconds=seconds)
        try:
            for standby in wrong:
                standby.under = clock_off_by(seconds)
                await self._restart_standby(standby)
            self.servers.kill(self.servers.primary)
            await self._replace_primary()
        finally:
            for standby in wrong:
                standby.under = ()
        for standby in wrong:
            if standby is not self.servers.primary:
                await self._restart_standby(standby)
        self.servers.kill(self.servers.primary)
        await self._replace_primary()

    async def _restart_standby(self, standby: Server) -> None:
        self.servers.kill(standby)
        await self.servers.start(standby)
        await self.servers.caught_up()

    async def lose_standby(self) -> None:
        """The other one is enough."""
        lost = self.chance.choice(self.servers.standbys)
        self._say("kill", server=lost.name)
        self.servers.kill(lost)
        await self.work()
        await self.servers.start(lost)
        await self.servers.caught_up()

    async def _without_standbys(self) -> None:
        """Nothing is promised that only one server has."""
        for standby in self.servers.standbys:
            self._say("kill", server=standby.name)
            self.servers.kill(standby)
        await self._nothing_is_promised()

    async def _nothing_is_promised(self) -> None:
        await asyncio.sleep(SETTLES)
        journal = self.load.journal
        before = len(journal.taken_tags), len(journal.acknowledged_tags)
        await asyncio.sleep(WATCHED)
        assert (len(journal.taken_tags), len(journal.acknowledged_tags)) == before, (
            "something was promised that no standby has"
        )

    async def _serve_for(self, least: float, most: float) -> None:
        """The load stays at work for so long."""
        until = self.log.seconds + self.chance.uniform(least, most)
        while self.log.seconds < until:
            await self.work()

    async def lose_both_standbys(self) -> None:
        """Writes wait and are refused; then they go on."""
        await self._without_standbys()
        await asyncio.sleep(self.chance.uniform(0, ANSWER_WITHIN))
        first, second = self.chance.sample(self.servers.standbys, 2)
        await self.servers.start(first)
        await self.work()
        await self.servers.start(second)
        await self.servers.caught_up()

    async def lose_all_servers(self) -> None:
        """Both standbys, then the primary for good: one of the standbys has all that counts.

        The primary may have been restarted alone before: then it has committed what it promised to nobody.
        """
        await self._without_standbys()
        if self.chance.random() < 0.5:
            self._say("restart", server=self.servers.primary.name)
            self.servers.kill(self.servers.primary)
            await self.servers.start(self.servers.primary)
            await self._nothing_is_promised()
        self._say("kill", server=self.servers.primary.name)
        self.servers.kill(self.servers.primary)
        for standby in self.servers.standbys:
            await self.servers.start(standby)
        await self._replace_primary()
