"""Invitations of this agent: each has a DID of its own, expires, and can be revoked.

One kind makes contacts, once by default (`contact_exchange`); the other invites to a lobby, where people
gather for one computation (`sessions.door`). One that was used, revoked or has expired is remembered for a
while, so that whoever comes with it is told why.
"""

import logging
import time
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.wallet.wallet import Wallet
from didmpc.protocols.did import canonical, same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.message import new_id
from didmpc.protocols.messages import shorten_url
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.messages.shorten_url import ShortLink
from didmpc.protocols.mpc import lobby
from didmpc.protocols.namespace import NAMESPACE

log = logging.getLogger(__name__)

GOAL_CODE = f"{NAMESPACE}/contact"
GOAL = "Become contacts, to compute together"
LOBBY_GOAL = "Compute together"
EXPIRES = 24 * 3600
LONGEST = 366 * 24 * 3600
MOST_USES = 1000
MOST_OPEN = 256
SHORTEN_WITHIN = 5.0
REMEMBERED = 7 * 24 * 3600.0
SHORTEST_PREFIX = 4  # of an id that a person types


@dataclass(frozen=True, slots=True)
class Issued:
    """An invitation that we gave away: to become a contact, or to the lobby of an attempt."""

    id: str
    did: str
    expires: int
    uses: int
    used_by: tuple[str, ...] = ()  # canonical DIDs; of a lobby's guests nothing is kept
    attempt: str = ""  # whose lobby it leads to; empty: it makes a contact
    about: str = ""  # what is computed there, for people
    terms: str = ""  # a hash of what was proposed, which must be the same when the lobby is opened again
    ended: str = ""  # "revoked", "begun" or "closed": why nobody is taken any more
    url: str = ""

    @property
    def used_up(self) -> bool:
        return not self.attempt and len(self.used_by) >= self.uses

    def open(self, now: float) -> bool:
        """Whether somebody may still come with it."""
        return not (self.ended or self.used_up or self.expired(now))

    def public(self, now: float) -> dict[str, Any]:
        """For a list that people read."""
        past = "used" if self.used_up else "expired" if self.expired(now) else "open"
        return {
            "id": self.id,
            "for": "computation" if self.attempt else "contact",
            "about": self.about,
            "uses": self.uses,
            "used": len(self.used_by),
            "expires": self.expires,
            "state": self.ended or past,
            "url": self.url,
        }

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

    async def create(
        self,
        *,
        expires: float | None = None,
        uses: int | None = None,
        attempt: str = "",
        about: str = "",
        terms: str = "",
    ) -> dict[str, Any]:
        """A new invitation as URL, with its id and its end; with `attempt` to the lobby of that."""
        lifetime = EXPIRES if expires is None else expires
        uses = 1 if uses is None else uses
        if not 1 <= lifetime <= LONGEST or not 1 <= uses <= MOST_USES:
            raise LocalMisuse(
                "An invitation cannot last so long or be used so often.",
                why=f"At most {LONGEST // 86400} days and {MOST_USES} uses.",
            )
        await self.prune()
        now = time.time()
        if sum(each.open(now) for each in self._issued.values()) >= MOST_OPEN:
            raise LocalMisuse(
                f"{MOST_OPEN} invitations are open already.",
                fix="See them:  didmpc invite --list     Take one back:  didmpc invite --revoke ID",
            )
        identity = await self._mailbox.new_identity(keep=True)
        issued = Issued(
            *(new_id(), identity.did, int(now + lifetime), uses), attempt=attempt, about=about, terms=terms
        )
        invitation = Invitation(
            from_=identity.did,
            id=issued.id,
            goal_code=lobby.GOAL_CODE if attempt else GOAL_CODE,
            goal=LOBBY_GOAL if attempt else GOAL,
            label=self._wallet.settings.label,
            created_time=int(now),
            expires_time=issued.expires,
        )
        long_url = invitation.to_url(_base(self._mailbox.http_uri))
        # Before its link is known to anybody: a killed agent must not have given away what it forgot.
        await self._put(issued)
        url = await self._shortened(invitation, long_url, int(lifetime))
        await self._put(replace(self._issued[issued.id], url=url))
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

    def get(self, id_: str) -> Issued | None:
        """The invitation of this id."""
        return self._issued.get(id_)

    def list(self) -> list[dict[str, Any]]:
        """All that are remembered, the newest end first."""
        now = time.time()
        return [
            issued.public(now)
            for issued in sorted(self._issued.values(), key=lambda each: each.expires, reverse=True)
        ]

    def named(self, given: str) -> Issued:
        """The invitation of an id or its beginning, or of a link. Raises `LocalMisuse`."""
        matching = [
            issued
            for issued in self._issued.values()
            if given in (issued.id, issued.url)
            or (len(given) >= SHORTEST_PREFIX and issued.id.startswith(given))
        ]
        if len(matching) != 1:
            raise LocalMisuse(
                f"No invitation of yours is called {given[:80]!r}."
                if not matching
                else f"{len(matching)} invitations of yours begin with {given!r}.",
                fix="See them:  didmpc invite --list",
            )
        return matching[0]

    async def end(self, issued: Issued, why: str) -> Issued:
        """Take nobody any more: `why` is "revoked", "begun" or "closed". What ended before stays as it is."""
        kept = self._issued.get(issued.id, issued)
        if not kept.ended:
            kept = replace(kept, ended=why)
            await self._put(kept)
        return kept

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
