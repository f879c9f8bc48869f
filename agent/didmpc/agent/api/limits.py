"""How much a session holds, and how long it waits."""

from dataclasses import dataclass

from didmpc.agent.channel.limits import KIB, MIB
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.session.frames import MAX_RECORD_DATA
from didmpc.protocols.session.link import LinkLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Bytes and seconds of one session. Both sides may have other ones."""

    message: int = 16 * MIB
    """The longest message, sent or received. A longer one that comes ends the session."""
    unsent: int = 4 * MIB
    """What may be sent and not acknowledged: `send` waits beyond it."""
    unread: int = 4 * MIB
    """What may have come and not been read; the peer's `send` waits beyond it."""
    unreachable: float = 120.0
    """Silence of the peer after which the session is lost."""
    leave: float = 5.0
    """How long `close` waits for the peer to close as well, once it has everything."""
    renew: float = 3600.0
    """Age at which a session gets fresh keys, where this side opened it."""

    def __post_init__(self) -> None:
        least = 2 * MAX_RECORD_DATA
        if min(self.unsent, self.unread) < least or self.message < 1:
            raise LocalMisuse(f"`unsent` and `unread` are at least {least} bytes, `message` at least 1.")
        if min(self.unreachable, self.leave, self.renew) <= 0:
            raise LocalMisuse("The times of a session are longer than 0 seconds.")

    @property
    def link(self) -> LinkLimits:
        return LinkLimits(queue_bytes=self.unsent + 4 * MIB, renew_seconds=self.renew)


__all__ = ["KIB", "MIB", "SessionLimits"]
