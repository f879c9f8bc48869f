"""What a protocol handler gets, and what it gives back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from didmpc.mediator.refusals import Anonymous
from didmpc.protocols.did import DIDDocument, Resolve, did_of
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.message import Message
from didmpc.protocols.session.handshake import Established


class Connection(Protocol):
    """A WebSocket, as far as protocols care."""

    def wants(self, thread: str) -> bool:
        """Whether return_route, said once, covers replies in this thread."""

    def set_route(self, message: Message, mediator: str | None) -> None:
        """Take note of a message's return_route, and which of our DIDs its sender, where known, speaks to."""

    async def send(self, message: Message, to: str) -> None:
        """Send what nobody asked for, to a DID in the form it was written. Raises ConnectionError."""

    def start_hop(self, established: Established) -> None:
        """From now on binary messages on it are hop packets."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message that was opened and checked."""

    unpacked: Unpacked
    envelope: bytes
    connection: Connection | None
    """None over HTTP."""
    address: str
    now: float
    resolve: Resolve
    depth: int = 0
    """In how many forwards for ourselves it was wrapped."""

    @property
    def message(self) -> Message:
        return self.unpacked.message

    @property
    def sender(self) -> str:
        """The DID that authcrypt has proven. Raises `Anonymous`."""
        if self.unpacked.sender is None:
            raise Anonymous
        return self.unpacked.sender

    @property
    def addressed(self) -> str | None:
        """The DID of ours that it was encrypted for."""
        kid = self.unpacked.recipient_kid
        return did_of(kid) if kid is not None else None

    @property
    def document(self) -> DIDDocument:
        """The DID document of the sender. Raises `Anonymous`."""
        return self.resolve(self.sender)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The reply, where there is one, and what is to be done once it was sent."""

    reply: Message | None = None
    then: Callable[[], None] | None = None
    unasked: bool = False
    """Whether the reply goes out on a WebSocket without a return_route too."""
    inside: tuple[bytes, ...] = ()
    """Envelopes for ourselves that the message carried."""


Handler = Callable[[Request], Awaitable[Outcome]]
Check = Callable[[Request], Awaitable[None]]
"""What every message goes through before its handler. Raises `RemoteViolation` to refuse it."""
