"""contact/1.0: from an invitation to a contact on both sides.

    acceptor, from a fresh DID                       inviter, at the DID of the invitation
    request  {label, secret}  pthid = invitation ->
                                                  <- response {label, secret}   from a fresh DID of its own,
                                                     with from_prior signed by the invitation's DID
    complete {}                                  ->  (from now on the inviter leaves from_prior out)

Both secrets are 32 random bytes inside authcrypt; the pair secret comes of both and of both DIDs. The
inviter keeps the contact before it answers, so the acceptor knows at the response that both have it. A
request that comes again is answered again, alike.
"""

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from didmpc.agent.contacts.contacts import Contact, Contacts, Rotation, check_name, clean_name
from didmpc.agent.contacts.invitations import GOAL_CODE, Invitations
from didmpc.agent.control.server import Stream
from didmpc.agent.mailbox.mailbox import Mailbox, Standing
from didmpc.agent.wallet.wallet import Wallet
from didmpc.protocols import from_prior
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.did import canonical, did_of, same_party
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError, RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.messages import problem_report
from didmpc.protocols.messages.body import expect, optional, required, text
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.mpc import lobby
from didmpc.protocols.mpc import messages as mpc
from didmpc.protocols.namespace import NAMESPACE

PROTOCOL = f"{NAMESPACE}/contact/1.0"
REQUEST = f"{PROTOCOL}/request"
RESPONSE = f"{PROTOCOL}/response"
COMPLETE = f"{PROTOCOL}/complete"

EXPIRED = "e.p.req.invitation.expired"
USED = "e.p.req.invitation.used"
UNKNOWN = "e.p.req.invitation.unknown"
REVOKED = "e.p.req.invitation.revoked"

