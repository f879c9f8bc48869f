"""What is said about a program before it runs: what each party learns and gives, and which roles there are.

A statement is the program's author's or the host's word, part of the proposal and signed with the manifest;
it does not change what the program does. Roles follow the pid, as they do in MPyC programs:

    pids = "0"   "m-1"   "0..t"   "t+1..m-1"   "1..m/2, m-1"

with m the number of parties and t the threshold; m/2 and t are whole numbers, rounded down.
"""

import csv
import io
import re
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.mpc.messages import MAX_NAME, MAX_PARTIES, MAX_SENTENCE, flag, number, text

AUTHORS = ("program", "host", "nobody")
KINDS = ("unknown", "nothing", "any", "number", "text", "lines", "csv")
"""`unknown`: nothing is said. `any`: an input is asked for, and its form is not said."""
MAX_ROLES = 16
MAX_COLUMNS = 64
MAX_RANGE = 64
MAX_INPUT = 64 * 1024 * 1024
"""Bytes of an input that are looked at."""

_TERM = re.compile(r"\s*([+-]?)\s*(\d{1,3}|m/2|m|t)\s*")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a party is asked to put in. `columns` are those that a CSV file must have."""

    kind: str = "unknown"
    what: str = ""
    columns: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        return {"kind": self.kind, "what": self.what, "columns": list(self.columns)}

    @classmethod
    def of(cls, value: Any) -> "Ask":
        """Read what `body` writes; raises `MessageError`."""
        if not isinstance(value, dict):
            raise MessageError("What a program asks for is described by kind, what and columns.")
        kind, columns = text(value, "kind", 16), value.get("columns", [])
        if kind not in KINDS:
            raise MessageError(f"“{kind}” is not a kind of input; there are {', '.join(KINDS)}.")
        if not isinstance(columns, list) or len(columns) > MAX_COLUMNS or (columns and kind != "csv"):
            raise MessageError(f"“columns” are at most {MAX_COLUMNS} names, of an input of kind csv.")
        named = tuple(text({"columns": each}, "columns", MAX_NAME) for each in columns)
        return cls(kind, text(value, "what", MAX_SENTENCE, default=""), named)

    @property
    def wanted(self) -> bool:
        """Whether an input is known to be needed."""
        return self.kind not in ("unknown", "nothing")

    def words(self) -> str:
        """For a person."""
        form = {
            "unknown": "",
            "nothing": "nothing",
            "any": "an input",
            "number": "one number",
            "text": "one line of text",
            "lines": "lines of text",
            "csv": f"a table (CSV) with the columns {', '.join(self.columns)}"
            if self.columns
            else "a table (CSV)",
        }[self.kind]
        return f"{form}: {self.what}" if form and self.what else form or self.what

    def check(self, data: bytes) -> None:
        """Check a party's own input; raises `LocalMisuse` that says what is asked for and quotes nothing."""
        if not self.wanted:
            return
        if not data.strip():
            raise _unfit(self, "It is empty.")
        if self.kind == "any":
            return
        try:
            content = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise _unfit(self, "It is no text in UTF-8.") from None
        lines = [line for line in content.splitlines() if line.strip()]
        if self.kind in ("number", "text") and len(lines) != 1:
            raise _unfit(self, f"It has {len(lines)} lines.")
        if self.kind == "number" and not _is_number(lines[0]):
            raise _unfit(self, "Its line is no number.")
        if self.kind == "csv":
            _check_table(self, content)


def _is_number(line: str) -> bool:
    plain = line.strip().replace("_", "").replace(",", "")
    return re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", plain, re.ASCII) is not None


def _check_table(ask: Ask, content: str) -> None:
    try:
        header = next(csv.reader(io.StringIO(content, newline="")), [])
    except csv.Error:
        raise _unfit(ask, "It cannot be read as CSV.") from None
    here = {name.strip().casefold() for name in header}
    missing = [name for name in ask.columns if name.strip().casefold() not in here]
    if missing:
        raise _unfit(ask, f"Its first line does not name {', '.join(missing)}.")


def _unfit(ask: Ask, why: str) -> LocalMisuse:
    return LocalMisuse(
        "Your input is not what the program asks for.",
        why=f"{why} Asked for is {ask.words()}.",
        fix="Give another file:  --input FILE",
    )


