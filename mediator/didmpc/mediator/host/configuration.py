"""Settings of a mediator: flags, else `DIDMPC_MEDIATOR_*`, else `mediator.toml`, else defaults.

    host = "0.0.0.0"
    public-url = "https://mediator.example.org"
    registration = "invitation"

    [limits]                        # or: limits = "off"
    mail-seconds = "14 d"
    requests = "100/s burst 1000"

A setting is written with hyphens in the file and as a flag (`--public-url`), in capitals and with
underscores in the environment (`DIDMPC_MEDIATOR_PUBLIC_URL`); a limit there as `DIDMPC_MEDIATOR_LIMIT_...`,
and as a flag `--limit mail-seconds=14d`. What is unknown or out of range is an error, never passed over.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from didmpc.mediator.host.home import DEFAULT_PORT, Home, check_public_url
from didmpc.mediator.host.quantities import read_limit, show_limit, whole
from didmpc.mediator.limits import TABLE, Limits
from didmpc.mediator.sockets.proxies import Proxies
from didmpc.mediator.store import url as stores
from didmpc.protocols.errors import LocalMisuse

FILE = "mediator.toml"
PREFIX = "DIDMPC_MEDIATOR_"
LONGEST_FILE = 65_536
REGISTRATIONS = ("open", "invitation", "allow-list")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

_LIMIT_PREFIX = PREFIX + "LIMIT_"
_LIMITS = {limit.key: limit for limit in TABLE}
_NOT_SETTINGS = frozenset({PREFIX + "HOME", PREFIX + "CONFIG"})
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

DEFAULT, KEPT, LIFTED = "default", "kept from the last start", "limits off"


class WrongSetting(LocalMisuse):
    """A setting that does not exist, or cannot have this value."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", by_flag: bool = False) -> None:
        super().__init__(what, why=why, fix=fix)
        self.exit_code = 2 if by_flag else 1


@dataclass(frozen=True, slots=True)
class Setting:
    """One that is no limit. `read` raises ValueError with the words for "it must be ..."."""

    key: str
    default: Any
    what: str
    read: Callable[[object], Any]


@dataclass(frozen=True, slots=True)
class Value:
    """What is in force, and where it came from."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class _Given:
    """What somebody wrote, and where."""

    value: object
    source: str
    fix: str
    by_flag: bool = False


@dataclass(frozen=True, slots=True)
class Configuration:
    """Every setting and every limit, by key."""

    settings: Mapping[str, Value]
    limit_values: Mapping[str, Value]
    store_url: str = field(default="", repr=False)
    """With the password, if it has one; the setting `store` is without."""

    @classmethod
    def load(
        cls,
        home: Home,
        *,
        flags: Mapping[str, object] | None = None,
        file: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Configuration":
        """All of it, for the next start. Flags that are None were not given. Raises `LocalMisuse`."""
        environment = os.environ if environment is None else environment
        given_by_flag = _from_flags(flags or {})
        given_by_environment = _from_environment(environment)
        named = file or (Path(environment[PREFIX + "CONFIG"]) if environment.get(PREFIX + "CONFIG") else None)
        given_by_file = _from_file(named or home.root / FILE, must_exist=named is not None)
        given = {**given_by_file, **given_by_environment, **given_by_flag}
        settings = {setting.key: _value(setting, given.get(setting.key)) for setting in SETTINGS}
        kept = home.load()
        if settings["port"].value is None:
            settings["port"] = Value(kept.port, KEPT) if kept else Value(DEFAULT_PORT, DEFAULT)
        if settings["public-url"].value is None and kept and kept.public_url:
            settings["public-url"] = Value(kept.public_url, KEPT)
        store = settings["store"]
        if stores.has_password(store.value):
            _check_secret(given["store"], named or home.root / FILE)
            settings["store"] = Value(stores.without_password(store.value), store.source)
        return cls(settings, _limit_values(settings["limits"], given), store.value)

    def __getitem__(self, key: str) -> Any:
        return self.settings[key].value

    @property
    def limits(self) -> Limits:
        return Limits(**{limit.name: self.limit_values[limit.key].value for limit in TABLE})

    def warnings(self) -> list[str]:
        """What whoever starts it should be told loudly."""
        if self["limits"] == "on":
            return []
        lifted = ", ".join(limit.key for limit in TABLE if self._is_lifted(limit.key))
        return [
            "LIMITS ARE OFF: for tests and benchmarks only. Anyone who reaches this mediator can fill it.",
            f"Not in force: {lifted}.",
            "Still in force: sizes of messages, time-outs, memory of the relay, expiry, free disk space.",
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "settings": {
                key: {"value": item.value, "source": item.source} for key, item in self.settings.items()
            },
            "limits": {
                limit.key: {
                    "value": show_limit(limit, self.limit_values[limit.key].value),
                    "source": self.limit_values[limit.key].source,
                    "group": limit.group,
                    "what": limit.what,
                }
                for limit in TABLE
            },
        }

    def _is_lifted(self, key: str) -> bool:
        return _LIMITS[key].is_quota and self.limit_values[key].source == LIFTED


# --- the settings


def _text(given: object) -> str:
    if not isinstance(given, str) or not given or len(given) > 2048 or not given.isprintable():
        raise ValueError("a text in quotes")
    return given


def _port(given: object) -> int:
    return whole(given, 0, 65535)


def _public_url(given: object) -> str:
    if given == "":
        return ""
    try:
        return check_public_url(_text(given))
    except LocalMisuse:
        raise ValueError("a URL such as https://mediator.example.org") from None


def _store(given: object) -> str:
    return "" if given == "" else stores.check(str(given))


def _one_of(*names: str) -> Callable[[object], str]:
    def read(given: object) -> str:
        if given not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return str(given)

    return read


def _yes_no(given: object) -> bool:
    text = str(given).lower()
    if text not in (*_YES, *_NO):
        raise ValueError("true or false")
    return text in _YES


def address(given: object) -> tuple[str, int]:
    """Host and port of `127.0.0.1:9100` or `[::1]:9100`."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:\s]+):([0-9]{1,5})", str(given))
    if found is None or int(found[2]) > 65535:
        raise ValueError("an address and a port, such as 127.0.0.1:9100")
    return found[1].strip("[]"), int(found[2])


