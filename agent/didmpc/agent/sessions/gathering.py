"""What host and guest share while people gather: the channel process, a session DID, and how to stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from didmpc.agent.contacts.contacts import Contacts
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.sessions.attempt import Attempt
from didmpc.agent.sessions.causes import cause_of, of_system, refused_by_system
from didmpc.agent.sessions.channel_process import ChannelProcess
from didmpc.agent.sessions.confinement import Confinement
from didmpc.agent.sessions.history import History
from didmpc.agent.sessions.inbox import Inbox
from didmpc.agent.sessions.kept_programs import KeptPrograms
from didmpc.agent.sessions.programs import Programs
from didmpc.agent.sessions.receipts import ReceiptBook
from didmpc.agent.sessions.seat import Seat
from didmpc.agent.sessions.trust import Trust
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identity


class Stream(Protocol):
    """The person's end: a connection of the control socket."""

    async def event(self, event: Mapping[str, Any]) -> None:
        """Show something."""

    async def answer(self) -> Mapping[str, Any]:
        """Wait for the person's answer."""


def socket_of(home: Path, attempt: str) -> Path:
    """Where a terminal attaches to the channel process of an attempt."""
    return home / "run" / f"{attempt[:12]}.sock"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every attempt of this agent works with."""

    mailbox: Mailbox
    contacts: Contacts
    history: History
    home: Path
    label: str
    confinement: Confinement
    programs: Programs
    kept: KeptPrograms
    trust: Trust
    receipts: ReceiptBook

    def work(self, attempt: str) -> Path:
        """The working copy of an attempt. Its name came from a peer: it must not lead anywhere else."""
        folder = self.home / "work"
        directory = folder / attempt
        if directory.parent != folder or attempt in ("", ".", ".."):
            raise DidmpcError("The name of an attempt is no file name.")
        return directory


@dataclass(slots=True)
class Gathering:
    """One attempt before its manifest: a waiting channel process and a fresh session DID."""

    workshop: Workshop
    attempt: str
    inbox: Inbox
    channel: ChannelProcess
    identity: Identity
    handed_over: bool = False
    seat: Seat | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, workshop: Workshop, attempt: str, inbox: Inbox, stream: Stream
    ) -> AsyncIterator["Gathering"]:
        """Start the channel process and make the DID; undo both unless the attempt was handed over."""
        ui_socket = socket_of(workshop.home, attempt)
        ui_socket.parent.mkdir(mode=0o700, exist_ok=True)
        channel = await ChannelProcess.start(attempt, ui_socket, workshop.home / "channel.log")
        identity: Identity | None = None
        gathering: Gathering | None = None
        try:
            await stream.event({"event": "channel", "socket": str(channel.ui_socket)})
            identity = await workshop.mailbox.new_identity(keep=False)
            gathering = cls(workshop, attempt, inbox, channel, identity)
            yield gathering
        finally:
            if gathering is None or not gathering.handed_over:
                await asyncio.shield(_undo(workshop, channel, identity))

    async def run(self, seat: Seat, stream: Stream, facts: Mapping[str, Any]) -> "asyncio.Task[None]":
        """Connect with all parties and hand the session over; returns the task that watches it.

        Raises `DidmpcError` after the others were told, as it does when the person stops it.
        """
        workshop, self.seat = self.workshop, seat
        attempt = Attempt(
            seat,
            workshop.mailbox,
            workshop.contacts,
            self.channel,
            self.inbox,
            workshop.history,
            workshop.receipts,
        )
        workshop.history.begin(self.attempt, {**facts, **seat.facts()})
        keeping = asyncio.create_task(workshop.kept.keep(seat.bundle, workshop.history.programs))
        try:
            await attempt.connect(stream.event)
            await keeping
        except BaseException as error:
            cause = cause_of(error, self.workshop.label)
            self.workshop.history.end(self.attempt, ok=False, cause=cause["what"], stats=None)
            await asyncio.shield(attempt.give_up(cause))
            if (refused := refused_by_system(error)) is not None:
                raise of_system(refused, self.workshop.home) from error
            raise
        self.handed_over = True
        return attempt.watch()

    async def forget_identity(self) -> None:
        """Unregister the session DID; after the session has ended."""
        with contextlib.suppress(DidmpcError):
            await self.workshop.mailbox.drop_identity(self.identity.did)


async def _undo(workshop: Workshop, channel: ChannelProcess, identity: Identity | None) -> None:
    await channel.stop()
    if identity is not None:
        with contextlib.suppress(DidmpcError):
            await workshop.mailbox.drop_identity(identity.did)
