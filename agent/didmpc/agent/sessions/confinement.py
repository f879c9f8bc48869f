"""Which sandbox a run of ours gets, and that it gets none only where its person has said so."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.agent.sandbox.choice import Choice, choose
from didmpc.agent.sandbox.policy import Mechanism
from didmpc.protocols.errors import DidmpcError


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
        place = Place(
            Choice(Mechanism.NONE, "You typed --no-sandbox.") if refused else await self.find(), refused
        )
        if not place.choice and not refused and params.get("asks") is not True:
            raise place.problem()
        return place


@dataclass(frozen=True, slots=True)
class Place:
    """What one run gets, if its person agrees."""

    choice: Choice
    refused: bool

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
