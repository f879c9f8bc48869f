"""The host's side of gathering: propose, gather who was asked and who comes by a link, write the manifest.

Events while people gather, at the host and (those marked *) at each guest alike:

    lobby       url, long_url, id, expires, places, local: the link for `places` people who are no contacts;
                `local`: its mediator is on this machine, and so must they be
    party *     one step of one party: name, state, why, mediator, rtt_ms, by ("contact" or "link");
                state: asked, unreachable, knocking (is the host to let it in?), deciding, joined, away (not
                heard of), back, left, declined, refused, replaced; of the host also offline, pausing, and for
                itself cut-off, reconnected (its own mediator)
    gathering * the whole picture, at each change and every 2 s: parties, free (places of the link that nobody
                has), m, least, ready (the host may begin now), complete, seconds_left.
                parties: the host first, each with name, state (asked, knocking, deciding, joined; of the host
                here, offline, pausing, cut-off), mediator, rtt_ms (from the host), away, by, you
    waiting *   for, seconds_left: the same in one line
    all-joined* the manifest is written

What the host may say meanwhile: {"start": true}, {"admit": NAME}, {"refuse": NAME}, {"leave": true}.
With `stays` among the parameters a lobby whose command is lost without a word stays open, for `lobby`.
"""

import asyncio
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from didmpc.agent.contacts.contacts import Contact, Contacts
from didmpc.agent.contacts.invitations import Invitations, Issued
from didmpc.agent.program.arguments import check_arguments
from didmpc.agent.program.bundle import Bundle
from didmpc.agent.program.imports import needed_modules
from didmpc.agent.sessions import consent, privacy, sources
from didmpc.agent.sessions.confinement import Place
from didmpc.agent.sessions.door import Door
from didmpc.agent.sessions.gathering import Gathering, Stream, Workshop
from didmpc.agent.sessions.inbox import Inbox
from didmpc.agent.sessions.parties import can_relay, printable, versions
from didmpc.agent.sessions.reception import Peer, Reception
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.addresses import names_private
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import canonical
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages, terms
from didmpc.protocols.mpc.drafting import draft
from didmpc.protocols.mpc.lobby import Lobby
from didmpc.protocols.mpc.messages import Join
from didmpc.protocols.mpc.proposal import Proposal
from didmpc.protocols.mpc.seating import seat
from didmpc.protocols.mpc.statement import Statement

MANIFEST_PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the person asked for, checked."""

    bundle: Bundle
    source: Mapping[str, str]
    statement: Statement
    roles: Mapping[str, str]  # wishes by names of contacts; "" is the host
    settings: Mapping[str, str]
    options: Mapping[str, int | bool]
    waived: bool  # that anything stays private
    arguments: tuple[str, ...]
    contacts: tuple[Contact, ...]
    places: int  # for whoever comes by the link
    least: int  # parties with which it may begin; 0: only with all
    auto: bool  # it begins by itself when all are here
    confirm: bool  # the person lets in everybody of the link
    stays: bool  # its lobby is left open where its command is lost
    reopen: str  # the invitation whose lobby was left open; empty: a new one
    threshold: int
    free_threshold: bool
    mode: str
    wire: str
    wait: float
    resume_limit: int
    deadlock_grace: int
    input: Path | None
    can_be_asked: bool
    output: Path | None

    @classmethod
    async def of(cls, params: Mapping[str, Any], contacts: Contacts) -> "Plan":
        """Check the parameters of `run`; raises `LocalMisuse` with what to do instead."""
        arguments = arguments_of(params)
        parties, least = _numbers(params)
        # Whoever makes a link asks no contact unless he names it.
        guests = () if parties and params.get("with") is None else _guests(params.get("with"), contacts)
        places = max(0, parties - 1 - len(guests))
        m = 1 + len(guests) + places
        if parties and m != parties:
            raise LocalMisuse(
                f"--parties {parties} and {len(guests)} named contacts do not fit together.",
                why="You are a party too.",
                fix=f"Use --parties {m} or more; the rest come by the link.",
            )
        if not terms.PARTIES[0] <= m <= terms.PARTIES[1] or least > m:
            raise LocalMisuse(
                f"{m} parties with at least {least} cannot compute together."
                if least > m
                else f"{m} parties cannot compute together.",
                why=f"There may be {terms.PARTIES[0]} to {terms.PARTIES[1]}.",
            )
        threshold = threshold_of(params, m, least or m)
        own_input = Path(params["input"]) if params.get("input") else None
        if own_input is not None and not (own_input.is_file() and os.access(own_input, os.R_OK)):
            raise LocalMisuse(f"The input {own_input} cannot be read.", fix="Name a file with --input FILE.")
        program = await sources.find(str(params["program"]))
        statement = sources.stated(program, params)
        check_runs(program.bundle, statement, m, threshold)
        return cls(
            bundle=program.bundle,
            source=program.source,
            statement=statement,
            roles=_roles(params, guests),
            settings=_settings(params),
            options={**terms.OPTIONS, "no_prss": params.get("no_prss") is True},
            waived=params.get("no_privacy") is True,
            arguments=arguments,
            contacts=guests,
            places=places,
            least=least,
            auto=params.get("start") != "ask",
            confirm=params.get("confirm") is True,
            stays=places > 0 and params.get("stays") is True,
            reopen=str(params.get("lobby") or ""),
            threshold=threshold,
            free_threshold=bool(params.get("free_threshold")),
            mode=params.get("mode") or "session",
            wire=params.get("wire") or "binary",
            wait=float(params["wait"]),
            resume_limit=_resume_limit(params.get("resume_limit")),
            deadlock_grace=_deadlock_grace(params.get("deadlock_grace")),
            input=own_input,
            can_be_asked=params.get("stdin") != "none",
            output=Path(params["output"]) if params.get("output") else None,
        )


def threshold_of(params: Mapping[str, Any], m: int, surely: int) -> int:
    """The threshold with m parties of which `surely` so many take part; raises `LocalMisuse`."""
    chosen = params.get("threshold")
    most = (surely - 1) // 2
    threshold = most if chosen is None else int(chosen)
    if not 0 <= threshold <= most:
        raise LocalMisuse(
            f"A threshold of {threshold} is not possible with {surely} parties.",
            why=f"MPyC needs an honest majority: at most {most} of {surely} may unite.",
            fix=f"Use --threshold {most}, or more parties.",
        )
    privacy.check_proposed(params, m, threshold, chosen=chosen is not None)
    return threshold


def check_runs(bundle: Bundle, statement: Statement, m: int, threshold: int) -> None:
    """Raise `LocalMisuse` where a program is not for so many parties, or cannot run on this machine."""
    consent.check_fits(statement, m, threshold)
    consent.check_modules(needed_modules(bundle.entry, bundle.contents))


def arguments_of(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The program's arguments; raises `LocalMisuse` for such as are not the program's."""
    try:
        arguments = messages.arguments({"arguments": params.get("arguments") or []})
    except MessageError as problem:
        raise LocalMisuse("These arguments cannot be proposed.", why=problem.what) from None
    check_arguments(list(arguments))
    return arguments


