"""The mediator's home: its keys, where it listens, and the lock that keeps a second one out.

    mediator.json       keys and settings, 0600
    mediator.lock       held while it runs
    mediator.sqlite3    accounts, mail, relay channels
    mediator.toml       settings that its operator wrote, where there are some
    mediator.sock       the control socket, while it runs
    log.key             names accounts in logs, 0600

The folder is named by a flag, else by `DIDMPC_MEDIATOR_HOME` or `DIDMPC_HOME`, else by the conventions of the
platform.
"""

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from didmpc.local.private_files import PRIVATE_FILE, give_to_owner, make_private_folder, write_private
from didmpc.protocols.crypto.keys import Curve, PrivateKey
from didmpc.protocols.did import Service
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.out_of_band import Invitation

VARIABLE, SHARED_VARIABLE = "DIDMPC_MEDIATOR_HOME", "DIDMPC_HOME"
VERSION = 1
KEYS_FILE = "mediator.json"
LOG_KEY_FILE = "log.key"
LOG_KEY_SIZE = 32
DEFAULT_PORT = 8765
# One to sign, and one of each curve that a client may have nothing but.
CURVES: tuple[Curve, ...] = ("Ed25519", "X25519", "P-256", "P-384")
NIST_CURVES: frozenset[Curve] = frozenset({"P-256", "P-384"})
GOAL_CODE = "request-mediate"
GOAL = "Receive messages through this mediator"

