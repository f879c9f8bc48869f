"""With a link to its lobby: knocking, until the host proposes something or sends us away.

We knock from a DID made for this visit, which is kept until the visit is over: whoever comes back after a
crash has its place still.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from didmpc.agent.contacts.contacts import clean_name
from didmpc.agent.contacts.invitations import GOAL_CODE
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.sessions import door
from didmpc.agent.sessions.gathering import Stream
from didmpc.agent.sessions.inbox import Arrived, Inbox
from didmpc.agent.sessions.parties import LinkPeer, printable
from didmpc.agent.wallet.wallet import Wallet
from didmpc.protocols.did import same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.message import Message
from didmpc.protocols.messages import problem_report
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.mpc import lobby, messages
from didmpc.protocols.mpc.proposal import Proposal

ANSWER_WITHIN = 3.0
"""Seconds after which a host that does not answer is said to be offline."""
# Between two knocks, in seconds: while the host is being asked, and while nobody answers.
KNOCK_WHILE_ASKED = 2.0
KNOCK_AGAIN = (4.0, 1800.0)
SEND_PATIENCE = 15.0
LEAVE_WITHIN = 4.0
MOST_VISITS = 64


@dataclass(frozen=True, slots=True)
class Visited:
    """A lobby that we have been to, as it is kept."""

    invitation: str
    host: str
    label: str
    my_did: str
    expires: int


class Visits:
    """The lobbies that we have a link to and a DID for."""

    def __init__(self, wallet: Wallet, mailbox: Mailbox) -> None:
        self._wallet = wallet
        self._mailbox = mailbox
        self._under_way: dict[str, Visit] = {}

    async def begin(self, pasted: str, inbox: Inbox, stream: Stream) -> "Visit":
        """Come with what a person pasted. Raises `DidmpcError` where that leads to no lobby."""
        invitation = check(await self._mailbox.invitation(pasted))
        if self._wallet.identities.identity(invitation.from_) is not None:
            raise LocalMisuse("This is a link of your own.", fix="Send it to the others, who join with it.")
        if invitation.id in self._under_way:
            raise LocalMisuse("Another command of yours takes part with this link right now.")
        kept = next((each for each in self._kept() if each.invitation == invitation.id), None)
        if kept is None:
            kept = await self._enter(invitation)
        visit = Visit(self._mailbox, kept, printable(self._wallet.settings.label), inbox, stream)
        self._under_way[invitation.id] = visit
        return visit

    async def end(self, visit: "Visit", *, forget: bool) -> None:
        """The visit is over; with `forget` for good: nothing of it is kept."""
        kept = visit.visited
        self._under_way.pop(kept.invitation, None)
        if forget:
            self._keep([each for each in self._kept() if each.invitation != kept.invitation])
            with contextlib.suppress(DidmpcError):
                await self._mailbox.drop_identity(kept.my_did)

    def with_host(self, did: str) -> "Visit | None":
        """The visit under way to this host."""
        return next((v for v in self._under_way.values() if same_party(v.visited.host, did)), None)

    def report(self, sender: str, problem: problem_report.ProblemReport) -> None:
        """A problem report arrived: it may be about a knock."""
        visit = self.with_host(sender)
        if visit is not None and problem.about in visit.knocks:
            visit.sent_away(problem)

    async def _enter(self, invitation: Invitation) -> Visited:
        now = time.time()
        for old in [each for each in self._kept() if each.expires < now]:
            self._keep([each for each in self._kept() if each != old])
            await self._mailbox.drop_identity(old.my_did)
        if len(self._kept()) >= MOST_VISITS:
            raise LocalMisuse(f"You take part with {MOST_VISITS} links already.")
        identity = await self._mailbox.new_identity(keep=True)
        visited = Visited(
            invitation.id,
            invitation.from_,
            clean_name(invitation.label or "") or "the host",
            identity.did,
            invitation.expires_time or int(now) + 24 * 3600,
        )
        self._keep([*self._kept(), visited])
        await self._wallet.save()
        return visited

    def _kept(self) -> list[Visited]:
        return [Visited(**stored) for stored in self._wallet.visits]

    def _keep(self, visits: list[Visited]) -> None:
        self._wallet.visits = [asdict(each) for each in visits]


class Visit:
    """One visit: `proposal` knocks until the host has proposed something."""

    def __init__(
        self, mailbox: Mailbox, visited: Visited, our_name: str, inbox: Inbox, stream: Stream
    ) -> None:
        self.visited = visited
        self.host = LinkPeer(visited.label, visited.host, visited.my_did)
        self.knocks: set[str] = set()
        self._mailbox = mailbox
        self._our_name = our_name
        self.inbox = inbox
        inbox.know(visited.host)
        self._stream = stream
        self._refusal: DidmpcError | None = None
        self._offline = False
        self._told_asked = False

    async def proposal(self, deadline: float) -> Proposal:
        """Knock, and wait; raises `DidmpcError` when we are sent away or the time is over."""
        try:
            return await self._knock_until_proposed(deadline)
        except BaseException:
            if self.knocks and self._refusal is None:
                await asyncio.shield(self._leave())
            raise

    async def _leave(self) -> None:
        """Free the place that our knock may have got."""
        leave = Message(type=messages.LEAVE, pthid=self.visited.invitation, body={"comment": ""})
        with contextlib.suppress(DidmpcError):
            await self._mailbox.send_to_contact(self.host, leave, timeout=LEAVE_WITHIN)

    async def _knock_until_proposed(self, deadline: float) -> Proposal:
        await self._say({"event": "waiting", "for": [self.host.name], "seconds_left": self._left(deadline)})
        pause = KNOCK_AGAIN[0]
        while True:
            now = time.time()
            if now >= min(deadline, self.visited.expires):
                raise self._too_late()
            asked = False
            if await self._knock():
                event = await self._next(ANSWER_WITHIN)
            else:
                event = None
            while event is not None:
                message, self._offline = event.message, False
                if message.type == messages.PROPOSE:
                    return self._check(Proposal.of(message))
                if message.type == messages.CANCEL:
                    why = messages.text(message.body, "comment", default="")
                    raise DidmpcError(f"{self.host.name} ended it, or sent you away.", why=why, fix=self._ask)
                if message.type == messages.DOOR and not asked:
                    asked, pause = True, KNOCK_AGAIN[0]
                    await self._say_asked()
                event = await self._next(KNOCK_WHILE_ASKED)
            if not asked:
                await self._say_offline()
                event = await self._next(min(pause, max(0.0, deadline - time.time())))
                if event is not None:
                    self.inbox.set_aside(event)
                    self.inbox.restore()
                pause = min(2 * pause, KNOCK_AGAIN[1])

    def sent_away(self, problem: problem_report.ProblemReport) -> None:
        """The host's agent refused our knock."""
        self._refusal = self._refused(problem)
        self.inbox.put_said({})  # there is something to look at

    async def _next(self, patience: float) -> Arrived | None:
        """What the host says; None when it says nothing for so long. Raises when it has sent us away."""
        until = time.monotonic() + patience
        with contextlib.suppress(TimeoutError):
            while True:
                if self._refusal is not None:
                    raise self._refusal
                event = await self.inbox.next(max(0.0, until - time.monotonic()))
                if isinstance(event, Arrived) and same_party(event.sender, self.host.did):
                    return event
        return None

    async def _knock(self) -> bool:
        """Whether the host's mediator took it."""
        body = {"name": self._our_name}
        knock = Message(
            type=messages.KNOCK,
            pthid=self.visited.invitation,
            body=body,
            expires_time=self.visited.expires,
        )
        self.knocks.add(knock.id)
        try:
            await self._mailbox.send_to_contact(self.host, knock, timeout=SEND_PATIENCE)
        except DidmpcError as problem:
            if "refused a message" in problem.what:
                raise DidmpcError(
                    "This link leads nowhere any more.",
                    why=f"{problem.why} {self.host.name} has deleted it, or it ended long ago.".strip(),
                    fix=self._ask,
                ) from problem
            await self._say_unreachable(problem)
            return False
        return True

    def _check(self, proposal: Proposal) -> Proposal:
        if proposal.lobby != self.visited.invitation:
            raise MessageError("The host proposes something under another link.")
        return proposal

    # -- words ---------------------------------------------------------------------------------------

    @property
    def _ask(self) -> str:
        return f"Ask {self.host.name} for a new link (they type: didmpc run PROGRAM --parties N)."

    def _left(self, deadline: float) -> int:
        return max(0, int(min(deadline, self.visited.expires) - time.time()))

    async def _say(self, event: Mapping[str, Any]) -> None:
        await self._stream.event(event)

    async def _say_party(self, state: str, why: str) -> None:
        mediator = self._mediator()
        facts = {"name": self.host.name, "state": state, "why": why, "mediator": mediator}
        await self._say({"event": "party", **facts, "rtt_ms": None, "by": "link"})

    def _mediator(self) -> str:
        with contextlib.suppress(DidmpcError):
            return self._mailbox.host_of(self.host.did)
        return ""

    async def _say_asked(self) -> None:
        if not self._told_asked:
            self._told_asked = True
            text = f"{self.host.name} is asked whether to let you in."
            await self._say({"event": "notice", "text": text})

    async def _say_offline(self) -> None:
        if not self._offline:
            self._offline = True
            at = self._mediator() or "its mediator"
            await self._say_party("offline", f"The host is offline; your request waits at its mediator {at}.")

    async def _say_unreachable(self, problem: DidmpcError) -> None:
        if not self._offline:
            self._offline = True
            await self._say_party("offline", f"{problem.what} {problem.why}".strip())

    def _too_late(self) -> DidmpcError:
        if time.time() >= self.visited.expires:
            return DidmpcError(
                "The link has expired before the host answered.",
                why=f"{self.host.name} was offline, or did not begin.",
                fix=self._ask,
            )
        return DidmpcError(
            f"{self.host.name} did not answer in time.",
            why="The host is offline, or its command no longer runs; your request waits at its mediator.",
            fix="Wait longer: the same command with --wait SECONDS, or without --wait.",
        )

    def _refused(self, problem: problem_report.ProblemReport) -> DidmpcError:
        who = self.host.name
        what, why = {
            lobby.FULL: ("All places are taken.", "As many people came by this link as it has places."),
            lobby.BEGUN: ("They have begun without you.", "All places were taken, or the host did not wait."),
            lobby.CLOSED: (f"{who} has ended this.", "Nobody gathers at this link any more."),
            lobby.REFUSED: (f"{who} did not let you in.", ""),
            lobby.BUSY: ("Too many people came by this link.", "It may have fallen into wrong hands."),
            door.REVOKED: (f"{who} has taken this link back.", ""),
            door.EXPIRED: ("This link has expired.", ""),
        }.get(problem.code, (f"The agent of {who} refused.", clean_name(problem.text)))
        return LocalMisuse(what, why=why, fix=self._ask)


def check(invitation: Invitation) -> Invitation:
    """Refuse at once what leads to no lobby."""
    goal = invitation.goal_code or ""
    who = clean_name(invitation.label or "") or "the sender"
    if goal == GOAL_CODE:
        raise LocalMisuse(
            f"This link of {who} makes you contacts; it leads to no computation.",
            fix="Accept it:  didmpc accept LINK     and then wait for a proposal:  didmpc join",
        )
    if "mediat" in goal:
        raise LocalMisuse(
            "This is the invitation of a mediator, not to a computation.",
            fix="Use it when you start your agent:  didmpc agent start --mediator INVITATION",
        )
    if goal != lobby.GOAL_CODE:
        raise LocalMisuse(
            "This link leads to no computation.",
            why=f"It is for {clean_name(goal)[:80]!r}." if goal else "It does not say what it is for.",
            fix="Ask for the one that  didmpc run PROGRAM --parties N  printed.",
        )
    if invitation.expired(time.time()):
        raise LocalMisuse(
            "This link has expired.",
            fix=f"Ask {who} for a new one (they type: didmpc run PROGRAM --parties N).",
        )
    return invitation
