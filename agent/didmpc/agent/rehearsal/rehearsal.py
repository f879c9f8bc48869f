"""Introduces the agents of a rehearsal to each other, has them compute, and counts what that took."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.agent.api.agent import Agent
from didmpc.agent.api.computing import Computation, ComputationFailed, Outcome
from didmpc.agent.api.events import Event
from didmpc.agent.program import repository
from didmpc.agent.rehearsal.forecast import Forecast, forecast, rounds_of
from didmpc.agent.sessions import host as hosts
from didmpc.agent.sessions import sources
from didmpc.agent.sessions.seat import REHEARSAL
from didmpc.protocols.errors import DidmpcError, LocalMisuse

START_WITHIN = 90.0
STOP_WITHIN = 12.0
ALL_HERE_WITHIN = 600.0
ROUND_TRIPS = (15.0, 60.0)
ALL_TOLD_WITHIN = 8.0
DELAY = 10
"""Milliseconds, each way, between the parties in the second run."""
NO_KEYRING = "keyring.backends.fail.Keyring"
"""The wallets go with their folder: no entries in the person's keyring."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something happened: to all (`pid` is None), or one party's `event`."""

    text: str = ""
    pid: int | None = None
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What came of one party."""

    pid: int
    name: str
    ok: bool
    output: str
    errors: str
    stats: Mapping[str, Any]
    problem: DidmpcError | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a computation took, all parties together, and what it will take over real distances."""

    parts: tuple[Part, ...]
    threshold: int
    seconds: float
    """From the first to the last message of the slowest party."""
    rounds: int | None
    """None where it ran only once."""
    messages: int
    bytes: int
    packets: int
    sealed_bytes: int
    """With what encryption and framing add."""
    forecasts: tuple[Forecast, ...]
    """Empty where it ran only once."""

    @property
    def parties(self) -> int:
        return len(self.parts)


class RehearsalFailed(DidmpcError):
    """The computation did not end well. `parts` says how each party's part ended."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        part = min((part for part in parts if not part.ok), key=_blame)
        problem = part.problem or DidmpcError("It failed.")
        about = "" if problem.what.startswith(part.name) else f"{part.name}: "
        super().__init__(about + problem.what, why=problem.why, fix=problem.fix)
        self.parts = parts


def _blame(part: Part) -> tuple[bool, int]:
    """Who fails of its own comes before those who only tell of another's failure."""
    problem = part.problem
    own = isinstance(problem, ComputationFailed) and (
        problem.outcome.cause is None or problem.outcome.cause.party is None
    )
    return not own, part.pid


async def rehearse(
    program: Path | str,
    parties: int = 3,
    *,
    arguments: Sequence[str] = (),
    inputs: Sequence[Path | str | None] = (),
    once: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
    **options: Any,
) -> Report:
    """Run a program with so many parties, all on this machine; `inputs[pid]` is what party `pid` reads.

    It runs twice, to count rounds, unless `once` is said; `on_step` and the report are about the first run.
    `options` are those of `Agent.run`. Raises `RehearsalFailed`, or another `DidmpcError` where it did not
    begin. Whatever happens, no process and no file of it stays behind.
    """
    await _check(str(program), parties, {"arguments": list(arguments), **options})
    names = [f"party-{pid}" for pid in range(parties)]
    own_inputs = [*inputs, *([None] * parties)][:parties]
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        on_step(Step(f"Starting a mediator and {parties} agents."))
        folder, homes = await stack.enter_async_context(_nursery(names))
        agents = [await stack.enter_async_context(Agent.connect(home)) for home in homes]
        await _introduce(agents, names)
        on_step(Step(f"{parties} agents know each other, after {time.monotonic() - began:.1f} s."))

        async def compute(on_step: Callable[[Step], None]) -> tuple[Part, ...]:
            host, *guests = agents
            shared = ("no_sandbox", "memory", "time_limit")
            own: dict[str, Any] = {"wait": ALL_HERE_WITHIN, **{name: options.get(name) for name in shared}}
            computations = [
                host.run(program, with_=names[1:], arguments=arguments, input=own_inputs[0], **own | options),
                *(
                    guest.join(names[0], consent=True, input=each, no_privacy=True, **own)
                    for guest, each in zip(guests, own_inputs[1:], strict=True)
                ),
            ]
            taken = zip(names, computations, strict=True)
            parts = await _all_parts(
                [
                    asyncio.create_task(_take_part(pid, name, each, on_step))
                    for pid, (name, each) in enumerate(taken)
                ]
            )
            if not all(part.ok for part in parts):
                raise RehearsalFailed(parts)
            return parts

        parts = await compute(on_step)
        if once:
            return _report(parts, None)
        on_step(Step(f"Once more, with a round trip of {2 * DELAY} ms between the parties, to count rounds."))
        (folder / "delay").write_text(str(DELAY))
        return _report(parts, await compute(lambda step: None))