def _address_or_nothing(given: object) -> str:
    if given != "":
        address(given)
    return str(given)


def _contact(given: object) -> str:
    return "" if given == "" else _text(given)


def _proxies(given: object) -> str:
    Proxies.read(str(given))
    return str(given)


SETTINGS = (
    Setting("host", "127.0.0.1", "address to listen on", _text),
    Setting("port", None, "port to listen on; 0 is any free one, and the last one used is kept", _port),
    Setting(
        "store",
        "",
        "where mail is kept: postgresql://USER@HOST/DATABASE; without it, in a file in the home",
        _store,
    ),
    Setting("public-url", None, "where others reach it; kept, '' takes it back", _public_url),
    Setting("registration", "open", "who may open an account", _one_of(*REGISTRATIONS)),
    Setting(
        "allow-private",
        False,
        "connect to private addresses too; a mediator that only this machine can reach always may",
        _yes_no,
    ),
    Setting("onward", "on", "pass mail on whose recipient takes it elsewhere", _one_of("on", "off")),
    Setting("relay", "on", "relay sessions; off: they go through mailboxes", _one_of("on", "off")),
    Setting(
        "node-listen",
        "",
        "where other nodes on the same database reach this one; without it, only those of this machine do",
        _address_or_nothing,
    ),
    Setting(
        "node-url", "", "the same, where it is another address for them (HOST:PORT)", _address_or_nothing
    ),
    Setting("log-level", "warning", "from which level on it logs", _one_of(*LOG_LEVELS)),
    Setting("log-format", "text", "lines of text, or one JSON object per line", _one_of(*LOG_FORMATS)),
    Setting(
        "metrics-listen",
        "",
        "serve /metrics here and nowhere else; without it, to this machine only on the port above",
        _address_or_nothing,
    ),
    Setting(
        "operator-listen",
        "",
        "serve the operator's page here, to whoever has its token",
        _address_or_nothing,
    ),
    Setting(
        "proxies",
        "",
        "addresses or networks of reverse proxies elsewhere: what their X-Forwarded-For says is believed",
        _proxies,
    ),
    Setting("contact", "", "who runs it and how to reach them, for its web page", _contact),
    Setting("limits", "on", "off lifts rates and quotas, for tests and benchmarks", _one_of("on", "off")),
)


# --- where they come from


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for key, value in flags.items():
        if key == "limit":
            for item in value if isinstance(value, list | tuple) else ():
                name, equals, text = str(item).partition("=")
                if not equals or name not in _LIMITS:
                    raise WrongSetting(
                        f"--limit {str(item)[:80]!r} names no limit.",
                        why="It looks like  --limit mail-seconds=14d",
                        fix=_did_you_mean(name, _LIMITS),
                        by_flag=True,
                    )
                source = f"--limit {name}"
                given[f"limit.{name}"] = _Given(text.strip(), source, f"Correct {source}.", by_flag=True)
        elif value is not None:
            given[key] = _Given(value, f"--{key}", f"Correct --{key}.", by_flag=True)
    return given


def _from_environment(environment: Mapping[str, str]) -> dict[str, _Given]:
    known = {PREFIX + _capitals(setting.key): setting.key for setting in SETTINGS}
    known |= {_LIMIT_PREFIX + _capitals(key): f"limit.{key}" for key in _LIMITS}
    given: dict[str, _Given] = {}
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name in _NOT_SETTINGS:
            continue
        if name not in known:
            raise WrongSetting(
                f"The environment names a setting that does not exist: {name[:80]}.",
                fix=_did_you_mean(name, known) + f" Or take it away: unset {name[:80]}",
            )
        given[known[name]] = _Given(value, name, f"Correct it: export {name}=...")
    return given


