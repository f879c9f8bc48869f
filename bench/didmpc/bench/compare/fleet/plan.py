"""The file of hosts: which machines take part, and how to reach them.

name = "three regions"             # how reports call it
user = "root"                      # the first five may stand here, for all, or at a host
key = "~/.ssh/id_ed25519"          # without it: those of the SSH agent, and of ~/.ssh
port = 22
python = "/opt/didmpc/bin/python"  # of an environment that the same version of didmpc is installed in
sudo = false                       # true: `sudo -n` where the user is not root
known_hosts = "known_hosts"        # beside this file; without it ~/.ssh/known_hosts

[[servers]]
address = "203.0.113.1"            # where the other hosts reach it

[[parties]]
address = "203.0.113.2"
ssh = "bastion-side.example.org"   # where this machine reaches it, if elsewhere
label = "Helsinki"
"""

import ipaddress
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.protocols.errors import LocalMisuse

MOST_BYTES = 64 * 1024
MOST_HOSTS = 32
_SHARED: dict[str, type] = {"user": str, "key": str, "port": int, "python": str, "sudo": bool}
_TOP = _SHARED | {"name": str, "known_hosts": str, "servers": list, "parties": list}
_OF_A_HOST = _SHARED | {"address": str, "ssh": str, "label": str}


@dataclass(frozen=True, slots=True)
class Place:
    """One host, and how this machine reaches it."""

    name: str
    address: str
    ssh: str
    port: int
    user: str
    key: Path | None
    python: str
    sudo: bool
    label: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a file of hosts says."""

    name: str
    known_hosts: Path
    servers: tuple[Place, ...]
    parties: tuple[Place, ...]

    def with_parties(self, count: int) -> "Fleet":
        """The first `count` of them. Raises LocalMisuse."""
        if count > len(self.parties):
            raise LocalMisuse(
                f"There are not {count} parties in this fleet.",
                why=f"The file has {len(self.parties)} of them.",
                fix="Add hosts under [[parties]], or name fewer: --parties",
            )
        return Fleet(self.name, self.known_hosts, self.servers, self.parties[:count])


def read(path: Path) -> Fleet:
    """Raises LocalMisuse with what is wrong, and where."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _wrong(path, f"it is larger than {MOST_BYTES >> 10} KiB")
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalMisuse(f"{path} cannot be read.", why=f"{error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(path, f"{error}") from None
    _check(path, "", found, _TOP)
    known = Path(found.get("known_hosts", "~/.ssh/known_hosts")).expanduser()
    fleet = Fleet(
        found.get("name", path.stem),
        known if known.is_absolute() else path.parent / known,
        _places(path, found, "servers", "vps"),
        _places(path, found, "parties", "party"),
    )
    if not fleet.servers:
        raise _wrong(path, "there are no [[servers]]: a relay, a lighthouse or a mediator runs on one")
    if len(fleet.parties) < 2:
        raise _wrong(path, "there must be two [[parties]] at least")
    places = fleet.servers + fleet.parties
    if len(places) > MOST_HOSTS:
        raise _wrong(path, f"there are more than {MOST_HOSTS} hosts")
    if len({place.address for place in places}) not in (1, len(places)):
        raise _wrong(path, "two hosts have the same address (all may be one machine, to try it out)")
    return fleet


def _places(path: Path, found: dict[str, Any], part: str, name: str) -> tuple[Place, ...]:
    made = []
    for number, own in enumerate(found.get(part, [])):
        where = f"[[{part}]] number {number + 1}"
        if not isinstance(own, dict):
            raise _wrong(path, f"{where} is no table")
        _check(path, where, own, _OF_A_HOST)
        if "address" not in own:
            raise _wrong(path, f"{where} has no address")
        try:
            ipaddress.IPv4Address(own["address"])
        except ValueError:
            raise _wrong(path, f"the address of {where} is no IPv4 address: {own['address']}") from None
        settings = {key: found[key] for key in _SHARED if key in found} | own
        if not 0 < settings.get("port", 22) < 1 << 16:
            raise _wrong(path, f"the port of {where} is no port")
        ssh = str(settings.get("ssh", own["address"]))
        user = str(settings.get("user", "root"))
        # They go to libraries and into files where a first - or a blank would be something else.
        for what, word in (("ssh", ssh), ("user", user)):
            if not word or word.startswith("-") or not word.isprintable() or " " in word:
                raise _wrong(path, f"{what} of {where} is no name: {word!r}")
        key = settings.get("key")
        made.append(
            Place(
                name=f"{name}{number}" if name == "party" or number else name,
                address=own["address"],
                ssh=ssh,
                port=settings.get("port", 22),
                user=user,
                key=Path(key).expanduser() if key else None,
                python=settings.get("python", "/opt/didmpc/bin/python"),
                sudo=settings.get("sudo", False),
                label=settings.get("label", ""),
            )
        )
    return tuple(made)


def _check(path: Path, where: str, found: dict[str, Any], known: dict[str, type]) -> None:
    before = f"{where}: " if where else ""
    for key, value in found.items():
        if key not in known:
            raise _wrong(path, f"{before}{key} is no setting (there are: {', '.join(known)})")
        if type(value) is not known[key]:
            kind = {str: "a text", int: "a number", bool: "true or false", list: "a list of tables"}
            raise _wrong(path, f"{before}{key} must be {kind[known[key]]}")


def _wrong(path: Path, why: str) -> LocalMisuse:
    return LocalMisuse(
        f"{path} is not a file of hosts.",
        why=f"{why[:1].upper()}{why[1:]}.",
        fix="docs/comparison-bench.md shows one; docs/fleet/ makes hosts and their file with Terraform.",
    )
