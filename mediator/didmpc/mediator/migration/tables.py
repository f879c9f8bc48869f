"""What is copied. The same names in every store (store/sqlite/schema.py has what they mean)."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Table:
    """One table. Keys are never given anew while they stand; `big` is told by `size` and a hash beside it."""

    name: str
    key: tuple[str, ...]
    rest: tuple[str, ...]
    big: str | None = None
    flags: frozenset[str] = field(default=frozenset())
    """0 or 1 in SQLite."""
    unique: frozenset[str] = field(default=frozenset())
    """Of `rest`: a row in which one of these has changed is another row."""
    numbered: bool = False
    """Whether the store gives out the keys."""
    sequence: bool = False
    """Whether one that was given out once must never come back."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All but the big one."""
        return self.key + self.rest


ACCOUNT = Table(
    "account",
    ("aid",),
    ("did", "long_did", "created", "bytes", "acts", "lasting", "packet_bytes"),
    unique=frozenset({"did"}),
    numbered=True,
)
BOX = Table(
    "box",
    ("mid",),
    ("aid", "did", "long_did", "n", "bytes", "proven", "packets", "packet_bytes"),
    unique=frozenset({"did", "aid"}),
    numbered=True,
)
MAIL = Table(
    "msg",
    ("seq",),
    ("mid", "at", "exp", "size", "h", "due", "packet"),
    big="body",
    flags=frozenset({"packet"}),
    unique=frozenset({"mid", "h"}),
    numbered=True,
    sequence=True,
)

TABLES = (
    ACCOUNT,
    BOX,
    MAIL,
    Table("seen", ("h",), ("exp", "aid")),
    Table(
        "channel",
        ("cid",),
        ("aid", "name", "exp", "rate"),
        unique=frozenset({"aid", "name"}),
        numbered=True,
        sequence=True,
    ),
    Table("capability", ("h",), ("cid", "side", "rebind"), unique=frozenset({"cid", "side"})),
    Table("link", ("name",), ("aid", "oob", "exp"), unique=frozenset({"aid"})),
    Table("acknowledged", ("mid", "h"), ("exp",)),
    Table("rule", ("did",), ("allowed",), flags=frozenset({"allowed"})),
    Table("ticket", ("id",), ("uses", "exp")),
    Table("operator_message", ("id",), ("at", "did", "text"), numbered=True, sequence=True),
    Table(
        "outgoing",
        ("oid",),
        ("uri", "host", "due", "tries", "exp", "size", "h"),
        big="body",
        unique=frozenset({"h"}),
        numbered=True,
        sequence=True,
    ),
)
"""Parents before children."""

COUNTERS = (BOX, ACCOUNT)
"""Counts that a store may keep by itself while rows come and go: set right at the end of a pass."""
