"""What a store is given and gives back."""

from dataclasses import dataclass
from typing import Literal

Admission = Literal["open", "invitation", "allow-list"]
"""Whom a new account is given: anyone, whoever has a ticket, or whom the operator has allowed."""

EXPIRY_BATCH = 500
"""How much is deleted at once of what is over."""

TICKET_BYTES = 16

STALE_SECONDS = 300.0
"""By which the clock of whoever stated something may be behind ours."""


# --- mail


@dataclass(frozen=True, slots=True)
class Mail:
    """One envelope in a mailbox, exactly as it was forwarded."""

    seq: int
    body: bytes
    mailbox: int
    expires: float
    is_packet: bool = False
    """Of a session (docs/session-extension.md, section 6); else it is mail."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where mail was put, and what of it is new: the id and the size of each."""

    account: str
    mail: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Mail to be delivered, and whether that is all there is."""

    mail: tuple[Mail, ...]
    is_all: bool


@dataclass(frozen=True, slots=True)
class Room:
    """Messages and bytes."""

    messages: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Queue:
    """How much waits, and when the oldest and the newest of it came."""

    count: int
    bytes: int
    oldest: float | None
    newest: float | None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One envelope, packed for its next hop."""

    uri: str
    host: str
    """The destination, as far as it is one server: what counts for bounds and retries."""
    body: bytes
    digest: bytes
    """Stands for what is sent to whom, however it was wrapped: the same again is no second parcel."""
    id: int = 0
    tries: int = 0


# --- relay channels


@dataclass(frozen=True, slots=True)
class ChannelEnd:
    """The end of a channel that a capability stands for."""

    channel: int
    side: int
    expires: float
    rebind_key: bytes
    account: int
    """Of whom the channel is."""
    rate: int = 0
    """Bytes per second and direction; 0: no limit of its own."""


# --- what the operator sees


@dataclass(frozen=True, slots=True)
class Description:
    """Which store it is."""

    kind: str
    url: str = ""
    """Without its password; empty: it is in the home."""
    standbys: str = ""
    """For which ones commits wait."""
    warnings: tuple[str, ...] = ()
    """To be told loudly."""


@dataclass(frozen=True, slots=True)
class OperatorMessage:
    """Words of a stranger: to be shown with care."""

    id: int
    at: float
    did: str
    """Who wrote it, proven by its envelope."""
    text: str


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account, as its operator sees it."""

    number: int
    did: str
    created: float
    keys: int
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the whole store."""

    accounts: int
    keys: int
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Evicted:
    """What an account took with it."""

    did: str
    messages: int
    channels: tuple[int, ...]
