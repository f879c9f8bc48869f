"""Which sandbox a run of ours gets, and that it gets none only where its person has said so."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from didmpc.agent.sandbox.choice import Choice, choose
from didmpc.agent.sandbox.policy import GIB, MIB, Limits, Mechanism
from didmpc.protocols.errors import DidmpcError, LocalMisuse

LEAST_MEMORY = 256 * MIB
MOST_MEMORY = 4096 * GIB
MOST_TIME = 30 * 24 * 3600


class Confinement:
    """What this machine has. The best one, once found, is not looked for again."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._best: Choice | None = None

    async def find(self) -> Choice:
        """What works now."""
        if self._best is not None:
            return self._best
        found = await asyncio.to_thread(choose, self._home)
        if found.mechanism is Mechanism.BUBBLEWRAP:
            self._best = found
        return found

    async def for_run(self, params: Mapping[str, Any]) -> "Place":
        """For the parameters of `run` or `join`. Raises DidmpcError where nobody can be asked and must be."""
        refused = params.get("no_sandbox") is True
        limits = limits_of(params)
        choice = Choice(Mechanism.NONE, "You typed --no-sandbox.") if refused else await self.find()
        place = Place(choice, refused, limits)
        if not place.choice and not refused and params.get("asks") is not True:
            raise place.problem()
        return place


def limits_of(params: Mapping[str, Any]) -> Limits:
    """What a program may use up: `memory` in bytes and `time_limit` in seconds, if the person said so."""
    usual = Limits()
    memory, seconds = params.get("memory"), params.get("time_limit")
    memory = usual.memory if memory is None else int(memory)
    seconds = usual.cpu_seconds if seconds is None else int(seconds)
    if not LEAST_MEMORY <= memory <= MOST_MEMORY:
        raise LocalMisuse(
            f"A program cannot run in {memory / MIB:,.0f} MiB of memory.",
            why="Python with MPyC and numpy needs some of it before the program begins.",
            fix="Name at least 256M:  --memory 2G",
        )
    if not 1 <= seconds <= MOST_TIME:
        raise LocalMisuse("A program's time is 1 second to 30 days.", fix="Name it:  --time-limit 1h")
    return replace(usual, memory=memory, cpu_seconds=seconds)


@dataclass(frozen=True, slots=True)
class Place:
    """What one run gets, if its person agrees."""

    choice: Choice
    refused: bool
    limits: Limits = field(default_factory=Limits)

    def facts(self) -> dict[str, Any]:
        """For the person, beside the proposal."""
        choice = self.choice
        return {
            "sandbox": choice.mechanism.value,
            "sandbox_refused": self.refused,
            "sandbox_why": choice.why,
            "sandbox_fix": choice.fix,
        }

    def agreed(self, answer: Mapping[str, Any]) -> Mechanism:
        """What the run gets after the person's answer. Raises `DidmpcError` where that is not enough."""
        if not self.choice and not self.refused and answer.get("no_sandbox") is not True:
            raise self.problem()
        return self.choice.mechanism

    def problem(self) -> DidmpcError:
        return DidmpcError(
            "There is no sandbox on this machine to run a program in.",
            why=f"{self.choice.why} Without one it can read and change all your files, and connect anywhere.",
            fix=f"{self.choice.fix} Or, if you trust the program with all that:  --no-sandbox".strip(),
        )