def _numbers(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many parties were asked for (0: as many as are named), and how many are enough (0: all)."""
    parties, least = (int(params.get(name) or 0) for name in ("parties", "least"))
    if min(parties, least) < 0 or least == 1:
        raise LocalMisuse("A computation has at least two parties.", fix="Use --parties 3.")
    return parties, least


def _roles(params: Mapping[str, Any], guests: tuple[Contact, ...]) -> dict[str, str]:
    """Who is to have which place: our own wish, and those of `--role NAME=ROLE`."""
    assigned = {str(name): str(role) for name, role in (params.get("roles") or {}).items()}
    known = {contact.name.casefold(): contact.name for contact in guests}
    roles = {"": str(params["as"])} if params.get("as") else {}
    for name, role in assigned.items():
        if name.casefold() not in known:
            raise LocalMisuse(
                f"--role names {name}, who is not asked.",
                why="Roles are assigned to contacts that are named; whoever comes by the link picks one.",
                fix=f"Name them:  --with {name}     Your own role:  --as {role}",
            )
        roles[known[name.casefold()]] = role
    return roles


def _settings(params: Mapping[str, Any]) -> dict[str, str]:
    given = params.get("settings") or {}
    return {name: "1" for name in terms.SETTINGS if given.get(name) == "1"}


def _resume_limit(given: Any) -> int:
    least, most = terms.RESUME_LIMITS
    seconds = terms.RESUME_LIMIT if given is None else int(given)
    if not least <= seconds <= most:
        raise LocalMisuse(
            f"A run cannot wait {seconds} s for a party that stopped answering.",
            fix=f"Use --resume-limit with {least} to {most} seconds.",
        )
    return seconds


def _deadlock_grace(given: Any) -> int:
    least, most = terms.DEADLOCK_GRACES
    seconds = terms.DEADLOCK_GRACE if given is None else int(given)
    if not least <= seconds <= most:
        raise LocalMisuse(
            f"A suspected deadlock cannot last {seconds} s.",
            fix=f"Use --deadlock-grace with {least} to {most} seconds.",
        )
    return seconds


def _guests(wanted: list[str] | None, contacts: Contacts) -> tuple[Contact, ...]:
    if wanted is None:
        everyone = tuple(contacts.all())
        if not everyone:
            raise LocalMisuse(
                "There is nobody to compute with yet.",
                why="This agent has no contacts.",
                fix="Invite someone:  didmpc invite",
            )
        return everyone
    guests = tuple(contacts.find(name) for name in wanted)
    if len({contact.name for contact in guests}) != len(guests) or not guests:
        raise LocalMisuse("Each party can take part once.", fix="Name each contact once in --with.")
    return guests


class Host:
    """One `didmpc run` from the proposal to the manifest."""

    def __init__(
        self,
        workshop: Workshop,
        plan: Plan,
        place: Place,
        inbox: Inbox,
        attempt: str,
        stream: Stream,
        door: Door,
        invitations: Invitations,
    ) -> None:
        self._workshop = workshop
        self._plan = plan
        self._place = place
        self._sandbox = place.choice.mechanism
        self._inbox = inbox
        inbox.know(*(contact.did for contact in plan.contacts))
        self._attempt = attempt
        self._stream = stream
        self._door = door
        self._invitations = invitations
        self._reception: Reception | None = None
        self._pausing = False
        name = printable(workshop.label)
        listed = _listed(name, plan.contacts)
        called = {"": name, **{each.name: called for each, called in zip(plan.contacts, listed, strict=True)}}
        self._proposal = Proposal(
            attempt=attempt,
            program=plan.bundle.describe(),
            arguments=plan.arguments,
            parties=(name, *listed),
            threshold=plan.threshold,
            free_threshold=plan.free_threshold,
            mode=plan.mode,
            wire=plan.wire,
            resume_limit=plan.resume_limit,
            deadlock_grace=plan.deadlock_grace,
            places=plan.places,
            least=plan.least,
            source=plan.source,
            statement=plan.statement,
            settings=plan.settings,
            options=plan.options,
            roles={called[who]: role for who, role in plan.roles.items()},
            versions=versions(),
            expires=int(time.time() + plan.wait),
        )
        self._check_roles()
        self._part = consent.Part.of(self._proposal, party=name, wish="", gives=plan.input is not None)
        self._part.check_input(plan.input, can_be_asked=plan.can_be_asked)

    def _check_roles(self) -> None:
        """That what we assign can be had, all of it; raises `LocalMisuse`."""
        proposal = self._proposal
        names = (*proposal.parties, *(f"place {number}" for number in range(proposal.places)))
        seat(
            proposal.statement,
            proposal.threshold,
            [(name, name, proposal.roles.get(name, "")) for name in names],
        )

    @staticmethod
    def new_attempt() -> str:
        """A name for an attempt that no other attempt has."""
        return uuid.uuid4().hex

    async def run(self) -> tuple[Gathering, "asyncio.Task[None]"]:
        """Ask the person, gather the guests, and hand the session over."""
        with self._workshop.programs.about(self._proposal, None, self._plan.bundle):
            return await self._run()

    async def _run(self) -> tuple[Gathering, "asyncio.Task[None]"]:
        workshop = self._workshop
        issued = self._reopened() if self._plan.reopen else None
        waived = privacy.facts(self._proposal, {"no_privacy": self._plan.waived})
        facts = {**self._part.facts(), **self._place.facts(), **waived}
        await self._stream.event({"event": "proposal", **consent.describe(self._proposal), **facts})
        answer = await self._stream.answer()
        if not answer.get("consent"):
            raise DidmpcError("Nothing was proposed: you said no.")
        self._sandbox = self._place.agreed(answer)
        if self._plan.places:
            # Before all else: the link is what the person waits for.
            issued = await self._invite(issued)
        began = False
        try:
            async with Gathering.open(workshop, self._attempt, self._inbox, self._stream) as gathering:
                taking_part = await self._gather(issued)
                began = True
                if issued is not None:
                    await self._invitations.end(issued, "begun")
                try:
                    seat = await self._write_manifest(gathering.identity, taking_part)
                except BaseException as error:
                    why = error.what if isinstance(error, DidmpcError) else "The host's command was stopped."
                    if self._reception is not None:
                        await asyncio.shield(self._reception.cancel(why))
                    raise
                parties = list(seat.names)
                shown = consent.describe(self._proposal)
                facts = {**shown, "parties": parties, "m": len(parties), "role": "host"}
                return gathering, await gathering.run(seat, self._stream, facts)
        except BaseException:
            if issued is not None and not began and not self._pausing:
                await asyncio.shield(self._invitations.end(issued, "closed"))
            raise

    async def pause(self) -> None:
        """The agent stops: a lobby with a link stays open for when it is back."""
        if self._plan.places and self._reception is not None:
            self._pausing = True
            await self._reception.pause()

    # -- gathering ----------------------------------------------------------------------------------

    async def _gather(self, issued: Issued | None) -> list[tuple[Peer, Join]]:
        plan, proposal = self._plan, self._proposal
        expires = issued.expires if issued is not None else 1 << 40
        self._proposal = replace(
            proposal,
            lobby=issued.id if issued is not None else "",
            expires=min(expires, int(time.time() + plan.wait + 0.999)),
        )
        keys = [canonical(contact.did) for contact in plan.contacts]
        book = Lobby(
            host=proposal.parties[0],
            contacts=list(zip(keys, proposal.parties[1:], strict=True)),
            places=plan.places,
            least=plan.least or proposal.m,
            confirm=plan.confirm,
            now=time.monotonic(),
        )
        reception = self._reception = Reception(
            *(self._workshop, self._proposal, plan.bundle, book),
            *(dict(zip(keys, plan.contacts, strict=True)), self._inbox, self._stream),
            auto=plan.auto,
        )
        listening = asyncio.create_task(self._listen())
        try:
            with ExitStack() as open_doors:
                if issued is not None:
                    reception.receive(self._door, issued)
                    open_doors.enter_context(self._door.opened(issued, self._inbox))
                return await reception.gather()
        except BaseException as error:
            if plan.stays and isinstance(error, asyncio.CancelledError) and not self._pausing:
                await asyncio.shield(self.pause())
            if not self._pausing:
                why = (
                    error.what if isinstance(error, DidmpcError) else "The host's didmpc command was stopped."
                )
                await asyncio.shield(reception.cancel(why))
            raise
        finally:
            listening.cancel()
            reception.stop()

    async def _listen(self) -> None:
        """What the person says while people gather."""
        while True:
            self._inbox.put_said(await self._stream.answer())

    async def _invite(self, issued: Issued | None) -> Issued:
        """Show the link of the lobby, a new one or the one that is opened again."""
        plan, mailbox = self._plan, self._workshop.mailbox
        if issued is None:
            made = await self._invitations.create(
                expires=plan.wait,
                uses=plan.places,
                attempt=self._attempt,
                about=str(self._proposal.program["title"] or self._proposal.program["entry"])[:120],
                terms=self._terms(),
            )
            issued = self._invitations.get(made["id"])
            assert issued is not None
        local = names_private(mailbox.http_uri or mailbox.websocket_uri)
        await self._stream.event(
            {
                "event": "lobby",
                "url": issued.url,
                "id": issued.id,
                "expires": issued.expires,
                "places": plan.places,
                "local": local,
            }
        )
        return issued

    def _reopened(self) -> Issued:
        """The invitation whose lobby is to be opened again. Raises `LocalMisuse` when it cannot be."""
        issued = self._invitations.named(self._plan.reopen)
        what = f"The link {issued.id[:8]} cannot be opened again."
        fix = "Make a new one: the same command without --reopen."
        if not issued.attempt or not issued.open(time.time()):
            raise LocalMisuse(
                what, why=f"It is {issued.public(time.time())['state']}, or no link to a lobby.", fix=fix
            )
        if self._door.is_open(issued):
            raise LocalMisuse(what, why="Another command of yours gathers people there.", fix=fix)
        if issued.terms != self._terms():
            raise LocalMisuse(
                what, why="It was made for another program, other people or other terms.", fix=fix
            )
        return issued

    def _terms(self) -> str:
        """What a person who has the link was or will be shown, as a hash."""
        shown = replace(self._proposal, expires=0, lobby="", attempt="").body()
        return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()

    # -- manifest -----------------------------------------------------------------------------------

    async def _write_manifest(self, identity: Identity, taking_part: list[tuple[Peer, Join]]) -> Seat:
        plan, workshop = self._plan, self._workshop
        host = Join(
            identity.did,
            self._proposal.parties[0],
            workshop.mailbox.host,
            session=True,
            versions=versions(),
            relay=can_relay(workshop.mailbox),
            role=self._part.wish,
        )
        guests = [join for _, join in taking_part]
        manifest = draft(self._proposal, host, guests, int(time.time()) + 24 * 3600)
        body = {"manifest": b64url(manifest.encode())}
        self._inbox.know(*(party.did for party in manifest.roster))
        message = Message(type=messages.MANIFEST, pthid=self._attempt, body=body)
        await asyncio.gather(
            *(
                workshop.mailbox.send_to_contact(peer, message, timeout=MANIFEST_PATIENCE)
                for peer, _ in taking_part
            )
        )
        return Seat(
            pid=manifest.host,
            identity=identity,
            manifest=manifest,
            bundle=plan.bundle,
            names=tuple(party.name for party in manifest.roster),
            directory=workshop.work(self._attempt),
            output=plan.output,
            sandbox=self._sandbox,
            limits=self._place.limits,
            input=plan.input,
        )


def _listed(host: str, contacts: tuple[Contact, ...]) -> list[str]:
    """Names of contacts in a proposal, none of which is the host's."""
    names = [printable(contact.name) for contact in contacts]
    return [f"{name[:60]}-2" if name.casefold() == host.casefold() else name for name in names]
