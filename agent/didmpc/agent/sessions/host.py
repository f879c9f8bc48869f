"""The host's side of gathering: propose, gather who was asked and who comes by a link, write the manifest.

Events while people gather, at the host and (those marked *) at each guest alike:

    lobby       url, long_url, id, expires, places, local: the link for `places` people who are no contacts;
                `local`: its mediator is on this machine, and so must they be
    party *     one step of one party: name, state, why, mediator, rtt_ms, by ("contact" or "link");
                state: asked, unreachable, knocking (is the host to let it in?), deciding, joined, away (not
                heard of), back, left, declined, refused, replaced; of the host also offline, pausing
    gathering * the whole picture, at each change and every 2 s: parties, free (places of the link that nobody
                has), m, least, ready (the host may begin now), complete, seconds_left.
                parties: the host first, each with name, state (asked, knocking, deciding, joined; of the host
                here, offline, pausing), mediator, rtt_ms (from the host), away, by, you
    waiting *   for, seconds_left: the same in one line
    all-joined* the manifest is written

What the host may say meanwhile: {"start": true}, {"admit": NAME}, {"refuse": NAME}.
"""

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from didmpc.agent.contacts import Contact, Contacts
from didmpc.agent.program.arguments import check_arguments
from didmpc.agent.program.bundle import Bundle
from didmpc.agent.sessions import bundles
from didmpc.agent.sessions.confinement import Place
from didmpc.agent.sessions.gathering import Gathering, Stream, Workshop
from didmpc.agent.sessions.inbox import Arrived, Inbox
from didmpc.agent.sessions.parties import can_relay, printable, versions
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.did import canonical
from didmpc.protocols.encoding import b64url
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError, RemoteViolation
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages, terms
from didmpc.protocols.mpc.manifest import OPTIONS, Manifest, check_versions
from didmpc.protocols.mpc.messages import Join
from didmpc.protocols.mpc.proposal import Proposal

