"""Every bound of the mediator in one place; `docs/hosting.md` shows them to whoever hosts one.

Whatever a peer controls has its number here: size, count, time, rate.
"""

from collections import OrderedDict
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per second, after a burst of so many."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults are for one small machine."""

    # One message
    message_bytes: int = 1 * MIB
    """Largest HTTP body, and largest message on a WebSocket."""
    forward_bytes: int = 1 * MIB
    """Largest envelope that is kept in a mailbox."""

    # Connections
    header_seconds: float = 10.0
    """For the first request after connecting."""
    body_seconds: float = 30.0
    idle_seconds: float = 75.0
    """How long an unused HTTP connection is kept."""
    heartbeat_seconds: float = 20.0
    """Between WebSocket pings; no pong within half of it ends the connection."""
    write_seconds: float = 60.0
    """For one write to a WebSocket that nobody reads; then it is closed."""
    connections: int = 10_000
    connections_per_address: int = 1_000
    handled_at_once: int = 64
    """Messages that are being answered at the same time."""
    faults_per_socket: int = 32
    """Refused messages after which a WebSocket is closed."""
    requests: Rate = Rate(1_000, 5_000)
    """DIDComm messages per address."""

    # Accounts and mailboxes
    enrolments: Rate = Rate(1, 300)
    """New accounts per address."""
    accounts: int = 100_000
    keys_per_account: int = 1_000
    mailbox_messages: int = 10_000
    mailbox_bytes: int = 64 * MIB
    """Per registered DID."""
    account_bytes: int = 256 * MIB
    """In all mailboxes of an account."""
    mail_seconds: float = 7 * 24 * 3600.0
    replay_seconds: float = 30 * 24 * 3600.0
    """So long it is remembered which envelopes changed an account; older messages are refused."""
    links_per_account: int = 512
    """Short links to invitations."""
    link_seconds: float = 366 * 24 * 3600.0
    free_disk_bytes: int = 64 * MIB
    """With less free space nothing more is taken in: deleting needs some too."""
    free_disk_for_mail_bytes: int = 256 * MIB
    """Mail stops earlier: it is what fills disks, and accounts and channels shall go on."""

    # Delivery
    delivery_messages: int = 50
    delivery_bytes: int = 1 * MIB
    """Per delivery; one larger message goes alone."""
    live_messages: int = 100
    """Pushed and not acknowledged, per socket and account."""
    live_bytes: int = 4 * MIB

    # Relay
    channels_per_account: int = 4_096
    channel_seconds: float = 7 * 24 * 3600.0
    channels_per_leg: int = 256
    legs: int = 2_000
    legs_per_address: int = 256
    leg_unbound_seconds: float = 30.0
    """Until the first channel is bound on a new leg; then it is closed."""
    credit_bytes: int = 4 * MIB
    """Per channel and direction."""
    relay_memory_bytes: int = 1024 * MIB
    """Set aside for channels with both ends bound; when it is spent no more ends meet."""
    relay_account_bytes: int = 128 * MIB
    """Of that, for the channels of one account: enough for about 48."""
    leg_control_frames: int = 1_024
    """Waiting for a leg that does not read; then it is closed."""
    hop_opens: Rate = Rate(10, 200)
    """Handshakes of hop sessions per address: each costs us asymmetric work."""
    hop_opens_in_all: Rate = Rate(200, 1_000)
    hop_open_seconds: float = 600.0
    """Longest lifetime of an `open`; so long its repetition is refused."""


class Buckets:
    """A token bucket per key (an address), for a bounded number of keys."""

    def __init__(self, rate: Rate, keys: int = 10_000) -> None:
        self._rate = rate
        self._keys = keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> bool:
        """Whether one more is within the rate; if so it is counted."""
        level, since = self._buckets.pop(key, (self._rate.burst, now))
        level = min(self._rate.burst, level + max(0.0, now - since) * self._rate.per_second)
        allowed = level >= 1
        self._buckets[key] = (level - 1 if allowed else level, now)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return allowed
