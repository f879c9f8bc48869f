"""The key under which a wallet is encrypted, and where that key comes from.

    passphrase   scrypt (RFC 7914) over a passphrase that only the owner knows
    keyring      a random key that the operating system's keyring holds
    keyfile      a random key in a file beside the wallet: keeps a copied wallet file shut, but whoever
                 copies the whole home has both

The wallet is sealed with AES-256-GCM; the description of the key is authenticated with it.
"""

import base64
import binascii
import json
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from didmpc.agent.wallet.home import Home
from didmpc.local.private_files import write_private
from didmpc.protocols.errors import DidmpcError, LocalMisuse

FORMAT = "didmpc-wallet/1"
SCRYPT = {"n": 2**15, "r": 8, "p": 1}  # 32 MiB, about 0.1 s
SCRYPT_LIMIT = 2**20  # of n * r * p: a doctored file must not exhaust the machine
KEYRING_SERVICE = "didmpc"
KEYRING_TIMEOUT = 1.5  # a keyring may wait for a person at a desktop who is not there
KEY_LENGTH = 32

KEY_FILE_WARNING = (
    "The keys in this home are protected by a key file beside them only: whoever copies the whole folder"
    " has both. Use --passphrase-file FILE to encrypt them under a passphrase."
)


class WrongKey(LocalMisuse):
    """The wallet does not open with the key at hand. Nothing was changed."""


