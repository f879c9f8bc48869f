"""What the mediator keeps: `Store` says what it must do, `sqlite` and `postgres` do it."""

from didmpc.mediator.store.errors import StoreFailed, StoreFull, StoreUnsure
from didmpc.mediator.store.interface import Store
from didmpc.mediator.store.records import (
    EXPIRY_BATCH,
    Admission,
    ChannelEnd,
    Kept,
    Listing,
    Mail,
    OperatorMessage,
    Parcel,
    Queue,
    Room,
)

__all__ = [
    "EXPIRY_BATCH",
    "Admission",
    "ChannelEnd",
    "Kept",
    "Listing",
    "Mail",
    "OperatorMessage",
    "Parcel",
    "Queue",
    "Room",
    "Store",
    "StoreFailed",
    "StoreFull",
    "StoreUnsure",
]