SECRET = 32
ANSWER_WITHIN = 30.0  # seconds that `accept` waits by default
ASK_AGAIN = 8.0
SEND_WITHIN = 10.0
MOST_REQUESTS = 64  # of ours that nobody answered yet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A contact request of ours that awaits its answer; it outlives a restart."""

    invitation: str
    inviter: str
    label: str
    my_did: str
    secret: bytes
    name: str  # that the person gave; empty: by the inviter's label
    thread: str
    expires: int

    def __repr__(self) -> str:
        return f"Request(invitation={self.invitation!r}, secret=<secret>)"

    def to_json(self) -> dict[str, Any]:
        return {
            "invitation": self.invitation,
            "inviter": self.inviter,
            "label": self.label,
            "my_did": self.my_did,
            "secret": b64url(self.secret),
            "name": self.name,
            "thread": self.thread,
            "expires": self.expires,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Request":
        return cls(**{**stored, "secret": unb64url(stored["secret"])})


class ContactExchange:
    """Both sides of the protocol."""

    def __init__(
        self, wallet: Wallet, mailbox: Mailbox, contacts: Contacts, invitations: Invitations
    ) -> None:
        self._wallet = wallet
        self._mailbox = mailbox
        self._contacts = contacts
        self._invitations = invitations
        self._requests: dict[str, Request] = {}
        self._waiting: dict[str, asyncio.Future[Contact]] = {}
        self.reload()
        mailbox.on(REQUEST, self._on_request)
        mailbox.on(RESPONSE, self._on_response)
        mailbox.on(COMPLETE, self._on_complete)
        mailbox.on(problem_report.PROBLEM_REPORT, self._on_problem)
        mailbox.on_rotation(contacts.rotated)
        mailbox.observe(self._heard)
        mailbox.standing = self._standing

    def reload(self) -> None:
        """Take what the wallet holds now."""
        self._requests = {stored["thread"]: Request.from_json(stored) for stored in self._wallet.requests}

    # --- the acceptor

    async def accept(
        self, pasted: str, name: str | None, stream: Stream, *, timeout: float = ANSWER_WITHIN
    ) -> Contact:
        """Answer an invitation and wait until both sides have the contact."""
        invitation = self._check(await self._mailbox.invitation(pasted))
        if name is not None and self._contacts.is_taken(check_name(name)):
            raise LocalMisuse(
                f"You already have a contact called {name!r}.", fix="Choose another one: --as NAME"
            )
        request = await self._request_for(invitation, name)
        answered: asyncio.Future[Contact] = asyncio.get_running_loop().create_future()
        self._waiting[request.thread] = answered
        asking = asyncio.create_task(self._ask(request, answered))
        inviter = clean_name(request.label) or "the inviter"
        mediator = self._mailbox.host_of(request.inviter)
        try:
            await stream.event({"event": "waiting", "for": [inviter], "seconds_left": round(timeout)})
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            raise DidmpcError(
                f"{inviter} has not answered yet.",
                why=f"The mediator {mediator} holds your request until that agent is back online.",
                fix="Look again later: didmpc contacts",
            ) from None
        finally:
            del self._waiting[request.thread]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def _check(self, invitation: Invitation) -> Invitation:
        """Refuse at once what cannot become a contact."""
        goal = invitation.goal_code or ""
        if "mediat" in goal:
            raise LocalMisuse(
                "This is the invitation of a mediator, not of a person.",
                fix="Use it when you start your agent: didmpc agent start --mediator INVITATION",
            )
        if goal == lobby.GOAL_CODE:
            raise LocalMisuse(
                "This link invites you to a computation.",
                why="It does not make you contacts.",
                fix="Take part:  didmpc join LINK",
            )
        if goal != GOAL_CODE:
            raise LocalMisuse(
                "This invitation is not from a didmpc agent.",
                why=f"It is for {goal[:80]!r}." if goal else "It does not say what it is for.",
                fix="Ask for one that `didmpc invite` printed.",
            )
        if self._wallet.identities.identity(invitation.from_) is not None:
            raise LocalMisuse(
                "This is an invitation of your own.", fix="Send it to someone else, who accepts it there."
            )
        known = self._contacts.by_invitation(invitation.id)
        if known is not None:
            raise LocalMisuse(f"You accepted this invitation before: {known.name} is a contact of yours.")
        if invitation.expired(time.time()):
            raise _expired(invitation.label)
        return invitation

    async def _request_for(self, invitation: Invitation, name: str | None) -> Request:
        """A new request, or the one under way when the same invitation is accepted again."""
        await self._forget_expired()
        for request in self._requests.values():
            if request.invitation == invitation.id:
                if request.thread in self._waiting:
                    raise LocalMisuse("This invitation is being accepted by another command right now.")
                return request
        if len(self._requests) >= MOST_REQUESTS:
            raise LocalMisuse(
                f"{MOST_REQUESTS} requests of yours await an answer.", fix="Wait for some: didmpc contacts"
            )
        identity = await self._mailbox.new_identity(keep=True)
        message = Message(type=REQUEST)
        request = Request(
            invitation=invitation.id,
            inviter=invitation.from_,
            label=(invitation.label or "")[:256],
            my_did=identity.did,
            secret=secrets.token_bytes(SECRET),
            name=name or "",
            thread=message.id,
            expires=invitation.expires_time or int(time.time()) + 24 * 3600,
        )
        self._requests[request.thread] = request
        await self._save()
        return request

    async def _ask(self, request: Request, answered: asyncio.Future[Contact]) -> None:
        """Send the request, and again while there is no answer: whatever gets lost is made up for."""
        mine = self._wallet.identity(request.my_did)
        body = {"label": self._wallet.settings.label, "secret": b64url(request.secret)}
        first = True
        while True:
            headers: dict[str, Any] = {"id": request.thread} if first else {"thid": request.thread}
            message = Message(
                type=REQUEST, body=body, pthid=request.invitation, created_time=int(time.time()), **headers
            )
            try:
                await self._mailbox.send(message, mine, request.inviter, timeout=SEND_WITHIN)
            except DidmpcError as problem:
                if first and not answered.done():
                    answered.set_exception(_unreachable(request, problem))
                    return
            first = False
            await asyncio.sleep(ASK_AGAIN)

    async def _on_response(self, unpacked: Unpacked) -> None:
        message, sender = unpacked.message, _sender(unpacked)
        expect(message, RESPONSE)
        request = self._requests.get(message.thread)
        if request is None or not _written_to(unpacked, request.my_did):
            known = self._contacts.by_did(sender)
            if known is not None and _written_to(unpacked, known.my_did):
                self._complete_aside(known, message.thread)  # it did not get the first one
                return
            raise MessageError("A contact response does not answer a request of ours.")
        if message.from_prior is None:
            raise MessageError("A contact response does not prove that it is the inviter's.")
        old = from_prior.verify(message.from_prior, sender, self._mailbox.resolve)
        if not same_party(old, request.inviter):
            raise MessageError("A contact response proves another DID than the invitation's.")
        label = _label(message)
        did = self._mailbox.long_form(sender)
        contact = Contact(
            name=request.name or clean_name(label) or clean_name(request.label) or "unnamed",
            did=did,
            my_did=request.my_did,
            label=label,
            pair_secret=_pair_secret(
                inviter=(did, _secret(message)), acceptor=(request.my_did, request.secret)
            ),
            since=int(time.time()),
            invitation=request.invitation,
        )
        del self._requests[request.thread]
        self._wallet.requests = [each.to_json() for each in self._requests.values()]
        contact = await self._contacts.add(contact)
        log.info("a new contact: %s", contact.name)
        answered = self._waiting.get(request.thread)
        if answered is not None and not answered.done():
            answered.set_result(contact)
        self._complete_aside(contact, message.thread)

    def _complete_aside(self, contact: Contact, thread: str) -> None:
        self._mailbox.aside(self._complete(contact, thread), Standing.CONTACT)

    async def _complete(self, contact: Contact, thread: str) -> None:
        try:
            await self._mailbox.send_to_contact(
                contact, Message(type=COMPLETE, thid=thread), timeout=SEND_WITHIN
            )
        except DidmpcError as problem:
            # The inviter learns it from whatever we send next.
            log.info("a contact was not told that all is well: %s", problem)

    async def _on_problem(self, unpacked: Unpacked) -> None:
        problem = problem_report.parse(unpacked.message)
        request = self._requests.get(problem.about or "")
        log.info("a problem report: %s (%s)", clean_name(problem.text), problem.code[:80])
        if request is None or unpacked.sender is None or not same_party(unpacked.sender, request.inviter):
            return
        await self._forget(request)
        answered = self._waiting.get(request.thread)
        if answered is not None and not answered.done():
            answered.set_exception(_refusal(problem, request.label))

    async def _forget_expired(self) -> None:
        now = time.time()
        for request in [each for each in self._requests.values() if each.expires + 7 * 86400 < now]:
            await self._forget(request)

    async def _forget(self, request: Request) -> None:
        self._requests.pop(request.thread, None)
        self._wallet.requests = [each.to_json() for each in self._requests.values()]
        await self._mailbox.drop_identity(request.my_did)

    async def _save(self) -> None:
        self._wallet.requests = [each.to_json() for each in self._requests.values()]
        await self._wallet.save()

    # --- the inviter

    async def _on_request(self, unpacked: Unpacked) -> None:
        message, sender = unpacked.message, _sender(unpacked)
        expect(message, REQUEST)
        issued = self._invitations.find(message.pthid, did_of(unpacked.recipient_kid or ""))
        if issued is None:
            raise RemoteViolation("This invitation is not known here.", code=UNKNOWN)
        label, theirs = _label(message), _secret(message)
        known = self._contacts.by_did(sender)
        if known is not None:
            if known.rotation is not None and known.rotation.thread == message.thread:
                self._respond_aside(known, known.rotation)
            return
        if issued.attempt or issued.ended:
            raise RemoteViolation("This invitation was taken back.", code=REVOKED)
        if issued.used_up and canonical(sender) not in issued.used_by:
            raise RemoteViolation("This invitation was used already.", code=USED)
        if issued.expired(time.time()):
            raise RemoteViolation("This invitation has expired.", code=EXPIRED)
        await self._invitations.use(issued, sender)  # before anything waits: two may come at once
        old = self._wallet.identity(issued.did)
        mine = await self._mailbox.new_identity(keep=True)
        ours = secrets.token_bytes(SECRET)
        rotation = Rotation(from_prior.create(old, mine.did, time.time()), message.thread, b64url(ours))
        did = self._mailbox.long_form(sender)
        contact = await self._contacts.add(
            Contact(
                name=clean_name(label) or "unnamed",
                did=did,
                my_did=mine.did,
                label=label,
                pair_secret=_pair_secret(inviter=(mine.did, ours), acceptor=(did, theirs)),
                since=int(time.time()),
                invitation=issued.id,
                rotation=rotation,
            )
        )
        log.info("a new contact: %s", contact.name)
        self._respond_aside(contact, rotation)

    def _respond_aside(self, contact: Contact, rotation: Rotation) -> None:
        # Where it goes was a stranger's choice a moment ago: nothing waits for it, and it asks again.
        self._mailbox.aside(self._respond(contact, rotation), Standing.EXPECTED)

    async def _respond(self, contact: Contact, rotation: Rotation) -> None:
        body = {"label": self._wallet.settings.label, "secret": rotation.answer}
        response = Message(type=RESPONSE, body=body, thid=rotation.thread)
        try:
            await self._mailbox.send_to_contact(contact, response, timeout=SEND_WITHIN)
        except DidmpcError as problem:
            log.warning("%s could not be answered: %s", contact.name, problem)  # it asks again

    async def _on_complete(self, unpacked: Unpacked) -> None:
        expect(unpacked.message, COMPLETE)  # `_heard` did the rest

    async def _heard(self, unpacked: Unpacked) -> None:
        """Whoever writes to our new DID knows it."""
        contact = self._contacts.by_did(unpacked.sender) if unpacked.sender else None
        if contact is not None and contact.rotation is not None and _written_to(unpacked, contact.my_did):
            await self._contacts.confirmed(contact)

    def _standing(self, unpacked: Unpacked) -> Standing:
        """What the sender of a message is to us."""
        sender, message = unpacked.sender, unpacked.message
        if sender is None:
            return Standing.STRANGER
        if self._contacts.by_did(sender) is not None:
            return Standing.CONTACT
        asked = any(
            same_party(sender, request.inviter) and _written_to(unpacked, request.my_did)
            for request in self._requests.values()
        )
        invited = message.type in (REQUEST, mpc.KNOCK) and self._invitations.find(
            message.pthid, did_of(unpacked.recipient_kid or "")
        )
        return Standing.EXPECTED if asked or invited else Standing.STRANGER


def _sender(unpacked: Unpacked) -> str:
    if unpacked.sender is None:
        raise MessageError("A contact message must prove its sender.", code="e.p.trust.crypto")
    return unpacked.sender


def _written_to(unpacked: Unpacked, did: str) -> bool:
    return unpacked.recipient_kid is not None and same_party(did_of(unpacked.recipient_kid), did)


def _label(message: Message) -> str:
    return clean_name(optional(message, "label", text, ""))


def _secret(message: Message) -> bytes:
    return required(message, "secret", _secret_bytes)


def _secret_bytes(value: Any) -> bytes:
    secret = unb64url(text(value))
    if len(secret) != SECRET:
        raise ValueError(f"must be {SECRET} bytes")
    return secret


def _pair_secret(*, inviter: tuple[str, bytes], acceptor: tuple[str, bytes]) -> bytes:
    """HKDF over both parts, bound to both DIDs: neither side alone decides it."""
    names = b"".join(_length_prefixed(canonical(did).encode()) for did, _ in (inviter, acceptor))
    return HKDF(SHA256(), 32, salt=None, info=b"didmpc contact/1.0 pair secret" + names).derive(
        inviter[1] + acceptor[1]
    )


def _length_prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _expired(label: str | None) -> DidmpcError:
    return LocalMisuse(
        "This invitation has expired.",
        fix=f"Ask {clean_name(label or '') or 'the sender'} for a new one (they type: didmpc invite).",
    )


def _unreachable(request: Request, problem: DidmpcError) -> DidmpcError:
    return DidmpcError(
        f"The mediator of {clean_name(request.label) or 'the inviter'} cannot be reached.",
        why=problem.why,
        fix="Check the network, and try the same command again later.",
    )


def _refusal(problem: problem_report.ProblemReport, label: str) -> DidmpcError:
    who = clean_name(label) or "the sender"
    if problem.code == EXPIRED:
        return _expired(label)
    if problem.code == USED:
        return LocalMisuse(
            "This invitation was used already.",
            why="It works once.",
            fix=f"Ask {who} for a new one (they type: didmpc invite).",
        )
    if problem.code == REVOKED:
        return LocalMisuse(
            f"{who} has taken this invitation back.", fix="Ask for a new one (they type: didmpc invite)."
        )
    if problem.code == UNKNOWN:
        return LocalMisuse(
            f"The agent of {who} does not know this invitation.",
            fix=f"Ask {who} for a new one (they type: didmpc invite).",
        )
    return DidmpcError(f"The agent of {who} refused.", why=clean_name(problem.text))
