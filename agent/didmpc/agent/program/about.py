"""What a program says about itself, in a file beside it: `salary.didmpc.toml` for `salary.py`.

    learns  = "the average salary; nobody learns a salary"
    asks    = { kind = "number", what = "your monthly salary" }     # nothing any number text lines csv
    parties = { least = 3, most = 25, odd = false }

    [roles.helper]                  # where parties do different things; pids as in protocols.mpc.statement
    pids   = "m-1"
    learns = "nothing"
    asks   = { kind = "nothing" }

All of it is optional, and the program needs no change. The file is part of the bundle, so its hash covers it.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

from didmpc.protocols.errors import MessageError
from didmpc.protocols.mpc.statement import KINDS, Ask, Statement

SUFFIX = ".didmpc.toml"
MAX_FILE = 65_536
_KEYS = frozenset({"learns", "asks", "parties", "roles"})


def name_of(entry: str) -> str:
    """The file that says what the program `entry` does."""
    return entry.removesuffix(".py") + SUFFIX


def statement_of(entry: str, contents: Mapping[str, bytes]) -> Statement:
    """What a bundle says about itself. Raises `MessageError`, with the name of its file."""
    name = name_of(entry)
    return read(name, contents[name], by="program") if name in contents else Statement()


def read(name: str, data: bytes, *, by: str) -> Statement:
    """Read such a file; `by` is who says what it says. Raises `MessageError`."""
    try:
        if len(data) > MAX_FILE:
            raise MessageError(f"It has more than {MAX_FILE} bytes.")
        value = tomllib.loads(data.decode())
        return _statement(value, by)
    except (ValueError, RecursionError) as error:  # tomllib's and decode's errors are ValueErrors
        raise MessageError(f"{name} cannot be read.", why=str(error)) from None
    except MessageError as error:
        raise MessageError(f"{name} cannot be read.", why=error.what) from None


def _statement(value: Mapping[str, Any], by: str) -> Statement:
    if unknown := sorted(value.keys() - _KEYS):
        raise MessageError(f"It has the unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}.")
    roles, parties = value.get("roles", {}), value.get("parties", {})
    if not isinstance(roles, dict) or not all(isinstance(role, dict) for role in roles.values()):
        raise MessageError("Roles are tables: [roles.NAME]")
    if not isinstance(parties, dict) or parties.keys() - {"least", "most", "odd"}:
        raise MessageError("“parties” may have least, most and odd.")
    for name, role in roles.items():
        if unknown := sorted(role.keys() - {"pids", "learns", "asks"}):
            raise MessageError(f"The role {name} has the unknown key {unknown[0]!r}.")
    return Statement.of(
        {
            "by": by,
            "learns": value.get("learns", ""),
            "asks": _ask(value.get("asks")),
            "roles": [
                {"learns": "", **role, "name": name, "asks": _ask(role.get("asks"))}
                for name, role in roles.items()
            ],
            "parties": {"least": 1, "most": 0, "odd": False, **parties},
        }
    )


def _ask(value: Any) -> Any:
    """A table, or the kind alone."""
    if value is None:
        return Ask().body()
    if isinstance(value, str):
        return {"kind": value, "what": "", "columns": []}
    if isinstance(value, dict) and not value.keys() - {"kind", "what", "columns"}:
        return {"kind": "any", "what": "", "columns": [], **value}
    raise MessageError("“asks” is a kind, or a table of kind, what and columns.")


def ask_from(typed: str) -> Ask:
    """What was typed for --asks: `number: your salary`, `csv(age, weight): patients`, or words alone."""
    kind, colon, what = typed.partition(":")
    kind, bracket, columns = kind.strip().partition("(")
    if kind not in KINDS or (bracket and not columns.endswith(")")):
        kind, what, columns = "any", typed, ""
    named = [each.strip() for each in columns.removesuffix(")").split(",") if each.strip()]
    return Ask.of({"kind": kind, "what": what.strip() if colon or kind == "any" else "", "columns": named})
