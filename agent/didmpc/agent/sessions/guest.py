"""A guest's side of gathering: a proposal is shown, agreed to, and its program fetched by content hash."""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from didmpc.agent.contacts import Contact
from didmpc.agent.program.bundle import Bundle
from didmpc.agent.sessions import bundles
from didmpc.agent.sessions.confinement import Place
from didmpc.agent.sessions.gathering import Gathering, Stream, Workshop
from didmpc.agent.sessions.host import WAITING_EVERY, describe
from didmpc.agent.sessions.inbox import Arrived, Inbox
from didmpc.agent.sessions.parties import can_relay, printable, versions
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.did import same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse, RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.manifest import Manifest, check_against_proposal
from didmpc.protocols.mpc.messages import Join
from didmpc.protocols.mpc.proposal import Proposal

BUNDLE_AGAIN = 20.0
SEND_PATIENCE = 15.0


class Guest:
    """One `didmpc join` from the proposal to the manifest."""

    def __init__(
        self,
        workshop: Workshop,
        proposal: Proposal,
        host: Contact,
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
        self._program = Path(params["program"]) if params.get("program") else None
        self._input = Path(params["input"]) if params.get("input") else None
        self._output = Path(params["output"]) if params.get("output") else None
        self._bundle: Bundle | None = None
        self._assembly = bundles.Assembly(proposal.program)
        self._manifest: Manifest | None = None
        self._pid = -1
        self._missing: list[str] = []
        self._present: set[str] = set()

    async def run(self) -> tuple[Gathering, "asyncio.Task[None]"]:
        """Show the proposal, ask the person, join, and hand the session over."""
        if self._input is not None and not (self._input.is_file() and os.access(self._input, os.R_OK)):
            raise LocalMisuse(
                f"The input {self._input} cannot be read.", fix="Name a file with --input FILE."
            )
        if self._program is not None:
            await self._compare(self._program)
        shown = {**describe(self._proposal), "from": self._host.name, "from_did": self._host.did}
        facts = {"verified": self._host.verified, **self._place.facts()}
        await self._stream.event({"event": "proposal", **shown, **facts})
        answer = await self._stream.answer()
        if not answer.get("consent"):
            await self._decline("policy", "They said no.")
            raise DidmpcError("You declined. Nothing of the program was run.")
        self._sandbox = self._place.agreed(answer)
        async with Gathering.open(
            self._workshop, self._proposal.attempt, self._inbox, self._stream
        ) as gathering:
            try:
                await self._fetch_program(gathering)
                await self._join(gathering)
                seat = await self._wait_for_manifest(gathering)
            except _Cancelled:
                raise
            except BaseException as error:
                await asyncio.shield(self._leave(error))
                raise
            return gathering, await gathering.run(seat, self._stream, {**shown, "role": "guest"})

    async def _compare(self, program: Path) -> None:
        """The joiner's own copy must be what the host proposes, to the byte."""
        own = await asyncio.to_thread(Bundle.collect, program)
        if own.describe() != dict(self._proposal.program):
            differences = own.differences(self._proposal.program)
            await self._decline("program", "Their own copy of the program differs.")
            raise DidmpcError(
                f"The programs differ: {self._host.name} proposes another {self._proposal.program['entry']}.",
                why="; ".join(differences),
                fix=f"Compare your files with {self._host.name}'s, or join without --program to see theirs.",
            )
        self._bundle = own

    async def _join(self, gathering: Gathering) -> None:
        workshop = self._workshop
        join = Join(
            gathering.identity.did,
            printable(workshop.label),
            workshop.mailbox.host,
            session=True,
            versions=versions(),
            relay=can_relay(workshop.mailbox),
        )
        await self._send(messages.JOIN, join.body())
        await self._stream.event({"event": "party", "name": self._host.name, "state": "joined", "why": ""})

    async def _fetch_program(self, gathering: Gathering) -> None:
        """Before the yes: whoever has joined can start at once."""
        ask_again = 0.0
        while self._bundle is None:
            if time.monotonic() >= ask_again:
                await self._send(messages.BUNDLE_REQUEST, {"sha256": self._proposal.program["sha256"]})
                ask_again = time.monotonic() + BUNDLE_AGAIN
            await self._next_message(gathering, until=ask_again)

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
        names[0] = self._host.name
        return Seat(
            pid=self._pid,
            identity=gathering.identity,
            manifest=self._manifest,
            bundle=self._bundle,
            names=tuple(names),
            directory=self._workshop.work(self._proposal.attempt),
            output=self._output,
            sandbox=self._sandbox,
            input=self._input,
        )

    async def _next_message(self, gathering: Gathering, until: float) -> None:
        """Take what the host says next, if it says something before `until`; raises when the wait is over."""
        now = time.monotonic()
        if now >= self._deadline:
            raise self._too_late()
        with contextlib.suppress(TimeoutError):
            event = await self._inbox.next(max(0.0, min(until, self._deadline) - now))
            if not isinstance(event, Arrived):
                return
            if same_party(event.sender, self._host.did):
                await self._take(event.message, gathering)
            else:  # another guest that had the manifest before us
                self._inbox.set_aside(event)

    async def _take(self, message: Message, gathering: Gathering) -> None:
        try:
            if message.type == messages.BUNDLE and self._bundle is None:
                self._bundle = self._assembly.take(message)
            elif message.type == messages.MANIFEST:
                manifest = Manifest.decode(messages.octets(message.body, "manifest", 1 << 20))
                self._pid = check_against_proposal(manifest, self._proposal, gathering.identity.did)
                self._manifest = manifest
                await self._stream.event({"event": "all-joined"})
            elif message.type == messages.GATHERING:
                await self._take_gathering(message)
            elif message.type == messages.CANCEL:
                comment = messages.text(message.body, "comment", default="")
                raise _Cancelled(
                    f"{self._host.name} ended the session before it began.",
                    why=comment,
                    fix="Wait for the next proposal:  didmpc join",
                )
        except RemoteViolation as error:
            raise DidmpcError(
                f"{self._host.name} does not keep to the proposal: {error.what}", why=error.why, fix=error.fix
            ) from error

    async def _take_gathering(self, message: Message) -> None:
        present = set(messages.names(message.body, "present"))
        self._missing = list(messages.names(message.body, "missing"))
        ours = {printable(self._workshop.label), self._proposal.parties[0]}
        for name in sorted(present - self._present - ours):
            await self._stream.event({"event": "party", "name": name, "state": "joined", "why": ""})
        for name in sorted(self._present - present):
            await self._stream.event({"event": "party", "name": name, "state": "left", "why": ""})
        self._present = present
        await self._show_waiting()

    async def _show_waiting(self) -> None:
        left = max(0, int(self._deadline - time.monotonic()))
        missing = self._missing or [self._host.name]
        await self._stream.event({"event": "waiting", "for": missing, "seconds_left": left})

    def _too_late(self) -> DidmpcError:
        missing = " and ".join(self._missing or [self._host.name])
        return DidmpcError(
            f"{missing} did not come in time.",
            why="The wait is over (--wait).",
            fix="Wait again:  didmpc join --wait SECONDS",
        )

    # -- sending ------------------------------------------------------------------------------------

    async def _send(self, kind: str, body: Mapping[str, Any]) -> None:
        message = Message(type=kind, pthid=self._proposal.attempt, body=dict(body))
        await self._workshop.mailbox.send_to_contact(self._host, message, timeout=SEND_PATIENCE)

    async def _decline(self, code: str, comment: str) -> None:
        with contextlib.suppress(DidmpcError):
            await self._send(messages.DECLINE, {"code": code, "comment": comment})

    async def _leave(self, error: BaseException) -> None:
        comment = error.what if isinstance(error, DidmpcError) else "Their didmpc command was stopped."
        with contextlib.suppress(DidmpcError, TimeoutError):
            async with asyncio.timeout(4):
                await self._send(messages.LEAVE, {"comment": messages.sentence(comment)})


class _Cancelled(DidmpcError):
    """The host has ended it: there is nobody to take leave of."""
