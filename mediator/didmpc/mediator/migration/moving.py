"""A migration from beginning to end.

What is moved is written to as long as possible: passes copy it while its mediator runs, until little changes
from one to the next. Then the mediator is told to write nothing for a while (it refuses mail with 503, and
senders try again), the last pass is made, both sides are compared, and the old store is left for good before
the new one may be used. Killed in between it goes on by being started again: until the old store was left,
the mediator writes again by itself, and afterwards no mediator writes to it any more.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from didmpc.mediator.migration.copying import Progress, Tally, copy_all
from didmpc.mediator.migration.side import COPYING, DONE, LEFT, Note, Side
from didmpc.mediator.migration.verifying import Verdict, compare
from didmpc.protocols.errors import DidmpcError, LocalMisuse

FEW = 500
"""Changes from one pass to the next with which the last one is short."""
MOST_PASSES = 8


class Owner(Protocol):
    """Whoever may write to the source: a mediator that runs, or nobody."""

    @property
    def is_still(self) -> bool:
        """Whether nobody writes to it."""

    def still(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Nobody writes within the block. Raises `DidmpcError` at its end where that did not hold."""

    async def leave(self, target: str) -> None:
        """Nobody ever writes to it again. Durable when it returns.

        Raises `DidmpcError` where it was written to since `still` began.
        """


class NotEqual(DidmpcError):
    """What was copied is not what was there."""

    def __init__(self, verdict: Verdict) -> None:
        found = [f"{name} differs" for name in verdict.different]
        found += [f"mailbox {number} differs" for number in verdict.different_mailboxes]
        found += [f"{verdict.damaged} messages are damaged"] if verdict.damaged else []
        found += [f"ids of {name} could come back" for name in verdict.behind]
        super().__init__(
            "What was copied is not what was there.",
            why=f"{'; '.join(found)}.",
            fix="The old store is as it was, and stays in use. Give the same command again; should it stay"
            " so, look at the disks, and report it.",
        )
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class Moved:
    """What was done."""

    passes: tuple[Tally, ...]
    verdict: Verdict
    still_seconds: float
    """For so long the mediator wrote nothing (0: none ran)."""


@dataclass(frozen=True, slots=True)
class Told:
    """Who hears how it goes on."""

    say: Callable[[str], None] = lambda text: None
    progress: Progress = lambda *_: None


def check_source(name: str, note: Note | None) -> None:
    """Raises `LocalMisuse` for a source that is only half of one."""
    if note is not None and note.state == COPYING:
        raise LocalMisuse(
            f"{name} holds half of a migration.", fix="Finish it first: give the command that began it again."
        )


async def check_target(target: Side, source: str, *, empty: bool) -> None:
    """Raises `LocalMisuse` for a target that has what another did, or is in use."""
    note = await target.note()
    if note is not None and note.state == DONE:
        raise LocalMisuse(
            f"{target.name} was migrated to before.",
            why="That migration is finished, and mediators may have written to it since.",
            fix="Start them:  didmpc mediator start   (or name an empty one)",
        )
    if note is not None and note.state == LEFT:
        raise LocalMisuse(
            f"{target.name} was left: what it holds has been moved to elsewhere.",
            fix="Name an empty store.",
        )
    if note is not None and note.source != source:
        raise LocalMisuse(
            f"{target.name} holds half of another migration.",
            why="It was begun from another mediator.",
            fix="Finish that one first, or name an empty one.",
        )
    if note is None and not empty:
        raise LocalMisuse(
            f"{target.name} is not empty.",
            why="What it holds would be mixed up with what comes.",
            fix="Name an empty one.",
        )


async def move(source: Side, target: Side, owner: Owner, who: str, told: Told) -> Moved:
    """`check_target` has been asked."""
    loop = asyncio.get_running_loop()
    await target.set_note(Note(who, COPYING))
    passes: list[Tally] = []
    while not owner.is_still and len(passes) < MOST_PASSES:
        told.say(f"pass {len(passes) + 1}: the mediator runs on meanwhile")
        passes.append(await copy_all(source, target, told.progress))
        if passes[-1].changes <= FEW:
            break
    began = loop.time()
    ran = not owner.is_still
    if ran:
        told.say("last pass: the mediator takes in nothing meanwhile")
    else:
        told.say("one pass: no mediator runs on it" if not passes else "last pass")
    async with owner.still():
        passes.append(await copy_all(source, target, told.progress))
        told.say("comparing both")
        verdict = await compare(source, target)
        if not verdict.equal:
            raise NotEqual(verdict)
        # In this order: a store that is in use by nobody is better than two that are.
        await owner.leave(target.name)
    await target.set_note(Note(who, DONE))
    return Moved(tuple(passes), verdict, loop.time() - began if ran else 0.0)


@contextlib.asynccontextmanager
async def kept_up(renew: Callable[[], None], every: float) -> AsyncIterator[None]:
    """Call `renew` in a thread from time to time. Its error is raised at the end of the block."""
    failed: list[BaseException] = []

    async def again() -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await asyncio.to_thread(renew)
            except DidmpcError as problem:
                failed.append(problem)
                return

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if failed:
        raise failed[0]
