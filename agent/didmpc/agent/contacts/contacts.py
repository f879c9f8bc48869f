"""The people this agent knows: by a name of ours, and by the DID that they use towards us alone."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from didmpc.agent.wallet.wallet import Wallet
from didmpc.protocols.did import canonical, same_party
from didmpc.protocols.errors import DidError, LocalMisuse

MAX_NAME = 64
MAX_CONTACTS = 10_000


@dataclass(frozen=True, slots=True)
class Rotation:
    """Our DID towards a contact is newer than the one it wrote to: told until it uses the new one."""

    from_prior: str
    thread: str  # of its contact request, which may come again
    answer: str  # our part of the pair secret, to answer that alike

    def __repr__(self) -> str:
        return f"Rotation(thread={self.thread!r}, ...)"


@dataclass(frozen=True, slots=True)
class Contact:
    """Someone we exchanged keys with."""

    name: str
    did: str  # theirs, long form
    my_did: str  # ours towards them
    label: str  # how they call themselves; nothing proves it
    pair_secret: bytes
    since: int
    invitation: str  # its id
    rotation: Rotation | None = None
    verified_at: int = 0  # when the people compared words: nothing else excludes a third one in between

    def __repr__(self) -> str:
        return f"Contact({self.name!r}, did={self.did[:32]!r}..., pair_secret=<secret>)"

    @property
    def verified(self) -> bool:
        return self.verified_at > 0

    @property
    def from_prior(self) -> str | None:
        return self.rotation.from_prior if self.rotation else None

    def public(self) -> dict[str, Any]:
        """For a person."""
        return {
            "name": self.name,
            "did": self.did,
            "label": self.label,
            "since": self.since,
            "verified": self.verified,
            "verified_at": self.verified_at or None,
        }

    def to_json(self) -> dict[str, Any]:
        """With the pair secret: for the wallet only."""
        stored: dict[str, Any] = {
            "name": self.name,
            "did": self.did,
            "my_did": self.my_did,
            "label": self.label,
            "pair_secret": base64.b64encode(self.pair_secret).decode(),
            "since": self.since,
            "invitation": self.invitation,
            "verified_at": self.verified_at,
        }
        if self.rotation is not None:
            stored["rotation"] = {
                "from_prior": self.rotation.from_prior,
                "thread": self.rotation.thread,
                "answer": self.rotation.answer,
            }
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Contact":
        rotation = stored.get("rotation")
        return cls(
            name=str(stored["name"]),
            did=str(stored["did"]),
            my_did=str(stored["my_did"]),
            label=str(stored["label"]),
            pair_secret=base64.b64decode(stored["pair_secret"]),
            since=int(stored["since"]),
            invitation=str(stored["invitation"]),
            rotation=Rotation(**rotation) if rotation else None,
            verified_at=int(stored.get("verified_at") or 0),
        )


class Contacts:
    """The contacts of a wallet. Every change is durable when its method returns."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self._by_did: dict[str, Contact] = {}
        for stored in wallet.contacts:
            contact = Contact.from_json(stored)
            self._by_did[canonical(contact.did)] = contact

    def __len__(self) -> int:
        return len(self._by_did)

    def __iter__(self) -> Iterator[Contact]:
        return iter(self.all())

    def all(self) -> list[Contact]:
        """Everyone, by name."""
        return sorted(self._by_did.values(), key=lambda contact: contact.name.casefold())

    def find(self, name: str) -> Contact:
        """The contact of this name, whatever its case. Raises with the names that there are."""
        for same in (str, str.casefold):
            found = [contact for contact in self._by_did.values() if same(contact.name) == same(name)]
            if len(found) == 1:
                return found[0]
        names = [contact.name for contact in self.all()]
        raise LocalMisuse(
            f"There is no contact called {name!r}.",
            why=f"Known are: {', '.join(names[:20])}." if names else "This agent has no contacts yet.",
            fix="See them: didmpc contacts" if names else "Invite someone: didmpc invite",
        )

    def by_did(self, did: str) -> Contact | None:
        """Who uses this DID towards us, in either form."""
        try:
            return self._by_did.get(canonical(did))
        except DidError:
            return None

    def by_invitation(self, invitation: str, my_did: str | None = None) -> Contact | None:
        """The contact that came of an invitation which we accepted."""
        for contact in self._by_did.values():
            if contact.invitation == invitation and (my_did is None or same_party(contact.my_did, my_did)):
                return contact
        return None

    def free_name(self, wanted: str) -> str:
        """`wanted`, or the first of `wanted-2`, `wanted-3`... that nobody has."""
        taken = {contact.name.casefold() for contact in self._by_did.values()}
        name, number = wanted, 2
        while name.casefold() in taken:
            name, number = f"{wanted}-{number}", number + 1
        return name

    def is_taken(self, name: str) -> bool:
        return self.free_name(name) != name

    async def add(self, contact: Contact) -> Contact:
        """Keep a new contact; its name is made unique."""
        if len(self._by_did) >= MAX_CONTACTS:
            raise LocalMisuse(f"This agent has {MAX_CONTACTS} contacts, which is the limit.")
        contact = replace(contact, name=self.free_name(contact.name))
        await self._put(contact)
        return contact

    async def rotated(self, old: str, new: str) -> None:
        """A contact proved that `new` follows its DID `old`."""
        contact = self.by_did(old)
        if contact is not None and self.by_did(new) is None:
            del self._by_did[canonical(old)]
            await self._put(replace(contact, did=new))

    async def confirmed(self, contact: Contact) -> None:
        """The contact was seen to use our new DID."""
        if contact.rotation is not None:
            await self._put(replace(contact, rotation=None))

    async def verified(self, contact: Contact, at: int) -> None:
        """The people compared the words of a session in which this contact proved itself."""
        await self._put(replace(contact, verified_at=at))

    async def _put(self, contact: Contact) -> None:
        self._by_did[canonical(contact.did)] = contact
        self._wallet.contacts = [each.to_json() for each in self._by_did.values()]
        await self._wallet.save()


def check_name(name: str) -> str:
    """A name that a person chose. Names are listed with commas, so none may have one."""
    if clean_name(name) != name or not name:
        raise LocalMisuse(
            f"{name!r} cannot be the name of a contact.",
            why=f"A name has 1 to {MAX_NAME} printable characters and no comma.",
            fix="Choose another one: --as NAME",
        )
    return name


def clean_name(label: str) -> str:
    """A label of a peer as a name: printable, in one line, bounded. May come out empty."""
    printable = "".join(c if c.isprintable() and c != "," else " " for c in label[:4096])
    return " ".join(printable.split())[:MAX_NAME].strip()
