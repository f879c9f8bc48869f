"""Joint computations that go on while the cluster between their parties breaks, and must be right at the end.

Three agents that know one mediator and nothing of its nodes; the load balancer puts their sockets on
different ones. What a computation prints depends on every bit that was exchanged.
"""

import asyncio
from dataclasses import dataclass, field

from cluster_parts.nodes import Nodes
from cluster_parts.servers import Servers
from didmpc.bench.cluster import Running
from didmpc.bench.endurance import ENDURANCE, expected
from didmpc.bench.soak import Log

STEPS, PAUSE, SIZE = 200, 0.3, 2000
"""More than a minute, in which several things break."""
RESUME_LIMIT = "900"
WITHIN = 600.0
"""Seconds in which a computation gets further, also on a slow machine."""
POLL = 0.1
CROSSING = """
SELECT count(*) FROM bound AS near JOIN bound AS far USING (channel)
WHERE near.side = 0 AND far.side = 1 AND near.node <> far.node
"""


@dataclass
class Computations:
    """One after the other; each is begun while nothing is broken."""

    nodes: Nodes
    servers: Servers
    log: Log
    begun: int = 0
    right: int = 0
    faced: int = 0
    """Faults through which a computation has lived."""
    _running: list[Running] = field(default_factory=list)

    async def be_under_way(self) -> None:
        """Begin one unless one is there; both ends of some channel are on different nodes then."""
        if self._running and any(each.poll() is not None for each in self._running):
            await self.finish()
        if not self._running:
            arguments = [str(STEPS), str(PAUSE), str(SIZE)]
            self._running = await asyncio.to_thread(
                self.nodes.begin,
                ENDURANCE,
                "--resume-limit",
                RESUME_LIMIT,
                arguments=arguments,
                as_json=False,
            )
            self.begun += 1
            await self._reach([5] * len(self._running))
            crossing = await self._spread()
            self.log.write("computation", parties=len(self._running), crossing=crossing)

    async def go_on(self) -> None:
        """After a fault: all parties get further, or have come to their end."""
        await self._reach([step + 2 for step in self._steps()])
        self.faced += 1

    async def finish(self) -> None:
        """Every party prints what it must."""
        for each in self._running:
            finished = await asyncio.to_thread(each.done, WITHIN)
            assert finished.stdout == expected(STEPS, SIZE, len(self._running)), finished.stdout[-300:]
        self.right += bool(self._running)
        self.log.write("right", begun=self.begun, right=self.right)
        self._running = []

    def _steps(self) -> list[int]:
        return [each.stdout.count("step ") for each in self._running]

    async def _reach(self, steps: list[int]) -> None:
        wanted = [min(step, STEPS) for step in steps]
        try:
            async with asyncio.timeout(WITHIN):
                while any(have < want for have, want in zip(self._steps(), wanted, strict=True)):
                    for each in self._running:
                        assert each.poll() in (None, 0), f"it broke off: {each.stdout[-300:]}{each.stderr}"
                    await asyncio.sleep(POLL)
        except TimeoutError:
            said = [each.stderr[-500:] for each in self._running]
            raise AssertionError(
                f"no step further in {WITHIN:g} s: {self._steps()}, wanted {wanted}. {said}"
            ) from None

    async def _spread(self) -> int:
        """Have clients connect anew until the ends of channels are on different nodes; of how many."""
        async with asyncio.timeout(WITHIN):
            while not (crossing := await self.servers.ask(self.servers.primary, CROSSING)):
                await asyncio.to_thread(self.nodes.balancer.reset)
                await asyncio.sleep(5)
        return int(crossing)
