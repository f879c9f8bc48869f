"""A guest's side of gathering: a proposal is shown, agreed to, and its program fetched by content hash.

All the while the host says who is here, and we answer: that is how each knows that the other is there. What
is shown of it is described in `host`.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from didmpc.agent.program.bundle import Bundle, line_differences
from didmpc.agent.sessions import bundles, consent, privacy, sources
from didmpc.agent.sessions.confinement import Place
from didmpc.agent.sessions.disagreement import refuse
from didmpc.agent.sessions.gathering import Gathering, Stream, Workshop
from didmpc.agent.sessions.inbox import Arrived, Inbox
from didmpc.agent.sessions.parties import LinkPeer, can_relay, printable, versions
from didmpc.agent.sessions.reception import WAITING_EVERY, Peer
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.did import same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError, RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import lobby, messages
from didmpc.protocols.mpc.drafting import check_against_proposal
from didmpc.protocols.mpc.lobby import Picture, Row
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.mpc.messages import Join
from didmpc.protocols.mpc.proposal import Proposal

SEND_PATIENCE = 15.0
# To a host that is offline: it may have forgotten us, and our word waits at its mediator.
SAY_AGAIN = (30.0, 1800.0)
STOPS_WITHIN = 4.0
MOST_SAYING = 4  # answers under way at once


T = TypeVar("T")


class Guest:
    """One `didmpc join` from the proposal to the manifest."""

    def __init__(
        self,
        workshop: Workshop,
        proposal: Proposal,
        host: Peer,
        place: Place,
        inbox: Inbox,
        stream: Stream,
        params: Mapping[str, Any],
        deadline: float,
    ) -> None:
        self._workshop = workshop
        self._proposal = proposal
        self._host = host
        self._place = place
        self._sandbox = place.choice.mechanism
        self._inbox = inbox
        inbox.know(host.did)
        self._stream = stream
        self._deadline = deadline
        self._params = params
        self._program = str(params["program"]) if params.get("program") else None
        self._fetches = params.get("fetch") is True
        self._wish = str(params.get("role") or "")
        # Nobody can type an input where a script takes part without one.
        self._can_be_asked = params.get("stdin") != "none"
        self._input = Path(params["input"]) if params.get("input") else None
        self._output = Path(params["output"]) if params.get("output") else None
        self._bundle: Bundle | None = None
        self._manifest: Manifest | None = None
        self._pid = -1
        self._rows: dict[str, Row] = {}
        self._free = 0
        self._called = ""  # our name in the lobby
        self._agreed = False
        self._parted = False  # the host knows that we go
        self._heard = time.monotonic()  # when the host last gave a sign of life
        self._offline = False
        self._say_again = (0.0, SAY_AGAIN[0])
        self._saying: set[asyncio.Task[None]] = set()

    async def run(self) -> tuple[Gathering, "asyncio.Task[None]"]:
        """Show the proposal, ask the person, join, and hand the session over."""
        with self._workshop.programs.about(self._proposal, self._host) as known:
            self._known = known
            try:
                return await self._run()
            except _Cancelled:
                raise
            except BaseException as error:  # a wrong input, a Ctrl-C: whoever holds a place frees it
                await asyncio.shield(self._leave(error))
                raise
            finally:
                for task in self._saying:
                    task.cancel()

    async def _run(self) -> tuple[Gathering, "asyncio.Task[None]"]:
        if self._input is not None and not (self._input.is_file() and os.access(self._input, os.R_OK)):
            raise LocalMisuse(
                f"The input {self._input} cannot be read.", fix="Name a file with --input FILE."
            )
        consent.check_installed(self._proposal, self._host.name)
        proposal, place = self._proposal, self._place
        exposed = privacy.problem(proposal, self._params)
        if exposed is not None and self._params.get("asks") is not True:
            raise exposed
        part = consent.Part.of(proposal, party=proposal.you, wish=self._wish, gives=self._input is not None)
        part.check_input(self._input, can_be_asked=self._can_be_asked)
        self._wish = part.wish
        if self._program is not None:
            await self._compare(self._program)
        shown = {**consent.describe(proposal), **consent.identity(self._host), **part.facts()}
        waived = privacy.facts(proposal, self._params)
        trusted = consent.trusted(proposal, self._host.did, self._workshop.trust, place)
        await self._stream.event({"event": "proposal", **shown, **trusted, **place.facts(), **waived})
        answer = await self._answer()
        if not answer.get("consent"):
            await self._decline("policy", messages.sentence(str(answer.get("why") or "They said no.")))
            raise DidmpcError("You declined. Nothing of the program was run.")
        if exposed is not None and answer.get("no_privacy") is not True:
            raise exposed
        self._sandbox = place.agreed(answer)
        async with Gathering.open(self._workshop, proposal.attempt, self._inbox, self._stream) as gathering:
            try:
                self._heard = max(self._heard, time.monotonic() - 1.0)  # not listened to while that began
                await self._fetch_program(gathering)
                if answer.get("trust"):
                    self._remember()
                await self._join(gathering)
                seat = await self._wait_for_manifest(gathering)
            except _Cancelled:
                raise
            except BaseException as error:  # before the channel process is waited for
                await asyncio.shield(self._leave(error))
                raise
            self._parted = True  # from here on a signed abort says it
            facts = {**shown, "parties": list(seat.names), "m": len(seat.names), "role": "guest"}
            return gathering, await gathering.run(seat, self._stream, facts)

    def _remember(self) -> None:
        """The person trusts this program from now on, with these arguments, whoever proposes it."""
        program = self._proposal.program
        self._workshop.trust.add(
            program["sha256"],
            entry=program["entry"],
            title=program["title"],
            given=self._proposal.arguments,
        )

    async def _compare(self, program: str) -> None:
        """The joiner's own copy must be what the host proposes, to the byte."""
        own = (await self._meanwhile(sources.find(program), None)).bundle
        if own.sha256 == self._proposal.program["sha256"]:
            bundles.check_described(own, self._proposal.program)
            self._known.bundle = own
            return
        await self._refuse(own, "yours", "Their own copy of the program differs")

    async def _refuse(self, own: Bundle, mine: str, told: str) -> None:
        """Another program than ours is proposed: name the lines, here and to the host."""
        host = self._host.name
        proposed = await self._meanwhile(self._workshop.programs.fetch(self._known), None)
        differing = "; ".join(line_differences(own, proposed, f"in {mine}", f"in {host}'s"))
        in_theirs = "; ".join(line_differences(proposed, own, "in yours", "in theirs"))
        await self._decline("program", messages.sentence(f"{told}: {in_theirs}"))
        raise DidmpcError(
            f"The programs differ: {host} proposes another {self._proposal.program['entry']}.",
            why=f"{differing}.",
            fix="Agree with them on one program, and let them propose it again.",
        )

    async def _meanwhile(self, work: Coroutine[Any, Any, T], gathering: Gathering | None) -> T:
        """Do something, and listen to the host while it takes."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._inbox.put_said({}))
        try:
            while not task.done():
                await self._next_message(gathering)
            return task.result()
        finally:
            task.cancel()

    async def _answer(self) -> Mapping[str, Any]:
        """The person's answer; the host hears meanwhile that somebody looks at its proposal."""
        self._say_here(0)
        return await self._meanwhile(self._stream.answer(), None)

    async def _join(self, gathering: Gathering) -> None:
        workshop = self._workshop
        join = Join(
            gathering.identity.did,
            printable(workshop.label),
            workshop.mailbox.host,
            session=True,
            versions=versions(),
            relay=can_relay(workshop.mailbox),
            role=self._wish,
        )
        await self._send(messages.JOIN, join.body())
        if not self._agreed:
            await self._party(self._host.name, "joined")
        self._agreed = True

    async def _fetch_program(self, gathering: Gathering) -> None:
        """Before the yes: whoever has joined can start at once."""
        proposal = self._proposal
        if self._fetches:
            own = (await self._meanwhile(sources.fetch_again(proposal.source), gathering)).bundle
            if own.sha256 != proposal.program["sha256"]:
                await self._refuse(own, "the repository", "The repository's program differs")
            bundles.check_described(own, proposal.program)
            self._known.bundle = own
        self._bundle = await self._meanwhile(self._workshop.programs.fetch(self._known), gathering)
        sources.check_stated(self._bundle, proposal.statement)

    async def _wait_for_manifest(self, gathering: Gathering) -> Seat:
        show = time.monotonic() + WAITING_EVERY
        while self._manifest is None or self._bundle is None:
            if time.monotonic() >= show:
                await self._show_waiting()
                show = time.monotonic() + WAITING_EVERY
            await self._next_message(gathering, until=show)
        self._inbox.know(*(party.did for party in self._manifest.roster))
        self._inbox.restore()
        names = [party.name for party in self._manifest.roster]
        names[self._manifest.host] = self._host.name
        return Seat(
            pid=self._pid,
            identity=gathering.identity,
            manifest=self._manifest,
            bundle=self._bundle,
            names=tuple(names),
            directory=self._workshop.work(self._proposal.attempt),
            output=self._output,
            sandbox=self._sandbox,
            limits=self._place.limits,
            input=self._input,
        )

    async def _next_message(self, gathering: Gathering | None, until: float | None = None) -> None:
        """Take what comes next, if something comes before `until`; raises when the wait is over.

        `gathering` is there once the person has agreed.
        """
        now = time.monotonic()
        if now >= self._deadline:
            raise self._too_late()
        await self._watch_host(now)
        looks = [self._deadline, self._say_again[0] if self._offline else self._heard + lobby.AWAY_AFTER]
        if until is not None:
            looks.append(until)
        with contextlib.suppress(TimeoutError):
            event = await self._inbox.next(max(0.0, min(looks) - now))
            if not isinstance(event, Arrived):
                return
            if same_party(event.sender, self._host.did):
                await self._take(event.message, gathering)
            else:  # another guest that had the manifest before us
                self._inbox.set_aside(event)

    async def _take(self, message: Message, gathering: Gathering | None) -> None:
        await self._host_heard()
        try:
            if message.type == messages.MANIFEST and gathering is not None:
                manifest = Manifest.decode(messages.octets(message.body, "manifest", 1 << 20))
                await self._check_manifest(manifest, gathering)
                self._manifest = manifest
                names = [party.name for party in manifest.roster]
                names[manifest.host] = self._host.name
                await self._stream.event({"event": "all-joined", "parties": names})
            elif message.type == messages.DECLINE:
                raise LocalMisuse(
                    messages.text(message.body, "comment", default="") or f"{self._host.name} said no.",
                    fix=messages.text(message.body, "fix", default="") or self._again,
                )
            elif message.type == messages.GATHERING:
                await self._take_picture(Picture.of(message.body))
            elif message.type == messages.PROPOSE:
                await self._take_proposal_again(Proposal.of(message), gathering)
            elif message.type == messages.CANCEL:
                comment = messages.text(message.body, "comment", default="")
                raise _Cancelled(
                    f"{self._host.name} ended the session before it began.",
                    why=comment,
                    fix=self._again,
                )
        except RemoteViolation as error:
            raise DidmpcError(
                f"{self._host.name} does not keep to the proposal: {error.what}", why=error.why, fix=error.fix
            ) from error

    @property
    def _again(self) -> str:
        if isinstance(self._host, LinkPeer):
            return f"Ask {self._host.name} for a new link."
        return "Wait for the next proposal:  didmpc join"

    async def _take_proposal_again(self, proposal: Proposal, gathering: Gathering | None) -> None:
        """The host's agent was started again, or it did not get our word."""
        if replace(proposal, expires=0) != replace(self._proposal, expires=0):
            raise MessageError("It proposes something else under the same name.")
        if self._agreed and gathering is not None:
            await self._join(gathering)
        else:
            self._say_here(0)

    async def _check_manifest(self, manifest: Manifest, gathering: Gathering) -> None:
        """It must be what was proposed; where it is not, all its parties see what we were sent."""
        identity, mailbox = gathering.identity, self._workshop.mailbox
        try:
            self._pid = check_against_proposal(manifest, self._proposal, identity.did, self._wish)
            self._check_role(manifest)
        except DidmpcError as problem:
            await refuse(mailbox, identity, manifest, f"{problem.what} {problem.why}")
            raise

    def _check_role(self, manifest: Manifest) -> None:
        """Our input must be what is asked of us in the place that we got."""
        role = manifest.roster[self._pid].role
        ask = manifest.statement.asks_of(role)
        part = consent.Part(role or str(self._pid), (ask,), ())
        part.check_input(self._input, can_be_asked=self._can_be_asked)

    # -- who is here --------------------------------------------------------------------------------

    async def _take_picture(self, picture: Picture) -> None:
        self._say_here(picture.beat)
        self._called = picture.you
        if picture.pausing:
            await self._host_away("pausing", "It was stopped and can be started again; your place is kept.")
        before, ours = self._rows, {picture.you, self._proposal.parties[0]}
        self._rows = {row.name: row for row in picture.rows}
        for row in picture.rows:
            old = before.get(row.name)
            if row.name not in ours and _said(row) != (_said(old) if old else ""):
                await self._party(row.name, _said(row), mediator=row.mediator, rtt_ms=row.rtt_ms)
        for name in before.keys() - self._rows.keys() - ours:
            await self._party(name, "left")
        self._free = max(0, self._proposal.m - len(self._rows))
        await self._show(picture.you, "pausing" if picture.pausing else "here")
        if {n: _said(r) for n, r in before.items()} != {n: _said(r) for n, r in self._rows.items()}:
            await self._show_waiting()

    async def _host_heard(self) -> None:
        self._heard = time.monotonic()
        if self._offline:
            self._offline = False
            await self._party(self._host.name, "back")

    async def _watch_host(self, now: float) -> None:
        """A host that is not heard of is offline; our word waits for it, said again now and then."""
        if not self._offline and now - self._heard >= lobby.AWAY_AFTER:
            await self._host_away("offline", await self._why_away())
        if self._offline and now >= self._say_again[0]:
            pause = self._say_again[1]
            self._say_again = (now + pause, min(2 * pause, SAY_AGAIN[1]))
            self._say_here(0, knock=True)

    async def _host_away(self, state: str, why: str) -> None:
        if self._offline:
            return
        self._offline = True
        # An agent that is just being stopped would take our word with it.
        later = STOPS_WITHIN if state == "pausing" else 0.0
        self._say_again = (time.monotonic() + later, SAY_AGAIN[0])
        host = self._rows.get(self._proposal.parties[0])
        await self._party(self._host.name, state, why, mediator=host.mediator if host else "")
        await self._show("", state)

    async def _why_away(self) -> str:
        mailbox = self._workshop.mailbox
        if not mailbox.connected.is_set():
            return f"Your own mediator {mailbox.host} cannot be reached; your agent keeps trying."
        try:
            mediator = mailbox.host_of(self._host.did)
        except DidmpcError:
            mediator = "the mediator"
        return f"The host is offline; what you said waits at its mediator {mediator}."

    def _say_here(self, beat: int, *, knock: bool = False) -> None:
        """On the side: an answer holds up nothing. With `knock` to a host that may have forgotten us."""
        if len(self._saying) >= MOST_SAYING:
            return
        task = asyncio.create_task(self._say(beat, knock=knock))
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def _say(self, beat: int, *, knock: bool) -> None:
        with contextlib.suppress(DidmpcError):
            if knock and self._proposal.lobby:
                body = {"name": printable(self._workshop.label)}
                message = Message(type=messages.KNOCK, pthid=self._proposal.lobby, body=body)
                await self._workshop.mailbox.send_to_contact(self._host, message, timeout=SEND_PATIENCE)
            await self._send(messages.HERE, {"beat": beat, "ready": self._agreed})

    async def _show(self, you: str, host: str) -> None:
        """The whole picture for the person."""
        parties = [
            {**row.json(), "state": host if number == 0 else row.state, "you": row.name == you, "by": None}
            for number, row in enumerate(self._rows.values())
        ]
        if not parties:
            return
        here = sum(row.state == lobby.State.JOINED and not row.away for row in self._rows.values()) + 1
        least = self._proposal.least or self._proposal.m
        await self._stream.event(
            {
                "event": "gathering",
                "parties": parties,
                "free": self._free,
                "m": self._proposal.m,
                "least": least,
                "ready": here >= least,
                "complete": here == self._proposal.m,
                "seconds_left": self._seconds_left,
            }
        )

    @property
    def _seconds_left(self) -> int:
        return max(0, int(self._deadline - time.monotonic()))

    @property
    def _missing(self) -> list[str]:
        """Whom everything waits for."""
        if self._offline:
            return [self._host.name]
        rows = [row for row in list(self._rows.values())[1:] if row.name != self._called]
        names = [row.name for row in rows if row.state != lobby.State.JOINED or row.away]
        return [*names, f"{self._free} more by the link"] if self._free else names

    async def _show_waiting(self) -> None:
        missing = self._missing or [self._host.name]
        event = {"event": "waiting", "for": missing, "seconds_left": self._seconds_left}
        await self._stream.event(event)

    async def _party(
        self, name: str, state: str, why: str = "", *, mediator: str = "", rtt_ms: float | None = None
    ) -> None:
        event = {"event": "party", "name": name, "state": state, "why": why}
        await self._stream.event({**event, "mediator": mediator, "rtt_ms": rtt_ms, "by": None})

    def _too_late(self) -> DidmpcError:
        missing = " and ".join(self._missing or [self._host.name])
        return DidmpcError(
            f"{missing} did not come in time.",
            why="The wait is over (--wait), or the invitation has expired.",
            fix="Wait again:  didmpc join --wait SECONDS"
            if not self._proposal.lobby
            else f"Ask {self._host.name} for a new link.",
        )

    # -- sending ------------------------------------------------------------------------------------

    async def _send(self, kind: str, body: Mapping[str, Any]) -> None:
        message = Message(type=kind, pthid=self._proposal.attempt, body=dict(body))
        await self._workshop.mailbox.send_to_contact(self._host, message, timeout=SEND_PATIENCE)

    async def _decline(self, code: str, comment: str) -> None:
        self._parted = True
        with contextlib.suppress(DidmpcError):
            await self._send(messages.DECLINE, {"code": code, "comment": comment})

    async def _leave(self, error: BaseException) -> None:
        if self._parted:
            return
        self._parted = True
        comment = error.what if isinstance(error, DidmpcError) else "Their didmpc command was stopped."
        with contextlib.suppress(DidmpcError, TimeoutError):
            async with asyncio.timeout(4):
                await self._send(messages.LEAVE, {"comment": messages.sentence(comment)})


def _said(row: Row) -> str:
    """What is said of a party in one word."""
    return "away" if row.away else row.state


class _Cancelled(DidmpcError):
    """The host has ended it: there is nobody to take leave of."""