async def _check(program: str, parties: int, params: Mapping[str, Any]) -> None:
    """What is wrong whoever takes part is said before anything is started. Raises `DidmpcError`."""
    threshold = hosts.threshold_of(params, parties, parties)
    hosts.arguments_of(params)
    if program.startswith(repository.PREFIX):  # it is fetched once, by the one who proposes it
        repository.Place.parse(program)
        return
    found = await sources.find(program)
    hosts.check_runs(found.bundle, sources.stated(found, params), parties, threshold)


async def _introduce(agents: Sequence[Agent], names: Sequence[str]) -> None:
    host, *guests = agents
    if guests:
        invited = await host.invite(uses=len(guests))
        await asyncio.gather(*(guest.accept_invitation(invited.url, name=names[0]) for guest in guests))


async def _all_parts(tasks: "list[asyncio.Task[Part]]") -> tuple[Part, ...]:
    """Every part, once it has ended. Where one fails, the others are not waited for much longer."""
    waiting = set(tasks)
    try:
        while waiting and all(task.result().ok for task in tasks if task.done()):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        misused = any(isinstance(task.result().problem, LocalMisuse) for task in tasks if task.done())
        if waiting and not misused:  # it began, and all are told why it ended
            await asyncio.wait(waiting, timeout=ALL_TOLD_WITHIN)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tuple(task.result() for task in tasks if not task.cancelled())


async def _take_part(pid: int, name: str, computation: Computation, on_step: Callable[[Step], None]) -> Part:
    async with computation:
        threshold = 0
        async for event in computation:
            threshold = int(event.facts.get("threshold") or threshold)
            on_step(Step(pid=pid, event=event))
        problem: DidmpcError | None = None
        outcome: Outcome | None = None
        try:
            outcome = await computation
        except ComputationFailed as failure:
            outcome, problem = failure.outcome, failure
        except DidmpcError as failure:
            problem = failure
    stats = {**(outcome.stats if outcome else {}), "threshold": threshold}
    said = (outcome.output, outcome.errors) if outcome else ("", "")
    return Part(pid, name, problem is None, *said, stats, problem)


def _report(parts: tuple[Part, ...], far: tuple[Part, ...] | None) -> Report:
    seconds = _seconds(parts)
    rounds = None if far is None else rounds_of(seconds, _seconds(far), DELAY / 1000)
    total = {
        key: sum(int(part.stats[key]) for part in parts)
        for key in ("messages", "bytes", "packets", "sealed_bytes")
    }
    return Report(
        parts=parts,
        threshold=int(parts[0].stats["threshold"]),
        seconds=seconds,
        rounds=rounds,
        **total,
        forecasts=() if rounds is None else forecast(seconds, rounds, ROUND_TRIPS),
    )


def _seconds(parts: tuple[Part, ...]) -> float:
    return max(float(part.stats["first_to_last_round"] or 0) for part in parts)


# --- the processes


@contextlib.asynccontextmanager
async def _nursery(names: Sequence[str]) -> AsyncIterator[tuple[Path, list[Path]]]:
    """A folder, and the homes of running agents in it. Processes and folder end with the context."""
    folder = Path(tempfile.mkdtemp(prefix="didmpc-rehearsal-"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "didmpc.agent.rehearsal.nursery"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us, who end it in order
        env=_environment(folder),
    )
    try:
        yield folder, await _ready(process, folder, names)
    finally:
        await asyncio.shield(_end(process, folder))


async def _ready(process: asyncio.subprocess.Process, folder: Path, names: Sequence[str]) -> list[Path]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps({"folder": str(folder), "names": list(names)}).encode() + b"\n")
    line = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_WITHIN):
            line = await process.stdout.readline()
    said = json.loads(line) if line.endswith(b"\n") else {}
    if "ready" not in said:
        failed = said.get("failed", {})
        raise DidmpcError(
            str(failed.get("what") or "The agents of the rehearsal did not start."),
            why=str(failed.get("why") or ""),
            fix=str(failed.get("fix") or "didmpc doctor"),
        )
    return [Path(home) for home in said["ready"]]


async def _end(process: asyncio.subprocess.Process, folder: Path) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the person's own agent or MPyC gets in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DIDMPC_", "MPYC_"))}
    return kept | {
        "DIDMPC_HOME": str(folder / "none"),
        REHEARSAL: str(folder),
        "PYTHON_KEYRING_BACKEND": NO_KEYRING,
    }
