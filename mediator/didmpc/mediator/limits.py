"""Every bound of the mediator in one place; `docs/hosting.md` shows them to whoever hosts one.

Whatever a peer controls has its number here: size, count, time, rate. Each says what it bounds; what it
says becomes the table of the guide and of `didmpc mediator config`.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
DAY = 24 * 3600.0

UNLIMITED = 1 << 60
"""A size or count that nothing reaches, and that SQLite can still add to."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per second, after a burst of so many."""

    per_second: float
    burst: float


UNLIMITED_RATE = Rate(1e12, 1e12)


class Kind(Enum):
    """What the number of a limit counts, and between which bounds it makes sense."""

    BYTES = "bytes"
    COUNT = "count"
    SECONDS = "seconds"
    RATE = "rate"


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the table."""

    name: str
    kind: Kind
    group: str
    what: str
    is_quota: bool
    """Whether `--limits off` lifts it. Bounds on memory, time and single messages stay."""
    default: Any
    least: float = 1
    most: float = UNLIMITED

    @property
    def key(self) -> str:
        """As it is written in settings."""
        return self.name.replace("_", "-")


def _limit(
    kind: Kind, group: str, default: Any, what: str, quota: bool, least: float = 1, most: float = UNLIMITED
) -> Any:
    about = {"kind": kind, "group": group, "what": what, "quota": quota, "least": least, "most": most}
    return field(default=default, metadata=about)


def size(
    group: str, default: int, what: str, *, quota: bool = False, least: int = 1, most: int = UNLIMITED
) -> Any:
    """A number of bytes."""
    return _limit(Kind.BYTES, group, default, what, quota, least, most)


def count(group: str, default: int, what: str, *, quota: bool = False) -> Any:
    """How many of something."""
    return _limit(Kind.COUNT, group, default, what, quota)


def seconds(group: str, default: float, what: str, *, least: float = 0.01) -> Any:
    """A time, never lifted."""
    return _limit(Kind.SECONDS, group, default, what, False, least)


def rate(group: str, per_second: float, burst: float, what: str) -> Any:
    """How often; always lifted by `--limits off`."""
    return _limit(Kind.RATE, group, Rate(per_second, burst), what, True)


MESSAGE, CONNECTION, RATES = "One message", "Connections", "Rates"
ACCOUNT, MAIL, DELIVERY, RELAY, DISK = "Accounts", "Mail", "Delivery", "Relay", "Disk"
OUTGOING = "Outgoing connections"


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults are for one small machine. A new limit is one line here, in the words of its table row."""

    message_bytes: int = size(
        MESSAGE,
        1 * MIB,
        "HTTP body or WebSocket message; larger: 413, or close 1009",
        least=16 * KIB,
        most=64 * MIB,
    )
    forward_bytes: int = size(
        MESSAGE, 1 * MIB, "envelope that is kept in a mailbox; larger: 413", least=KIB, most=64 * MIB
    )

    header_seconds: float = seconds(
        CONNECTION, 10.0, "from connecting to the end of the first request's headers"
    )
    body_seconds: float = seconds(CONNECTION, 30.0, "for the body of a request; slower: 408")
    idle_seconds: float = seconds(CONNECTION, 75.0, "that an unused HTTP connection is kept")
    heartbeat_seconds: float = seconds(
        CONNECTION, 20.0, "between WebSocket pings; no pong within half of it ends the connection"
    )
    write_seconds: float = seconds(
        CONNECTION, 60.0, "for an answer, or for one write to a WebSocket, that nobody reads"
    )
    connections: int = count(CONNECTION, 10_000, "connections; more are closed at once", quota=True)
    connections_per_address: int = count(
        CONNECTION, 1_000, "connections of one address, and WebSockets of one address: 429", quota=True
    )
    handled_at_once: int = count(CONNECTION, 64, "messages that are answered at the same time")
    faults_per_socket: int = count(CONNECTION, 32, "refused messages after which a WebSocket is closed")

    requests: Rate = rate(RATES, 1_000, 5_000, "messages from one address: 429 with Retry-After")  # noqa: RUF009
    requests_per_did: Rate = rate(RATES, 500, 5_000, "messages from one DID: 429 with Retry-After")  # noqa: RUF009
    enrolments: Rate = rate(RATES, 1, 300, "new accounts from one address: 429 with Retry-After")  # noqa: RUF009
    operator_message_rate: Rate = rate(  # noqa: RUF009
        RATES, 0.05, 20, "messages to the operator from one address: 429 with Retry-After"
    )
    hop_opens: Rate = rate(RATES, 10, 200, "handshakes of relay connections from one address")  # noqa: RUF009
    hop_opens_in_all: Rate = rate(RATES, 200, 1_000, "handshakes of relay connections")  # noqa: RUF009

    accounts: int = count(ACCOUNT, 100_000, "accounts", quota=True)
    keys_per_account: int = count(ACCOUNT, 1_000, "DIDs that one account registers", quota=True)
    links_per_account: int = count(ACCOUNT, 512, "short links of one account", quota=True)
    link_seconds: float = seconds(ACCOUNT, 366 * DAY, "that a short link lasts")
    acts_per_account: int = count(
        ACCOUNT,
        1_000_000,
        "requests that changed an account, and are remembered",
        quota=True,
    )
    undated_per_account: int = count(
        ACCOUNT,
        250_000,
        "of these, without created_time: they are remembered for good",
        quota=True,
    )
    operator_messages: int = count(
        ACCOUNT, 1_000, "messages to the operator that wait to be read: e.p.me.res.quota", quota=True
    )
    operator_messages_per_did: int = count(ACCOUNT, 20, "of these, from one DID", quota=True)
    operator_message_bytes: int = size(ACCOUNT, 4 * KIB, "message to the operator; larger: e.p.msg.bad-body")
    replay_seconds: float = seconds(
        ACCOUNT, 30 * DAY, "that is remembered which envelopes changed an account; older ones are refused"
    )

    mailbox_messages: int = count(MAIL, 10_000, "messages in a mailbox (one registered DID): 429", quota=True)
    mailbox_bytes: int = size(MAIL, 64 * MIB, "in a mailbox: 429", quota=True)
    account_bytes: int = size(MAIL, 256 * MIB, "in all mailboxes of an account: 429", quota=True)
    awaiting_messages: int = count(
        MAIL, 1_000, "handed out and not acknowledged that a mailbox may hold beyond these limits"
    )
    awaiting_bytes: int = size(MAIL, 16 * MIB, "handed out and not acknowledged, likewise")
    pair_messages: int = count(
        MAIL, 5_000, "of one sender (its DID, else its address) waiting for one DID: 429", quota=True
    )
    pair_bytes: int = size(MAIL, 32 * MIB, "of one sender waiting for one DID: 429", quota=True)
    session_messages: int = count(
        MAIL, 10_000, "packets of sessions in a mailbox, beside the mail: 429", quota=True
    )
    session_bytes: int = size(MAIL, 64 * MIB, "of packets of sessions in a mailbox: 429", quota=True)
    account_session_bytes: int = size(
        MAIL, 128 * MIB, "of packets of sessions in all mailboxes of an account: 429", quota=True
    )
    session_seconds: float = seconds(MAIL, 15 * 60.0, "that a packet of a session is kept; then it is over")
    tracked_messages: int = count(
        MAIL, 100_000, "the latest, that the limits on senders and on handed out mail know of (in memory)"
    )
    mail_seconds: float = seconds(MAIL, 7 * DAY, "that mail is kept")
    acknowledged_seconds: float = seconds(
        MAIL, 3600.0, "that an acknowledged message is known, so that it is not taken in again"
    )

    delivery_messages: int = count(DELIVERY, 50, "messages in one delivery")
    delivery_bytes: int = size(DELIVERY, 1 * MIB, "in one delivery; a larger message goes alone")
    live_messages: int = count(DELIVERY, 100, "messages pushed and not acknowledged, per socket and account")
    live_bytes: int = size(DELIVERY, 4 * MIB, "pushed and not acknowledged, per socket and account")

    lease_seconds: float = seconds(
        DELIVERY, 120.0, "that a pushed message is kept for its socket; then others may have it too"
    )

    channels_per_account: int = count(RELAY, 4_096, "channels of one account", quota=True)
    channel_seconds: float = seconds(RELAY, 7 * DAY, "that a channel lasts")
    channel_rate: int = size(
        RELAY,
        UNLIMITED,
        "per second and direction of one channel; a faster one is slowed down",
        quota=True,
        least=KIB,
    )
    channels_per_leg: int = count(RELAY, 256, "channels bound on one relay connection")
    legs: int = count(RELAY, 2_000, "relay connections", quota=True)
    legs_per_address: int = count(RELAY, 256, "relay connections of one address", quota=True)
    leg_unbound_seconds: float = seconds(RELAY, 30.0, "until a new relay connection binds its first channel")
    leg_control_frames: int = count(
        RELAY, 1_024, "frames waiting for a relay connection that does not read; then it is closed"
    )
    credit_bytes: int = size(
        RELAY, 4 * MIB, "on their way per channel and direction, less when memory is short"
    )
    relay_memory_bytes: int = size(RELAY, 1 * GIB, "set aside for channels with both ends bound")
    relay_account_bytes: int = size(RELAY, 128 * MIB, "of that for the channels of one account (about 48)")
    hop_open_seconds: float = seconds(RELAY, 600.0, "that a handshake is valid; its repetition is refused")

    onwards: Rate = rate(OUTGOING, 20, 400, "forwards of one address to elsewhere: 429")  # noqa: RUF009
    replies_per_address: Rate = rate(  # noqa: RUF009
        OUTGOING, 5, 100, "replies to services that one address causes; more are dropped"
    )
    replies_per_did: Rate = rate(OUTGOING, 1, 30, "replies to one DID's service; more are dropped")  # noqa: RUF009
    outgoing_per_host: Rate = rate(OUTGOING, 50, 500, "new messages to one host: 503")  # noqa: RUF009
    outgoing_messages: int = count(OUTGOING, 10_000, "messages on their way to elsewhere: 503", quota=True)
    outgoing_bytes: int = size(OUTGOING, 256 * MIB, "on their way to elsewhere: 503", quota=True)
    outgoing_messages_per_host: int = count(OUTGOING, 2_000, "of them to one host: 503", quota=True)
    outgoing_bytes_per_host: int = size(OUTGOING, 64 * MIB, "of them to one host: 503", quota=True)
    outgoing_message_bytes: int = size(
        OUTGOING, 2 * MIB, "of one message as it leaves, with its wraps: 413", least=16 * KIB
    )
    outgoing_at_once: int = count(OUTGOING, 32, "messages that are being sent at the same time")
    outgoing_at_once_per_host: int = count(OUTGOING, 4, "of them to one host")
    outgoing_seconds: float = seconds(OUTGOING, 20.0, "for one attempt to send a message")
    outgoing_retry_seconds: float = seconds(
        OUTGOING, 5.0, "until a message is tried again; each time twice as long, up to an hour"
    )
    outgoing_keep_seconds: float = seconds(OUTGOING, 2 * DAY, "that a forward to elsewhere is tried")
    reply_keep_seconds: float = seconds(OUTGOING, 300.0, "that a reply to a service is tried")

    web_did_seconds: float = seconds(OUTGOING, 5.0, "for fetching the document of a did:web")
    web_did_bytes: int = size(OUTGOING, 64 * KIB, "of the document of a did:web", least=KIB)
    web_dids: int = count(OUTGOING, 1_024, "documents of did:web, and failed look-ups, that are remembered")
    web_did_age_seconds: float = seconds(OUTGOING, 600.0, "until the document of a did:web is fetched again")
    web_did_failure_seconds: float = seconds(OUTGOING, 30.0, "until a failed look-up is tried again")
    web_dids_at_once: int = count(OUTGOING, 32, "documents that are fetched at the same time: 503")
    web_did_waiters: int = count(OUTGOING, 32, "messages that wait for a document: 503")
    web_did_fetches: Rate = rate(OUTGOING, 1, 30, "look-ups at one host: 503 with Retry-After")  # noqa: RUF009

    free_disk_bytes: int = size(
        DISK,
        64 * MIB,
        "free space below which nothing more is taken in: 507 (deleting needs some too)",
        least=0,
    )
    free_disk_for_mail_bytes: int = size(
        DISK, 256 * MIB, "free space below which no more mail is taken in: 507", least=0
    )
    ballast_bytes: int = size(
        DISK, 24 * MIB, "held in a file, let go when the disk is full so that acknowledging goes on", least=0
    )

    @classmethod
    def off(cls) -> "Limits":
        """Without rates and quotas, for tests and benchmarks. What protects the process itself stays."""
        return cls(**{limit.name: _lifted(limit) for limit in TABLE if limit.is_quota})


def _lifted(limit: Limit) -> Any:
    return UNLIMITED_RATE if limit.kind is Kind.RATE else UNLIMITED


TABLE: tuple[Limit, ...] = tuple(
    Limit(
        item.name,
        item.metadata["kind"],
        item.metadata["group"],
        item.metadata["what"],
        item.metadata["quota"],
        item.default,
        item.metadata["least"],
        item.metadata["most"],
    )
    for item in fields(Limits)
    if item.metadata
)
"""Every limit, in the order of the guide."""


class Buckets:
    """A token bucket per key (an address, a DID), for a bounded number of keys."""

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

    def is_empty(self, key: str, now: float) -> bool:
        """Whether one more would be above the rate. Nothing is counted."""
        level, since = self._buckets.get(key, (self._rate.burst, now))
        return level + max(0.0, now - since) * self._rate.per_second < 1

    def wait(self, key: str, now: float) -> int:
        """Whole seconds, at least one, until one more is within the rate: for Retry-After."""
        level, since = self._buckets.get(key, (self._rate.burst, now))
        lacking = 1 - level - max(0.0, now - since) * self._rate.per_second
        return max(1, math.ceil(lacking / self._rate.per_second))