@dataclass(frozen=True, slots=True)
class Role:
    """Parties that do the same in a program. An empty `learns` or an unknown `asks` is what holds for all."""

    name: str
    pids: str
    learns: str = ""
    asks: Ask = Ask()

    def body(self) -> dict[str, Any]:
        return {"name": self.name, "pids": self.pids, "learns": self.learns, "asks": self.asks.body()}

    @classmethod
    def of(cls, value: Any) -> "Role":
        """Read what `body` writes; raises `MessageError`."""
        if not isinstance(value, dict):
            raise MessageError("A role has a name and pids.")
        name = text(value, "name", MAX_NAME)
        if not re.fullmatch(r"[^\W\d_][\w-]*", name):
            raise MessageError("The name of a role begins with a letter and has letters, digits and dashes.")
        role = cls(
            name=name,
            pids=text(value, "pids", MAX_RANGE),
            learns=text(value, "learns", MAX_SENTENCE, default=""),
            asks=Ask.of(value.get("asks")),
        )
        role.of_parties(3, 1)  # that it can be read does not depend on m and t
        return role

    def of_parties(self, m: int, t: int) -> tuple[int, ...]:
        """The pids of this role among m parties with threshold t; those beyond m are left out."""
        found: set[int] = set()
        for part in self.pids.split(","):
            low, dots, high = part.partition("..")
            first = _value(low, m, t)
            last = _value(high, m, t) if dots else first
            found.update(range(max(first, 0), min(last, m - 1) + 1))
        return tuple(sorted(found))


def _value(expression: str, m: int, t: int) -> int:
    """A sum of whole numbers, m, m/2 and t. Raises `MessageError`."""
    values = {"m": m, "m/2": m // 2, "t": t}
    total, at = 0, 0
    while at < len(expression) or at == 0:
        term = _TERM.match(expression, at)
        if term is None or (at > 0 and not term[1]):
            raise MessageError(f"“{expression}” is no pid: write numbers, m, m/2 and t, with + and -.")
        value = values.get(term[2])
        total += (-1 if term[1] == "-" else 1) * (int(term[2]) if value is None else value)
        at = term.end()
    return total


@dataclass(frozen=True, slots=True)
class Statement:
    """All that is said about a program, and by whom. `most` is 0 where any number of parties will do."""

    by: str = "nobody"
    learns: str = ""
    asks: Ask = Ask()
    roles: tuple[Role, ...] = ()
    least: int = 1
    most: int = 0
    odd: bool = False

    def body(self) -> dict[str, Any]:
        """As it stands in a proposal and a manifest."""
        return {
            "by": self.by,
            "learns": self.learns,
            "asks": self.asks.body(),
            "roles": [role.body() for role in self.roles],
            "parties": {"least": self.least, "most": self.most, "odd": self.odd},
        }

    @classmethod
    def of(cls, value: Any) -> "Statement":
        """Read what `body` writes; raises `MessageError`."""
        if not isinstance(value, dict) or not isinstance(value.get("parties"), dict):
            raise MessageError("A statement says what parties learn and give, and which roles there are.")
        by, roles, parties = text(value, "by", 16), value.get("roles"), value["parties"]
        if by not in AUTHORS:
            raise MessageError("A statement is made by the program, the host or nobody.")
        if not isinstance(roles, list) or len(roles) > MAX_ROLES:
            raise MessageError(f"A program has at most {MAX_ROLES} roles.")
        read = tuple(Role.of(role) for role in roles)
        if len({role.name.casefold() for role in read}) != len(read):
            raise MessageError("Two roles have the same name.")
        return cls(
            by=by,
            learns=text(value, "learns", MAX_SENTENCE, default=""),
            asks=Ask.of(value.get("asks")),
            roles=read,
            least=number(parties, "least", 1, MAX_PARTIES),
            most=number(parties, "most", 0, MAX_PARTIES),
            odd=flag(parties, "odd"),
        )

    def role(self, name: str) -> Role | None:
        """The role of this name, whatever its case."""
        return next((role for role in self.roles if role.name.casefold() == name.casefold()), None)

    def seats(self, m: int, t: int) -> tuple[str, ...]:
        """The role of each pid; "" everywhere where there are no roles. Raises `MessageError`."""
        if not self.roles:
            return ("",) * m
        seats = [""] * m
        for role in self.roles:
            for pid in role.of_parties(m, t):
                if seats[pid]:
                    raise MessageError(f"Party {pid} would be both {seats[pid]} and {role.name}.")
                seats[pid] = role.name
        if "" in seats:
            raise MessageError(f"No role is said for party {seats.index('')} of {m}.")
        return tuple(seats)

    def check_size(self, m: int) -> None:
        """Whether so many parties can run it; raises `MessageError` with the reason."""
        odd = ", an odd number" if self.odd else ""
        limits = f"at least {self.least}" if not self.most else f"{self.least} to {self.most}"
        if m < self.least or (self.most and m > self.most) or (self.odd and m % 2 == 0):
            raise MessageError(f"The program is for {limits} parties{odd}, and these are {m}.")

    def asks_of(self, role: str) -> Ask:
        """What a party in this role is asked for."""
        found = self.role(role) if role else None
        return self.asks if found is None or found.asks.kind == "unknown" else found.asks

    def learned_by(self, role: str) -> str:
        """What a party in this role learns; empty where nothing is said."""
        found = self.role(role) if role else None
        return (found.learns if found else "") or self.learns
