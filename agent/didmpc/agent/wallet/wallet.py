"""The wallet: the private keys and the memory of an agent, in one encrypted file.

`wallet.json` is rewritten whole and at once, so a crash leaves the old or the new state. Identities that
are kept survive a restart; those that are not (of one MPC session) live in memory only.
"""

import asyncio
import contextlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.keystore import Lock, Sealed, discard_lock, find_lock, new_lock
from didmpc.local.private_files import write_private
from didmpc.protocols.did import canonical
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identities, Identity

LARGEST_FILE = 64 * 1024 * 1024


@dataclass(slots=True)
class Settings:
    """What the agent remembers about itself. Nothing here is secret."""

    label: str = ""
    did: str = ""  # the DID that names this agent to people (`didmpc agent did`)
    mediator: str = ""  # long DID of the mediator used last
    embedded: bool = False  # it is the one that this agent runs itself
    accounts: dict[str, str] = field(default_factory=dict)  # canonical mediator DID -> our account DID

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Settings":
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: content for name, content in value.items() if name in known})


class Wallet:
    """An opened wallet. Change it through its methods or its lists, then `await save()`."""

    def __init__(self, home: Home, lock: Lock) -> None:
        self._home = home
        self._lock = lock
        self._kept: set[str] = set()
        self._writing = asyncio.Lock()
        self.identities = Identities()
        self.settings = Settings()
        self.contacts: list[dict[str, Any]] = []
        self.invitations: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []  # contact requests of ours that await an answer
        self.visits: list[dict[str, Any]] = []  # lobbies that we came to by a link

    def __repr__(self) -> str:
        return f"Wallet({self._home.root}, {self._lock.words})"

    @classmethod
    def open(cls, home: Home, passphrase: str | None = None) -> "Wallet":
        """The wallet of a home; made when there is none.

        A passphrase given for a wallet that had none encrypts it anew under the passphrase.
        """
        try:
            if home.wallet.stat().st_size > LARGEST_FILE:
                raise DidmpcError("The wallet file is far too large.", fix="Put back a copy of wallet.json.")
            data = home.wallet.read_bytes()
        except FileNotFoundError:
            return cls._create(home, passphrase)
        except OSError as problem:
            raise DidmpcError(
                f"The wallet {home.wallet} cannot be read.",
                why=problem.strerror or "",
                fix="Check who owns the file.",
            ) from problem
        sealed = Sealed.parse(data)
        lock = find_lock(home, sealed.description, passphrase)
        wallet = cls(home, lock)
        wallet._restore(sealed.open(lock))
        if passphrase is not None and lock.kind != "passphrase":
            wallet._lock = new_lock(home, passphrase)
            wallet._write(wallet._lock.seal(wallet._snapshot()))
            discard_lock(home, lock)
        return wallet

    @classmethod
    def _create(cls, home: Home, passphrase: str | None) -> "Wallet":
        wallet = cls(home, new_lock(home, passphrase))
        wallet._write(wallet._lock.seal(wallet._snapshot()))
        return wallet

    @property
    def encryption(self) -> str:
        """How the file is protected, in words: "passphrase", "OS keyring" or "key file"."""
        return self._lock.words

    @property
    def only_key_file(self) -> bool:
        """Whether whoever copies the whole home has the keys."""
        return self._lock.kind == "keyfile"

    def add(self, identity: Identity, *, keep: bool) -> None:
        self.identities.add(identity)
        if keep:
            self._kept.add(canonical(identity.did))

    def remove(self, did: str) -> None:
        self.identities.remove(did)
        self._kept.discard(canonical(did))

    def is_kept(self, did: str) -> bool:
        return canonical(did) in self._kept

    def identity(self, did: str) -> Identity:
        """An identity that must be here."""
        identity = self.identities.identity(did)
        if identity is None:
            raise DidmpcError(
                f"The keys of {did[:32]}... are not in this wallet.",
                why="The wallet was changed by something else.",
                fix="Put back a copy of the home.",
            )
        return identity

    def forget_orphans(self) -> None:
        """Forget DIDs that nothing uses: made by a process that was killed before it stored why."""
        used = {
            self.settings.did,
            *self.settings.accounts.values(),
            *(str(contact["my_did"]) for contact in self.contacts),
            *(str(request["my_did"]) for request in self.requests),
            *(str(invitation["did"]) for invitation in self.invitations),
            *(str(visit["my_did"]) for visit in self.visits),
        }
        for did in self._kept - {canonical(did) for did in used if did}:
            self.remove(did)

    def forget_mail(self) -> None:
        """Forget what only made sense at the mediator of before; accounts stay, should one return."""
        accounts = {canonical(did) for did in self.settings.accounts.values()}
        for did in self._kept - accounts:
            self.identities.remove(did)
        self._kept &= accounts
        self.invitations = []
        self.requests = []
        self.visits = []

    async def save(self) -> None:
        """Make the present state durable. Returns when it is."""
        async with self._writing:
            content = self._lock.seal(self._snapshot())
            # A cancelled caller must not leave a half-done write behind the lock.
            await asyncio.shield(asyncio.to_thread(self._write, content))

    def _write(self, content: bytes) -> None:
        try:
            write_private(self._home.wallet, content)
        except OSError as problem:
            raise DidmpcError(
                f"The wallet {self._home.wallet} cannot be written.",
                why=problem.strerror or str(problem),
                fix="Make room or check the permissions of the folder.",
            ) from problem

    def _snapshot(self) -> bytes:
        kept = [identity.to_json() for identity in self.identities if canonical(identity.did) in self._kept]
        return json.dumps(
            {
                "settings": asdict(self.settings),
                "identities": kept,
                "contacts": self.contacts,
                "invitations": self.invitations,
                "requests": self.requests,
                "visits": self.visits,
            }
        ).encode()

    def _restore(self, content: bytes) -> None:
        try:
            state = json.loads(content)
            self.settings = Settings.from_json(state["settings"])
            for stored in state["identities"]:
                self.add(Identity.from_json(stored), keep=True)
            self.contacts, self.invitations, self.requests = (
                list(state[name]) for name in ("contacts", "invitations", "requests")
            )
            self.visits = list(state.get("visits", ()))
        except (ValueError, KeyError, TypeError) as problem:
            raise DidmpcError(
                "The wallet is damaged.",
                why="It opens, but its content is not what this version writes.",
                fix="Install the newest didmpc, or put back a copy of wallet.json.",
            ) from problem


def leftovers(home: Home) -> None:
    """Remove temporary files of a process that was killed while it wrote."""
    for path in home.root.glob(f".{home.wallet.name}.*"):
        with contextlib.suppress(OSError):
            path.unlink()
