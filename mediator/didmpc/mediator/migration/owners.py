"""Who may write to the store that is moved."""

import contextlib
from collections.abc import AsyncIterator, Callable

from didmpc.mediator.host import left
from didmpc.mediator.host.home import Home
from didmpc.mediator.migration.moving import kept_up
from didmpc.mediator.migration.postgres import PostgresSide
from didmpc.mediator.migration.side import DONE, LEFT, Note
from didmpc.mediator.operator.control import Json, call
from didmpc.protocols.errors import DidmpcError, LocalMisuse

HOLD_SECONDS = 30.0
"""A mediator writes again after so long without a word from the migration."""
RENEW_SECONDS = 5.0


class HomeOwner:
    """The mediator of a home, or nobody. Use as a context manager, while which no other one is started."""

    def __init__(self, home: Home, *, ask: Callable[..., Json | None] = call) -> None:
        self._home = home
        self._ask = ask
        self._stack = contextlib.ExitStack()
        self._locked = False
        self._hold: int | None = None

    def __enter__(self) -> "HomeOwner":
        try:
            self._lock()
        except LocalMisuse:
            if self._ask(self._home.root, "status") is None:
                raise  # it is no mediator that holds the lock
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_still(self) -> bool:
        return self._locked

    @contextlib.asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        if self._locked:
            yield
            return
        self._hold = self._renewed()
        if self._hold is None:  # it was stopped meanwhile
            self._lock()
            yield
            return
        try:
            async with kept_up(self._renew, RENEW_SECONDS):
                yield
        except BaseException:
            with contextlib.suppress(DidmpcError):
                self._ask(self._home.root, "release")
            raise

    async def leave(self, target: str) -> None:
        if self._locked:
            left.leave(self._home.root, target)
        elif self._ask(self._home.root, "leave", {"hold": self._hold, "target": target}) is None:
            raise _wrote_again()

    def _lock(self) -> None:
        self._stack.enter_context(self._home.locked())
        self._locked = True

    def _renew(self) -> None:
        if left.left_for(self._home.root) is None and self._renewed() != self._hold:
            raise _wrote_again()

    def _renewed(self) -> int | None:
        answer = self._ask(self._home.root, "hold", {"seconds": int(HOLD_SECONDS)})
        return None if answer is None else int(answer["hold"])


class NodesOwner:
    """The nodes of a database, which must be stopped: there is nobody to ask all of them to keep still."""

    def __init__(self, database: PostgresSide, who: str) -> None:
        self._database = database
        self._who = who
        self._left = False

    @property
    def is_still(self) -> bool:
        return True

    @contextlib.asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """From the beginning no node can be started, unless it comes to no end."""
        await self._database.set_note(Note(self._who, LEFT))
        try:
            await self.check()
            yield
        except BaseException:
            if not self._left:
                await self._database.set_note(Note(self._who, DONE))
            raise

    async def check(self) -> None:
        """Raises `LocalMisuse` where nodes run."""
        running = await self._database.nodes()
        if running:
            raise LocalMisuse(
                f"Nodes run on {self._database.name}: {', '.join(running[:3])}.",
                fix="Stop all of them, wait half a minute, and give the same command again.",
            )

    async def leave(self, target: str) -> None:
        await self.check()
        self._left = True


def _wrote_again() -> DidmpcError:
    return DidmpcError(
        "The mediator did not keep still until everything was compared.",
        why="It was restarted, or could not be asked for half a minute.",
        fix="Give the same command again: what was copied stays, and only what has changed is copied.",
    )
