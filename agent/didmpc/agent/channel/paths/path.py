"""The seam between a link and what carries its packets.

A path may come, go and come back at any time: a link loses and doubles nothing by it. A relay channel
is one kind of path, the mailbox another; a direct connection would be a third.
"""

from typing import Protocol


class Path(Protocol):
    """Something that carries packets to one peer, while it is up."""

    @property
    def wire(self) -> str:
        """The form of the packets that it carries."""

    @property
    def stored(self) -> bool:
        """Whether packets are stored on their way: then each is slow, and pays."""

    @property
    def budget(self) -> int:
        """How many bytes may be written now; 0 means: wait for `LinkEnd.path_writable`."""

    def write(self, packet: bytes) -> None:
        """Hand over one packet. It leaves no later than at `flush`, or when there is credit for it."""

    def flush(self) -> None:
        """Put what was handed over on its way."""


class LinkEnd(Protocol):
    """Our end of a link, as its paths see it."""

    def path_up(self, path: Path) -> None:
        """The path is new, or was reset: what was on its way may be lost."""

    def path_down(self, path: Path, reason: str) -> None:
        """The path carries nothing any more, until it is up again."""

    def path_writable(self) -> None:
        """There is budget again."""

    def packet_received(self, packet: bytes | memoryview) -> None:
        """One packet from the peer."""
