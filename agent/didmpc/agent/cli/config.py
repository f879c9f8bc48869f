"""Settings of a command: its flags, else `DIDMPC_*` in the environment, else `config.toml` in the home.

label = "Alice's laptop"
mediator = "https://mediator.example.org?_oob=..."      # a DID or an invitation
passphrase-file = "/home/alice/.didmpc-passphrase"
wait = 600                                              # seconds that run and join wait for people
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from didmpc.agent.cli import chosen_home
from didmpc.agent.cli.errors import WrongUsage
from didmpc.agent.wallet.home import Home
from didmpc.protocols.errors import LocalMisuse

FILE = "config.toml"
LONGEST_FILE = 65_536
LONGEST_WAIT = 7 * 24 * 3600
DEFAULT_WAIT = 600

_TYPES: Mapping[str, type] = {"label": str, "mediator": str, "passphrase-file": str, "wait": int}


def home_of(flag: Path | None) -> Home:
    """The home a command works with; the crash log of this command goes there too."""
    try:
        home = Home.locate(flag)
    except RuntimeError as problem:  # "~somebody" without such a user
        raise WrongUsage(f"The home {flag} cannot be found.", why=f"{problem}.") from problem
    if home.root.exists() and not home.root.is_dir():
        raise WrongUsage(
            f"The home {home.root} is no folder.", fix="Name one with --home DIR or DIDMPC_HOME."
        )
    chosen_home.choose(home)
    return home


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment and `config.toml` say; a flag goes before both."""

    environment: Mapping[str, str]
    file: Mapping[str, object]
    path: Path

    @classmethod
    def of(cls, home: Home) -> "Settings":
        path = home.root / FILE
        return cls(os.environ, _read(path), path)

    def text(self, name: str, flag: str | None) -> str | None:
        """A text setting, or None where nobody set it."""
        if flag is not None:
            return flag
        value = self.environment.get(_variable(name)) or self.file.get(name)
        return value if isinstance(value, str) else None

    def file_path(self, name: str, flag: Path | None) -> Path | None:
        """A setting that names a file."""
        value = self.text(name, None if flag is None else str(flag))
        return None if value is None else Path(value).expanduser()

    def wait(self, flag: int | None) -> int:
        """How long `run` and `join` wait for people, in seconds."""
        if flag is not None:
            return _seconds(flag, "--wait")
        if text := self.environment.get(_variable("wait")):
            return _seconds(text, _variable("wait"))
        return _seconds(self.file.get("wait", DEFAULT_WAIT), str(self.path))


def _variable(name: str) -> str:
    return "DIDMPC_" + name.upper().replace("-", "_")


def _seconds(value: object, source: str) -> int:
    try:
        seconds = int(str(value))
    except ValueError:
        seconds = 0
    if not 1 <= seconds <= LONGEST_WAIT:
        raise WrongUsage(
            f"The wait in {source} must be a whole number of seconds from 1 to {LONGEST_WAIT}.",
            why=f"It is {str(value)[:40]!r}.",
        )
    return seconds


def _read(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise LocalMisuse(f"{path} cannot be read.", why=f"{problem.strerror}.") from problem
    if len(content) > LONGEST_FILE:
        raise LocalMisuse(f"{path} is longer than {LONGEST_FILE} bytes.", fix="Keep only settings in it.")
    try:
        values = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as problem:
        raise LocalMisuse(
            f"{path} is not valid TOML.", why=f"{problem}.", fix="Correct that line."
        ) from problem
    for name, value in values.items():
        if name not in _TYPES:
            raise LocalMisuse(
                f"{path} has a setting that does not exist: {name}.", fix=f"There are: {', '.join(_TYPES)}."
            )
        if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
            kind = "a whole number" if _TYPES[name] is int else "a text in quotes"
            raise LocalMisuse(f"The setting {name} in {path} must be {kind}.")
    return values
