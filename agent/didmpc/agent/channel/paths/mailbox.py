"""The mailbox as a path: the daemon sends each packet as an envelope, and hands on those that come.

It is slow, stores packets on their way, may reorder and double them; any mediator can be part of it.
"""

from collections.abc import Callable

from didmpc.agent.channel.lines import Line
from didmpc.agent.channel.paths.path import LinkEnd
from didmpc.protocols.encoding import b64url
from didmpc.protocols.session.handshake import WIRE_JSON

_UNBOUNDED = 1 << 40


class MailboxPath:
    """Our end of it, for one peer. A packet that the daemon has no room for is lost, as others may be."""

    wire = WIRE_JSON
    stored = True
    budget = _UNBOUNDED

    def __init__(
        self, pid: int, end: LinkEnd, *, send_line: Callable[[Line], None], has_room: Callable[[], bool]
    ) -> None:
        self._pid = pid
        self._end = end
        self._send_line = send_line
        self._has_room = has_room

    def up(self) -> None:
        """From now on packets may be written."""
        self._end.path_up(self)

    def down(self, reason: str) -> None:
        """The daemon is gone."""
        self._end.path_down(self, reason)

    def write(self, packet: bytes) -> None:
        if self._has_room():
            self._send_line({"packet": {"pid": self._pid, "data": b64url(packet)}})

    def flush(self) -> None:
        """Each packet is on its way at once."""

    def take(self, packet: bytes) -> None:
        """A packet has come."""
        self._end.packet_received(packet)
