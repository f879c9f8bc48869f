"""The mailbox as a path: the daemon sends each packet as an envelope, and hands on those that come.

It is slow, stores packets on their way, may reorder and double them; any mediator can be part of it.
"""

from collections.abc import Callable

from didmpc.agent.channel.paths.path import LinkEnd
from didmpc.protocols.session.handshake import WIRE_JSON


class MailboxPath:
    """Our end of it, for one peer. `send` hands a packet to the daemon, `room` says how much it takes now."""

    wire = WIRE_JSON
    stored = True

    def __init__(self, end: LinkEnd, *, send: Callable[[bytes], None], room: Callable[[], int]) -> None:
        self._end = end
        self._room = room
        self.write = send

    @property
    def budget(self) -> int:
        return max(0, self._room())

    def up(self) -> None:
        """From now on packets may be written."""
        self._end.path_up(self)

    def down(self, reason: str) -> None:
        """The daemon is gone."""
        self._end.path_down(self, reason)

    def flush(self) -> None:
        """Each packet is on its way at once."""

    def take(self, packet: bytes) -> None:
        """A packet has come."""
        self._end.packet_received(packet)