ANY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104  (only compared with)


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """What `mediator.json` holds. The keys never change; the DID names its address, so it does with that."""

    keys: tuple[PrivateKey, ...]
    url: str
    port: int
    public_url: str | None = None

    def __repr__(self) -> str:
        return f"Settings(url={self.url!r}, port={self.port}, public_url={self.public_url!r})"

    @classmethod
    def new(cls) -> "Settings":
        return cls(tuple(PrivateKey.generate(curve) for curve in CURVES), url="", port=DEFAULT_PORT)

    @property
    def identity(self) -> Identity:
        """The mediator's DID."""
        return self._identity([key for key in self.keys if key.curve not in NIST_CURVES])

    @property
    def fingerprint(self) -> str:
        """Stands for the keys, whatever the URL."""
        public = "\n".join(sorted(key.public.multikey() for key in self.keys))
        return hashlib.sha256(public.encode()).hexdigest()

    @property
    def nist_identity(self) -> Identity | None:
        """Its DID for clients that have keys of P-256 or P-384 alone; none where it has no such keys.

        It is a DID of its own: npm `@hyperledger/identus-sdk` 7 refuses a did:peer:2 with such a key.
        """
        keys = [key for key in self.keys if key.curve != "X25519"]
        return self._identity(keys) if any(key.curve in NIST_CURVES for key in keys) else None

    def _identity(self, keys: Sequence[PrivateKey]) -> Identity:
        """A did:peer:2 of these keys: http first, WebSocket second, each as a service of its own."""
        web, _, rest = self.url.partition("://")
        socket = f"{'wss' if web == 'https' else 'ws'}://{rest}/ws"
        services = (Service(self.url, id="#service"), Service(socket, id="#service-1"))
        return Identity.peer2_of(keys, services)

    def speaking(self, *, nist: bool) -> Identity:
        """The mediator as those clients know it. Raises `LocalMisuse` where it has no such keys."""
        identity = self.nist_identity if nist else self.identity
        if identity is None:
            raise LocalMisuse(
                "This mediator has no keys of P-256 or P-384.",
                why="It was made by a version that gave a mediator one key of X25519 alone.",
                fix="Use its DID for all clients; or start a new mediator in another --home.",
            )
        return identity

    @property
    def invitation(self) -> str:
        """The invitation URL: always the same for one DID, so it may be printed on paper."""
        return self.inviting()

    def inviting(self, id: str | None = None, expires: int | None = None, *, nist: bool = False) -> str:
        """The URL of an invitation with this id, which whoever takes it names as the parent thread.

        Without an id, of the one that is always the same. Raises `LocalMisuse` as `speaking` does.
        """
        did = self.speaking(nist=nist).did
        id = id or hashlib.sha256(did.encode()).hexdigest()[:32]
        invitation = Invitation(
            from_=did,
            id=id,
            goal_code=GOAL_CODE,
            goal=GOAL,
            label=urlsplit(self.url).netloc,
            expires_time=expires,
        )
        return invitation.to_url(f"{self.url}/")

    def listening(self, host: str, port: int, public_url: str | None) -> "Settings":
        """The same mediator at this address."""
        if public_url is None and host in ANY_ADDRESS:
            raise LocalMisuse(
                "A mediator that listens on all addresses must be told under which one it is reached.",
                why="The address goes into its DID.",
                fix="Add --public-url, for example  --public-url http://192.168.1.5:8765",
            )
        return replace(self, url=public_url or local_url(host, port), port=port, public_url=public_url)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "keys": [key.jwk() for key in self.keys],
            "url": self.url,
            "port": self.port,
            "public_url": self.public_url,
        }

    @classmethod
    def from_json(cls, value: Any) -> "Settings":
        """Raises KeyError, TypeError, ValueError or DidmpcError where something is wrong with it."""
        if value["version"] != VERSION:
            raise ValueError(f"its version is {value['version']!r}")
        keys = tuple(PrivateKey.from_jwk(jwk) for jwk in value["keys"])
        public_url = value["public_url"]
        return cls(
            keys, str(value["url"]), int(value["port"]), None if public_url is None else str(public_url)
        )


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one mediator."""

    root: Path

    @classmethod
    def locate(cls, path: Path | None = None) -> "Home":
        """The home that a flag, the environment or the platform names, in this order."""
        if path is None and (named := os.environ.get(VARIABLE) or os.environ.get(SHARED_VARIABLE)):
            path = Path(named)
        return cls(Path(os.path.abspath((path or _platform_default()).expanduser())))

    @property
    def _settings(self) -> Path:
        return self.root / KEYS_FILE

    def prepare(self) -> None:
        """Make the folder, for its owner only. Raises `LocalMisuse`."""
        try:
            make_private_folder(self.root)
        except OSError as problem:
            raise self._unusable(problem.strerror or str(problem)) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock; it ends with the process, whatever ends that. Raises `LocalMisuse`."""
        try:
            descriptor = os.open(
                self.root / "mediator.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE
            )
        except OSError as problem:
            raise self._unusable(problem.strerror or str(problem)) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise LocalMisuse(
                    f"A mediator with the home {self.root} is running already.",
                    why=f"Its process id is {holder}." if holder else "",
                    fix="Stop it first, or name another home with --home DIR.",
                ) from None
            give_to_owner(descriptor, self.root)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def load(self) -> Settings | None:
        """The settings; None before the first start. Raises `LocalMisuse` where they cannot be read."""
        try:
            text = self._settings.read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as problem:
            raise self._unusable(getattr(problem, "strerror", None) or str(problem)) from None
        try:
            return Settings.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError, DidmpcError) as problem:
            raise LocalMisuse(
                f"The mediator's keys in {self._settings} cannot be read.",
                why=f"The file is damaged: {type(problem).__name__}.",
                fix="Put a backup in its place (didmpc mediator restore FILE --force),"
                " or name another home: that will be another mediator.",
            ) from None

    def require(self) -> Settings:
        """The settings of a mediator that was started before. Raises `LocalMisuse`."""
        settings = self.load()
        if settings is None:
            raise LocalMisuse(
                f"There is no mediator in {self.root} yet.",
                why="It gets its keys and its DID when it is started for the first time.",
                fix=f"Start it: didmpc mediator start --home {self.root}",
            )
        return settings

    def save(self, settings: Settings) -> None:
        """Replace the settings at once and durably. Raises `LocalMisuse`."""
        data = json.dumps(settings.to_json(), indent=2).encode()
        try:
            write_private(self._settings, data)
        except OSError as problem:
            raise self._unusable(problem.strerror or str(problem)) from None

    def log_key(self) -> bytes:
        """The key by which logs name accounts; made when there is none. Raises `LocalMisuse`."""
        path = self.root / LOG_KEY_FILE
        try:
            with contextlib.suppress(FileNotFoundError):
                key = path.read_bytes()
                if len(key) == LOG_KEY_SIZE:
                    return key
            key = secrets.token_bytes(LOG_KEY_SIZE)
            write_private(path, key)
            return key
        except OSError as problem:
            raise self._unusable(problem.strerror or str(problem)) from None

    def _unusable(self, why: str) -> LocalMisuse:
        return LocalMisuse(
            f"The mediator's home {self.root} cannot be used.",
            why=f"{why[:1].upper()}{why[1:]}.",
            fix=f"Name a folder of yours with --home DIR or {VARIABLE}.",
        )


def check_public_url(url: str) -> str:
    """A public URL as it goes into the DID: http or https, a host, no query. Raises `LocalMisuse`."""
    try:
        parts = urlsplit(url)
        fits = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        fits = False
    if not fits or parts.query or parts.fragment or parts.username is not None:
        raise LocalMisuse(
            f"{url!r} cannot be the public URL of a mediator.",
            fix="It looks like  https://mediator.example.org",
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_url(host: str, port: int) -> str:
    """The URL under which this machine reaches what listens there."""
    if host in ANY_ADDRESS:
        host = "::1" if host == "::" else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _platform_default() -> Path:
    import platformdirs  # noqa: PLC0415  (not needed where a home is named)

    return Path(platformdirs.user_data_dir("didmpc", appauthor=False)) / "mediator"
