"""What the rest of the mediator asks of its store.

Each method is one transaction, and what it changes has happened for good when it returns. Where it cannot
do what it was asked it raises `StoreFailed`, and nothing of it was done.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from didmpc.mediator.store.records import (
    AccountRow,
    Admission,
    ChannelEnd,
    Description,
    Evicted,
    Kept,
    Listing,
    OperatorMessage,
    Parcel,
    Queue,
    Room,
    Totals,
)
from didmpc.protocols.messages.mediation import Update, Updated

NOTHING_PROVEN: Mapping[str, int] = MappingProxyType({})
NO_ROOM_BEYOND = Room()


class Store(Protocol):
    """Accounts, mailboxes, relay channels, links, parcels for elsewhere, and what the operator has said.

    An `envelope` that changes an account acts once: the second time the method raises `Replayed`.
    `created` is the created_time of the message in it. `now` is the caller's clock, in seconds.
    """

    # --- accounts and key lists

    async def enrol(
        self,
        did: str,
        now: float,
        admission: Admission = "open",
        ticket: str | None = None,
        *,
        envelope: bytes | None = None,
        created: int | None = None,
    ) -> bool:
        """Open an account for a DID; one that is there stays as it is. False where it is not admitted.

        What the operator has said of the DID goes before the kind of admission. A ticket is used up only
        by an account that it opens. The `envelope` that asks for it, with its created_time, opens an account
        once: when that has gone, it raises `Replayed`.
        """

    async def is_enrolled(self, did: str) -> bool: ...

    async def act_once(self, account: str, envelope: bytes, now: float, created: int | None = None) -> None:
        """Note that an envelope of this account was acted on. Raises `Replayed` the second time."""

    async def long_form(self, short_did: str) -> str | None:
        """The long form of the did:peer:4 of an account, or of one in a key list."""

    async def move_account(
        self, old: str, new: str, statement: bytes, now: float, stated: float | None
    ) -> bool:
        """Give the account of `old`, with all that is its, to `new`; False where `old` has none (any more).

        `statement` is what `old` said it with, and acts once; `stated` is when. Raises `Replayed`, and
        `AccountExists` where `new` has an account already.
        """

    async def update_keylist(
        self,
        account: str,
        updates: Sequence[Update],
        envelope: bytes,
        now: float,
        created: int | None = None,
        proven: Mapping[str, int] = NOTHING_PROVEN,
    ) -> list[Updated]:
        """Bindings are exclusive, first come: the DID of another account is a `client_error`.

        Unless it has proven that it wants this account (`proven`: canonical DID -> when), later than
        it has proven another one. Then it comes with the mail that waits for it.
        """

    async def keylist(self, account: str) -> list[str]:
        """The registered DIDs, oldest first, as they were written when they were added."""

    # --- mail

    async def mailbox(self, recipient: str) -> int | None:
        """The mailbox of a registered DID."""

    async def enqueue(
        self,
        recipient: str,
        envelopes: Sequence[bytes],
        expires: float,
        now: float,
        *,
        due: float = 0.0,
        beyond: Room = NO_ROOM_BEYOND,
        packets: bool = False,
    ) -> Kept:
        """Keep envelopes for a registered DID, all or none; `due` is when they may be delivered first.

        The same envelope again is no second entry while it waits, nor for some time after it was
        acknowledged: a sender that lost our answer may send it again. Its first `due` and `expires` hold.
        `beyond` is what the mailbox may hold beyond its limit. Packets of sessions have limits of their own.
        """

    async def acknowledge(self, account: str, seqs: Sequence[int], now: float) -> None:
        """Delete mail of this account; what is not there, or is another's, is passed over."""

    async def queue(self, account: str, recipient: str | None, now: float) -> Queue:
        """How much waits for an account, or for one DID of it, and may be delivered now."""

    async def oldest(
        self,
        account: str,
        recipient: str | None,
        now: float,
        *,
        messages: int,
        bytes: int,
        without: frozenset[int] = frozenset(),
        after: int = 0,
        or_due_after: float = math.inf,
    ) -> Listing:
        """The oldest mail that may be delivered, within both bounds; a first message larger than `bytes`
        comes alone. `after`: only what was put after that message, or became due after that time."""

    async def newest(self, account: str) -> int:
        """The last message that is kept for an account; what is put after this was asked has a higher id."""

    async def next_due(self, account: str, now: float) -> float:
        """When the next message of an account will be due; `inf` where none is delayed."""

    async def queued(self) -> int:
        """Messages in all mailboxes."""

    async def expire(self, now: float) -> int:
        """Delete what is over; to be called again as long as it returns a whole `EXPIRY_BATCH`."""

    # --- relay channels and short links

    async def create_channels(
        self,
        account: str,
        channels: Sequence[tuple[str, bytes, bytes]],
        expires: float,
        envelope: bytes,
        now: float,
        created: int | None = None,
        rate: int = 0,
    ) -> None:
        """Keep channels: name, and the hashes of the near and the far capability."""

    async def revoke_channels(self, account: str, names: Sequence[str]) -> list[int]:
        """Delete channels of this account; returns which they were."""

    async def bind(self, capability: bytes, rebind_key: bytes) -> ChannelEnd | None:
        """The end of a capability (its hash), or None. The first bind writes down its rebind key.

        Whether the key of a later one fits, and whether the channel has expired, is the caller's to check.
        """

    async def keep_link(
        self,
        account: str,
        name: str,
        oob: str,
        expires: float,
        envelope: bytes,
        now: float,
        created: int | None = None,
    ) -> None:
        """Keep what a short link of this account leads to."""

    async def link(self, name: str, now: float) -> str | None:
        """What a short link leads to, while it lasts."""

    # --- on the way to other mediators and agents

    async def put_outgoing(
        self, parcels: Sequence[Parcel], *, due: float, expires: float, now: float
    ) -> None:
        """Keep parcels, all or none. Raises `TooMuchOutgoing`."""

    async def due_outgoing(
        self, now: float, most: int, *, but: Collection[int] = (), but_hosts: Collection[str] = ()
    ) -> list[Parcel]:
        """What may be sent now, longest due first, but for these parcels and these hosts.

        Nobody else is given them for as long as an attempt may take, or until they are given back.
        """

    async def give_back_outgoing(self, ids: Collection[int]) -> None:
        """Parcels that are not sent now after all."""

    async def next_outgoing(self, now: float) -> float | None:
        """When the next one will be due."""

    async def end_outgoing(self, id: int) -> None:
        """A parcel has arrived, or never will."""

    async def postpone_outgoing(self, id: int, due: float) -> None:
        """Try a parcel again, not before `due`."""

    async def postpone_host(self, host: str, due: float) -> None:
        """Nothing goes to a host before `due`."""

    async def outgoing(self) -> int:
        """How many are on their way."""

    # --- the operator

    async def is_denied(self, *dids: str) -> bool:
        """Whether the operator wants nothing of one of these DIDs; asked for every message of a known one."""

    async def set_rule(self, did: str, allowed: bool | None) -> None:
        """Allow or deny a DID, or (None) say nothing about it any more."""

    async def rules(self, after: str, limit: int) -> list[tuple[str, bool]]:
        """A page of all rules, by DID."""

    async def accounts(self, after: int, limit: int) -> list[AccountRow]:
        """A page of all accounts, oldest first."""

    async def totals(self) -> Totals: ...

    async def evict(self, did: str) -> Evicted | None:
        """Delete an account with its mail, channels and links; None where there is none.

        The envelopes that it acted on stay remembered: the DID may come back, and so may they.
        """

    async def issue_ticket(self, uses: int, expires: float) -> str:
        """A new invitation to open accounts: its id."""

    async def keep_operator_message(self, did: str, text: str, now: float) -> None:
        """Raises `TooMany` where the operator has not read what is there.

        Half of the room is for those who have an account: anybody else can have any number of DIDs.
        """

    async def operator_messages(self, limit: int = 100) -> list[OperatorMessage]:
        """The oldest that wait."""

    async def remove_operator_messages(self, ids: Sequence[int]) -> None: ...

    # --- how it fares

    @property
    def free_bytes(self) -> int:
        """Free space of this machine's disk, where the home is."""

    def check_room_for_mail(self) -> None:
        """Raise `DiskFull` where no more mail is taken in."""

    async def probe(self) -> None:
        """Write to the disk, and raise `StoreFailed` where that cannot be done."""

    def describe(self) -> Description:
        """For its operator."""

    def observe_commits(self, observer: Callable[[int, float], None]) -> None:
        """Have the number of operations and the seconds of each commit told, in whichever thread."""

    async def close(self) -> None:
        """Finish what was handed in before."""
