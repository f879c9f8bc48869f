"""Invitations of this agent: each has a DID of its own, works once by default and expires.

One that was used or has expired is remembered for a while, so that whoever comes with it is told why.
"""

import logging
import time
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from didmpc.agent.mailbox import Mailbox
from didmpc.agent.wallet import Wallet
from didmpc.protocols import shorten_url
from didmpc.protocols.did import canonical, same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.message import new_id
from didmpc.protocols.namespace import NAMESPACE
from didmpc.protocols.out_of_band import Invitation
from didmpc.protocols.shorten_url import ShortLink

log = logging.getLogger(__name__)

GOAL_CODE = f"{NAMESPACE}/contact"
GOAL = "Become contacts, to compute together"
EXPIRES = 24 * 3600
LONGEST = 366 * 24 * 3600
MOST_USES = 1000
MOST_OPEN = 256
SHORTEN_WITHIN = 5.0
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
        long_url = invitation.to_url(_base(self._mailbox.http_uri))
        url = await self._shortened(invitation, long_url, int(lifetime))
        return {"url": url, "long_url": long_url, "id": issued.id, "expires": issued.expires}

    async def _shortened(self, invitation: Invitation, long_url: str, lifetime: int) -> str:
        """A link short enough to read out or to scan, where the mediator makes such; else the long one."""
        if not self._mailbox.supports(shorten_url.PROTOCOL):
            return long_url
        request = shorten_url.request(long_url, lifetime)
        try:
            answer = await self._mailbox.ask_mediator(request.type, request.body, timeout=SHORTEN_WITHIN)
            link = ShortLink.to(invitation, shorten_url.parse_shortened(answer))
        except DidmpcError as problem:
            log.warning("no short link: %s", problem)
            return long_url
        return str(link) if ShortLink.find(str(link)) == link else long_url

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