# A proposal is told again so often, in seconds, to a guest that did not answer: its agent may have restarted.
REMIND_EVERY = 20.0
WAITING_EVERY = 10.0
SEND_PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the person asked for, checked."""

    bundle: Bundle
    arguments: tuple[str, ...]
    contacts: tuple[Contact, ...]
    threshold: int
    free_threshold: bool
    mode: str
    wire: str
    wait: float
    resume_limit: int
    input: Path | None
    output: Path | None

    @classmethod
    async def of(cls, params: Mapping[str, Any], contacts: Contacts) -> "Plan":
        """Check the parameters of `run`; raises `LocalMisuse` with what to do instead."""
        arguments = _arguments(params)
        guests = _guests(params.get("with"), contacts)
        m = 1 + len(guests)
        threshold = params.get("threshold")
        threshold = (m - 1) // 2 if threshold is None else int(threshold)
        if not 0 <= 2 * threshold < m:
            raise LocalMisuse(
                f"A threshold of {threshold} is not possible with {m} parties.",
                why=f"MPyC needs an honest majority: at most {(m - 1) // 2} of {m} may work together.",
                fix=f"Use --threshold {(m - 1) // 2}, or more parties.",
            )
        own_input = Path(params["input"]) if params.get("input") else None
        if own_input is not None and not (own_input.is_file() and os.access(own_input, os.R_OK)):
            raise LocalMisuse(f"The input {own_input} cannot be read.", fix="Name a file with --input FILE.")
        bundle = await asyncio.to_thread(Bundle.collect, Path(params["program"]))
        return cls(
            bundle=bundle,
            arguments=arguments,
            contacts=guests,
            threshold=threshold,
            free_threshold=bool(params.get("free_threshold")),
            mode=params.get("mode") or "session",
            wire=params.get("wire") or "binary",
            wait=float(params["wait"]),
            resume_limit=_resume_limit(params.get("resume_limit")),
            input=own_input,
            output=Path(params["output"]) if params.get("output") else None,
        )


def _arguments(params: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        arguments = messages.arguments({"arguments": params.get("arguments") or []})
    except MessageError as problem:
        raise LocalMisuse("These arguments cannot be proposed.", why=problem.what) from None
    check_arguments(list(arguments))
    return arguments


def _resume_limit(given: Any) -> int:
    least, most = terms.RESUME_LIMITS
    seconds = terms.RESUME_LIMIT if given is None else int(given)
    if not least <= seconds <= most:
        raise LocalMisuse(
            f"A run cannot wait {seconds} s for a party that stopped answering.",
            fix=f"Use --resume-limit with {least} to {most} seconds.",
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
        self, workshop: Workshop, plan: Plan, place: Place, inbox: Inbox, attempt: str, stream: Stream
    ) -> None:
        self._workshop = workshop
        self._plan = plan
        self._place = place
        self._sandbox = place.choice.mechanism
        self._inbox = inbox
        inbox.know(*(contact.did for contact in plan.contacts))
        self._attempt = attempt
        self._stream = stream
        self._joined: dict[str, Join] = {}
        self._unreachable: dict[str, str] = {}
        self._parts: list[Message] | None = None
        self._serving: set[str] = set()  # to whom the program is on its way
        self._sending: set[asyncio.Task[None]] = set()
        self._deadline = time.monotonic() + plan.wait
        self._proposal = Proposal(
            attempt=attempt,
            program=plan.bundle.describe(),
            arguments=plan.arguments,
            parties=(printable(workshop.label), *(printable(contact.name) for contact in plan.contacts)),
            threshold=plan.threshold,
            free_threshold=plan.free_threshold,
            mode=plan.mode,
            wire=plan.wire,
            resume_limit=plan.resume_limit,
            expires=int(time.time() + plan.wait),
        )

    @staticmethod
    def new_attempt() -> str:
        """A name for an attempt that no other attempt has."""
        return uuid.uuid4().hex

    async def run(self) -> tuple[Gathering, "asyncio.Task[None]"]:
        """Ask the person, gather the guests, and hand the session over."""
        plan, workshop = self._plan, self._workshop
        await self._stream.event({"event": "proposal", **describe(self._proposal), **self._place.facts()})
        answer = await self._stream.answer()
        if not answer.get("consent"):
            raise DidmpcError("Nothing was proposed: you said no.")
        self._sandbox = self._place.agreed(answer)
        async with Gathering.open(workshop, self._attempt, self._inbox, self._stream) as gathering:
            self._deadline = time.monotonic() + plan.wait
            try:
                await self._gather()
                seat = await self._write_manifest(gathering.identity)
            except BaseException as error:
                await asyncio.shield(self._cancel(error))
                raise
            finally:
                for task in self._sending:
                    task.cancel()
            facts = {**describe(self._proposal), "role": "host"}
            return gathering, await gathering.run(seat, self._stream, facts)

    # -- gathering ----------------------------------------------------------------------------------

    @property
    def _missing(self) -> list[str]:
        return [contact.name for contact in self._plan.contacts if contact.name not in self._joined]

    async def _gather(self) -> None:
        self._propose(self._missing)
        remind = time.monotonic() + REMIND_EVERY
        show = time.monotonic() + WAITING_EVERY
        while self._missing:
            now = time.monotonic()
            if now >= self._deadline:
                raise self._too_late()
            if now >= remind:
                self._propose(self._missing)
                remind = now + REMIND_EVERY
            if now >= show:
                await self._show_waiting()
                show = now + WAITING_EVERY
            with contextlib.suppress(TimeoutError):
                event = await self._inbox.next(min(self._deadline, remind, show) - now)
                if isinstance(event, Arrived):
                    await self._take(event)
        await self._stream.event({"event": "all-joined"})

    def _propose(self, names: list[str]) -> None:
        message = Message(type=messages.PROPOSE, body=self._proposal.body())
        for contact in self._plan.contacts:
            if contact.name in names:
                self._in_background(self._propose_to(contact, message))

    async def _propose_to(self, contact: Contact, message: Message) -> None:
        try:
            await self._send(contact, message)
        except DidmpcError as error:
            known, self._unreachable[contact.name] = self._unreachable.get(contact.name), error.what
            if known != error.what:
                await self._party(contact.name, "unreachable", error.what)
        else:
            if self._unreachable.pop(contact.name, "") is not None and contact.name not in self._joined:
                await self._party(contact.name, "asked")

    async def _take(self, event: Arrived) -> None:
        contact = self._contact_of(event.sender)
        if contact is None:
            return
        message = event.message
        if message.type == messages.JOIN:
            try:
                join = Join.of(message.body)
            except RemoteViolation as error:
                raise DidmpcError(
                    f"{contact.name} answered with something unexpected.", why=error.what
                ) from error
            self._joined[contact.name] = replace(join, name=printable(contact.name))
            await self._party(contact.name, "joined")
            self._tell_guests()
        elif message.type == messages.DECLINE:
            why = messages.text(message.body, "comment", default="")
            await self._party(contact.name, "declined", why)
            raise DidmpcError(
                f"{contact.name} declined{': ' + why if why else '.'}",
                fix=f"Start again without {contact.name}, or talk to them first.",
            )
        elif message.type == messages.LEAVE:
            if self._joined.pop(contact.name, None) is not None:
                await self._party(contact.name, "left", messages.text(message.body, "comment", default=""))
                self._tell_guests()
        elif message.type == messages.BUNDLE_REQUEST:
            self._serve_bundle(contact, message)

    def _serve_bundle(self, contact: Contact, message: Message) -> None:
        """Send the program, once at a time to each guest however often it asks."""
        ours = message.body.get("sha256") == self._plan.bundle.sha256
        if ours and contact.name not in self._serving:
            self._serving.add(contact.name)
            self._in_background(self._send_bundle(contact))

    def _contact_of(self, sender: str) -> Contact | None:
        for contact in self._plan.contacts:
            if canonical(contact.did) == canonical(sender):
                return contact
        return None

    async def _send_bundle(self, contact: Contact) -> None:
        try:
            if self._parts is None:
                self._parts = await asyncio.to_thread(bundles.parts, self._plan.bundle, self._attempt)
            for part in self._parts:
                await self._send(contact, part)
        except DidmpcError:
            return  # the guest asks again
        finally:
            self._serving.discard(contact.name)

    def _tell_guests(self) -> None:
        body = {"present": [self._proposal.parties[0], *self._joined], "missing": self._missing}
        for contact in self._plan.contacts:
            if contact.name in self._joined:
                message = Message(type=messages.GATHERING, pthid=self._attempt, body=body)
                self._in_background(self._quietly(contact, message))

    async def _show_waiting(self) -> None:
        left = max(0, int(self._deadline - time.monotonic()))
        await self._stream.event({"event": "waiting", "for": self._missing, "seconds_left": left})

    async def _party(self, name: str, state: str, why: str = "") -> None:
        await self._stream.event({"event": "party", "name": name, "state": state, "why": why})

    def _too_late(self) -> DidmpcError:
        missing = " and ".join(self._missing)
        unreachable = [self._unreachable[name] for name in self._missing if name in self._unreachable]
        return DidmpcError(
            f"{missing} did not join within {self._plan.wait:.0f} s.",
            why=unreachable[0]
            if unreachable
            else "The proposal reached their mediator, but nobody answered it.",
            fix="Ask them to type:  didmpc join     and start again.",
        )

    # -- manifest -----------------------------------------------------------------------------------

    async def _write_manifest(self, identity: Identity) -> Seat:
        plan, workshop = self._plan, self._workshop
        host = Join(
            identity.did,
            self._proposal.parties[0],
            workshop.mailbox.host,
            session=True,
            versions=versions(),
            relay=can_relay(workshop.mailbox),
        )
        roster = (host, *(self._joined[contact.name] for contact in plan.contacts))
        check_versions(roster)
        for party in roster:
            if plan.mode == "session" and not party.session:
                raise DidmpcError(
                    f"{party.name} cannot use the session extension.",
                    why="Their side does not speak it.",
                    fix="Run with --mode auto, which uses plain DIDComm messages where it must.",
                )
        manifest = Manifest(
            attempt=self._attempt,
            program=self._proposal.program,
            arguments=plan.arguments,
            threshold=plan.threshold,
            free_threshold=plan.free_threshold,
            mode=plan.mode,
            wire=plan.wire,
            resume_limit=plan.resume_limit,
            options=OPTIONS,
            roster=roster,
            expires=int(time.time()) + 24 * 3600,
        )
        body = {"manifest": b64url(manifest.encode())}
        self._inbox.know(*(party.did for party in roster))
        message = Message(type=messages.MANIFEST, pthid=self._attempt, body=body)
        await asyncio.gather(*(self._send(contact, message) for contact in plan.contacts))
        return Seat(
            pid=0,
            identity=identity,
            manifest=manifest,
            bundle=plan.bundle,
            names=self._proposal.parties,
            directory=workshop.work(self._attempt),
            output=plan.output,
            sandbox=self._sandbox,
            input=plan.input,
        )

    # -- sending ------------------------------------------------------------------------------------

    async def _send(self, contact: Contact, message: Message) -> None:
        await self._workshop.mailbox.send_to_contact(contact, message, timeout=SEND_PATIENCE)

    async def _quietly(self, contact: Contact, message: Message) -> None:
        with contextlib.suppress(DidmpcError):
            await self._send(contact, message)

    async def _cancel(self, error: BaseException) -> None:
        comment = error.what if isinstance(error, DidmpcError) else "The host's didmpc command was stopped."
        message = Message(
            type=messages.CANCEL, pthid=self._attempt, body={"comment": messages.sentence(comment)}
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(4):
                await asyncio.gather(*(self._quietly(contact, message) for contact in self._plan.contacts))

    def _in_background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


def describe(proposal: Proposal) -> dict[str, Any]:
    """A proposal as it is shown to a person."""
    program = proposal.program
    return {
        "attempt": proposal.attempt,
        "title": program["title"],
        "program": program["entry"],
        "sha256": program["sha256"],
        "lines": program["lines"],
        "files": program["files"],
        "arguments": list(proposal.arguments),
        "m": len(proposal.parties),
        "threshold": proposal.threshold,
        "free_threshold": proposal.free_threshold,
        "private_unless": proposal.threshold + 1,
        "parties": list(proposal.parties),
        "mode": proposal.mode,
        "wire": proposal.wire,
        "resume_limit": proposal.resume_limit,
    }
