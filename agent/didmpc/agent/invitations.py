"""Invitations of this agent: each has a DID of its own, works once by default and expires.

One that was used or has expired is remembered for a while, so that whoever comes with it is told why.
"""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from didmpc.agent.mailbox import Mailbox
from didmpc.agent.wallet import Wallet
from didmpc.protocols.did import canonical, same_party
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.message import new_id
from didmpc.protocols.namespace import NAMESPACE
from didmpc.protocols.out_of_band import Invitation

GOAL_CODE = f"{NAMESPACE}/contact"
GOAL = "Become contacts, to compute together"
EXPIRES = 24 * 3600
LONGEST = 366 * 24 * 3600
MOST_USES = 1000
MOST_OPEN = 256
REMEMBERED = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Issued:
    """An invitation that we gave away."""

    id: str
    did: str
    expires: int
    uses: int
    used_by: tuple[str, ...] = ()  # canonical DIDs

    @property
    def used_up(self) -> bool:
        return len(self.used_by) >= self.uses

    def expired(self, now: float) -> bool:
        return now >= self.expires

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Issued":
        return cls(**{**stored, "used_by": tuple(stored["used_by"])})


class Invitations:
    """Makes and remembers them."""

    def __init__(self, wallet: Wallet, mailbox: Mailbox) -> None:
        self._wallet = wallet
        self._mailbox = mailbox
        self._issued: dict[str, Issued] = {}
        self.reload()

    def reload(self) -> None:
        """Take what the wallet holds now."""
        self._issued = {stored["id"]: Issued.from_json(stored) for stored in self._wallet.invitations}

    async def create(self, *, expires: float | None = None, uses: int | None = None) -> dict[str, Any]:
        """A new invitation as URL, with its id and the time it ends."""
        lifetime = EXPIRES if expires is None else expires
        uses = 1 if uses is None else uses
        if not 1 <= lifetime <= LONGEST or not 1 <= uses <= MOST_USES:
            raise LocalMisuse(
                "An invitation cannot last so long or be used so often.",
                why=f"At most {LONGEST // 86400} days and {MOST_USES} uses.",
            )
        await self.prune()
        now = time.time()
        if sum(not each.expired(now) and not each.used_up for each in self._issued.values()) >= MOST_OPEN:
            raise LocalMisuse(
                f"{MOST_OPEN} invitations are open already.", fix="Wait until some were used or have expired."
            )
        identity = await self._mailbox.new_identity(keep=True)
        issued = Issued(new_id(), identity.did, int(now + lifetime), uses)
        await self._put(issued)
        invitation = Invitation(
            from_=identity.did,
            id=issued.id,
            goal_code=GOAL_CODE,
            goal=GOAL,
            label=self._wallet.settings.label,
            created_time=int(now),
            expires_time=issued.expires,
        )
        url = invitation.to_url(_base(self._mailbox.http_uri))
        return {"url": url, "id": issued.id, "expires": issued.expires}

    def find(self, invitation: str | None, did: str) -> Issued | None:
        """The invitation of this id, if it was written to at its own DID."""
        issued = self._issued.get(invitation or "")
        return issued if issued is not None and same_party(issued.did, did) else None

    async def use(self, issued: Issued, by: str) -> None:
        """Count a use; whoever used it before counts once."""
        users = dict.fromkeys((*issued.used_by, canonical(by)))
        await self._put(replace(issued, used_by=tuple(users)))

    async def prune(self) -> None:
        """Forget those that ended long ago, with their DIDs."""
        limit = time.time() - REMEMBERED
        for issued in [each for each in self._issued.values() if each.expires < limit]:
            del self._issued[issued.id]
            self._wallet.invitations = [asdict(each) for each in self._issued.values()]
            await self._mailbox.drop_identity(issued.did)

    async def _put(self, issued: Issued) -> None:
        self._issued[issued.id] = issued
        self._wallet.invitations = [asdict(each) for each in self._issued.values()]
        await self._wallet.save()


def _base(mediator: str) -> str:
    """The mediator's page shows people what the invitation is; a bare host needs a path before a query."""
    parts = urlsplit(mediator or "https://didcomm.org/")
    return urlunsplit(parts._replace(path=parts.path or "/"))