@dataclass(frozen=True, slots=True, repr=False)
class Lock:
    """A key with the public description of where it comes from."""

    description: Mapping[str, Any]
    key: bytes

    def __repr__(self) -> str:
        return f"Lock({self.kind}, key=<secret>)"

    @property
    def kind(self) -> str:
        return str(self.description["kind"])

    @property
    def words(self) -> str:
        """How a person would say it."""
        return {"passphrase": "passphrase", "keyring": "OS keyring", "keyfile": "key file"}[self.kind]

    def seal(self, content: bytes) -> bytes:
        """The wallet file. The nonce is fresh and random each time."""
        nonce = secrets.token_bytes(12)
        sealed = AESGCM(self.key).encrypt(nonce, content, _associated(self.description))
        return json.dumps(
            {
                "format": FORMAT,
                "protection": dict(self.description),
                "nonce": _text(nonce),
                "content": _text(sealed),
            },
            indent=1,
        ).encode()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A wallet file that was read but not opened."""

    description: Mapping[str, Any]
    nonce: bytes
    content: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Sealed":
        try:
            value = json.loads(data)
            if value["format"] != FORMAT or not isinstance(value["protection"], dict):
                raise ValueError("unknown format")
            return cls(value["protection"], _bytes(value["nonce"]), _bytes(value["content"]))
        except (ValueError, KeyError, TypeError, RecursionError) as problem:
            raise DidmpcError(
                "The wallet file is damaged.",
                why="It is not what this version writes.",
                fix="Put back a copy of wallet.json, or name another home with --home DIR.",
            ) from problem

    def open(self, lock: Lock) -> bytes:
        try:
            return AESGCM(lock.key).decrypt(self.nonce, self.content, _associated(self.description))
        except (InvalidTag, ValueError) as problem:
            if lock.kind == "passphrase":
                raise WrongKey(
                    "The passphrase does not open the keys in this home.",
                    fix="Check --passphrase-file and try again; nothing was changed.",
                ) from problem
            raise WrongKey(
                f"The {lock.words} does not open the keys in this home.",
                why="Either was replaced or damaged; nothing was changed.",
                fix="Put back a copy of the home, or name another one with --home DIR.",
            ) from problem


def new_lock(home: Home, passphrase: str | None) -> Lock:
    """A fresh key: under the passphrase, else in the OS keyring, else in a key file."""
    if passphrase is not None:
        if not passphrase:
            raise LocalMisuse(
                "The passphrase is empty.", fix="Put one line of text into the passphrase file."
            )
        description = {
            "kind": "passphrase",
            "kdf": "scrypt",
            **SCRYPT,
            "salt": _text(secrets.token_bytes(16)),
        }
        return Lock(description, _scrypt(passphrase, description))
    key = secrets.token_bytes(KEY_LENGTH)
    account = secrets.token_hex(16)
    if _keyring_put(account, key):
        return Lock({"kind": "keyring", "account": account}, key)
    write_private(home.key_file, _text(key).encode() + b"\n")
    return Lock({"kind": "keyfile"}, key)


def find_lock(home: Home, description: Mapping[str, Any], passphrase: str | None) -> Lock:
    """The key that a wallet file asks for."""
    match description.get("kind"):
        case "passphrase":
            if passphrase is None:
                raise LocalMisuse(
                    f"The keys in {home.root} are encrypted under a passphrase.",
                    fix="Give it: didmpc agent start --passphrase-file FILE",
                )
            return Lock(description, _scrypt(passphrase, description))
        case "keyring":
            key = _keyring_get(str(description.get("account")))
            if key is None:
                raise DidmpcError(
                    f"The key of {home.root} is not in the OS keyring.",
                    why="The keyring is locked, was replaced, or belongs to another user or desktop session.",
                    fix="Unlock the keyring and start again; nothing was changed.",
                )
            return Lock(description, key)
        case "keyfile":
            try:
                return Lock(description, _key(home.key_file.read_text()))
            except (OSError, ValueError) as problem:
                raise DidmpcError(
                    f"The key file {home.key_file} is missing or damaged.",
                    why="Without it the keys in this home cannot be read.",
                    fix="Put back the file from a copy of the home, or name another home with --home DIR.",
                ) from problem
        case _:
            raise DidmpcError(
                "The wallet file asks for a kind of key that this version does not know.",
                fix="Install the newest didmpc.",
            )


def discard_lock(home: Home, lock: Lock) -> None:
    """Remove a key that no longer protects anything."""
    if lock.kind == "keyfile":
        home.key_file.unlink(missing_ok=True)
    elif lock.kind == "keyring":
        _keyring_remove(str(lock.description["account"]))


def _scrypt(passphrase: str, description: Mapping[str, Any]) -> bytes:
    try:
        n, r, p = (int(description[name]) for name in ("n", "r", "p"))
        salt = _bytes(description["salt"])
        if not 0 < n * r * p <= SCRYPT_LIMIT or description["kdf"] != "scrypt":
            raise ValueError("scrypt parameters out of bounds")
        return Scrypt(salt=salt, length=KEY_LENGTH, n=n, r=r, p=p).derive(passphrase.encode())
    except (KeyError, ValueError, TypeError) as problem:
        raise DidmpcError(
            "The wallet file is damaged.",
            why="How its key comes from the passphrase cannot be read.",
            fix="Put back a copy of wallet.json.",
        ) from problem


# The OS keyring. Only a real one counts: the `fail`, `null` and plaintext backends of the library are
# refused, and whatever a backend raises means that there is none.


def _keyring_put(account: str, key: bytes) -> bool:
    def put(backend: Any) -> bool:
        backend.set_password(KEYRING_SERVICE, account, _text(key))
        return bool(backend.get_password(KEYRING_SERVICE, account) == _text(key))

    return _with_keyring(put) is True


def _keyring_get(account: str) -> bytes | None:
    found = _with_keyring(lambda backend: backend.get_password(KEYRING_SERVICE, account))
    try:
        return _key(found) if isinstance(found, str) else None
    except ValueError:
        return None


def _keyring_remove(account: str) -> None:
    _with_keyring(lambda backend: backend.delete_password(KEYRING_SERVICE, account))


def _with_keyring(use: Any) -> Any:
    """Do something with the real keyring of this system; None when there is none or it does not answer."""
    result: list[Any] = []

    def work() -> None:
        try:
            backend = _real_keyring()
            if backend is not None:
                result.append(use(backend))
        except Exception:  # backends raise whatever their system calls raise
            return

    thread = threading.Thread(target=work, name="keyring", daemon=True)
    thread.start()
    thread.join(KEYRING_TIMEOUT)
    return result[0] if result else None


def _real_keyring() -> Any:
    if not os.environ.get("DBUS_SESSION_BUS_ADDRESS") and os.uname().sysname == "Linux":
        return None  # no desktop session: do not even look (saves a second at the start)
    import keyring  # noqa: PLC0415  (slow, and often not needed)

    backend = keyring.get_keyring()
    for candidate in getattr(backend, "backends", [backend]):
        module = type(candidate).__module__
        if module.startswith(("keyring.backends.fail", "keyring.backends.null", "keyrings.")):
            continue
        if candidate.priority >= 1:
            return candidate
    return None


def _associated(description: Mapping[str, Any]) -> bytes:
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return f"{FORMAT} {canonical}".encode()


def _key(text: str) -> bytes:
    key = _bytes(text.strip())
    if len(key) != KEY_LENGTH:
        raise ValueError("not a key")
    return key


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as problem:
        raise ValueError("not base64") from problem