def _from_file(path: Path, *, must_exist: bool) -> dict[str, _Given]:
    text = _read(path, must_exist=must_exist)
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise WrongSetting(
            f"{path} is not valid TOML.", why=f"{problem}.", fix="Correct that line."
        ) from None
    given: dict[str, _Given] = {}
    keys = [setting.key for setting in SETTINGS]
    for key, value in content.items():
        if key == "limits" and isinstance(value, dict):
            for name, limit_value in value.items():
                _note(given, path, text, "limits", name, limit_value, _LIMITS)
        else:
            _note(given, path, text, "", key, value, keys)
    return given


def _note(
    given: dict[str, _Given], path: Path, text: str, table: str, key: str, value: object, known: Iterable[str]
) -> None:
    line = _line_of(text, table, key)
    place = f"{path}, line {line}" if line else str(path)
    if key not in known:
        where = " in [limits]" if table else ""
        raise WrongSetting(f"{place}: there is no setting {key!r}{where}.", fix=_did_you_mean(key, known))
    given[f"limit.{key}" if table else key] = _Given(value, place, f"Correct {place}.")


def _line_of(text: str, table: str, key: str) -> int | None:
    """In which line a key of a table stands; tomllib does not tell."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*\"?([^\]\"]*)\"?\s*\]", line):
            inside = header[1].strip()
        found = re.match(r"\s*[\"']?([^\s\"'=.]+)[\"']?\s*[.=]\s*([\w-]*)", line)
        if found and (
            (inside == table and found[1] == key) or (not inside and found.groups() == (table, key))
        ):
            return number
    return None


def _read(path: Path, *, must_exist: bool) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
    except OSError as problem:
        if isinstance(problem, FileNotFoundError | NotADirectoryError) and not must_exist:
            return ""
        raise WrongSetting(
            f"{path} cannot be read.", why=f"{problem.strerror}.", fix="Name another file with --config FILE."
        ) from None
    if len(content) > LONGEST_FILE:
        raise WrongSetting(f"{path} is longer than {LONGEST_FILE} bytes.", fix="Keep only settings in it.")
    try:
        return content.decode()
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise WrongSetting(f"{path}, line {line}: not UTF-8.", fix="Save the file as UTF-8.") from None


# --- from what was written to values


def _value(setting: Setting, given: _Given | None) -> Value:
    if given is None:
        return Value(setting.default, DEFAULT)
    return Value(_checked(setting.key, setting.read, given), given.source)


def _limit_values(switch: Value, given: Mapping[str, _Given]) -> dict[str, Value]:
    is_off = switch.value == "off"
    standard = Limits.off() if is_off else Limits()
    values: dict[str, Value] = {}
    for limit in TABLE:
        one = given.get(f"limit.{limit.key}")
        if one is not None:
            values[limit.key] = Value(_checked(limit.key, partial(read_limit, limit), one), one.source)
        else:
            source = LIFTED if is_off and limit.is_quota else DEFAULT
            values[limit.key] = Value(getattr(standard, limit.name), source)
    _in_order(values, "forward-bytes", "message-bytes", "An envelope comes inside of a message.")
    _in_order(values, "free-disk-bytes", "free-disk-for-mail-bytes", "Mail stops before everything else.")
    return values


def _in_order(values: Mapping[str, Value], less: str, more: str, why: str) -> None:
    if values[less].value > values[more].value:
        raise WrongSetting(
            f"The limit {less} ({show_limit(_LIMITS[less], values[less].value)}, {values[less].source})"
            f" is above {more} ({show_limit(_LIMITS[more], values[more].value)}, {values[more].source}).",
            why=why,
            fix=f"Raise {more}, or lower {less}.",
        )


def _check_secret(given: _Given, file: Path) -> None:
    """Raise `WrongSetting` where others of this machine can read the password of the store."""
    if given.by_flag:
        raise WrongSetting(
            "--store takes no password.",
            why="Everybody on this machine can read command lines.",
            fix="Put it into the file that PGPASSFILE names, into PGPASSWORD, or into DIDMPC_MEDIATOR_STORE.",
            by_flag=True,
        )
    if given.source.startswith(str(file)) and file.stat().st_mode & 0o077:
        raise WrongSetting(
            f"{file} has the password of the store, and others can read it.", fix=f"chmod 600 {file}"
        )


def _checked(key: str, read: Callable[[object], Any], given: _Given) -> Any:
    try:
        return read(given.value)
    except ValueError as problem:
        raise WrongSetting(
            f"{given.source}: {key} cannot be {_shown(key, given)}.",
            why=f"It must be {problem}.",
            fix=given.fix,
            by_flag=given.by_flag,
        ) from None


def _shown(key: str, given: _Given) -> str:
    return "that" if key == "store" else repr(str(given.value)[:80])  # a password may be in it


def _did_you_mean(key: str, known: Iterable[str]) -> str:
    names = difflib.get_close_matches(key, list(known), 1, 0.6)
    every = "All of them: didmpc mediator config"
    return f"Did you mean {names[0]}? {every}" if names else every


def _capitals(key: str) -> str:
    return key.upper().replace("-", "_")
